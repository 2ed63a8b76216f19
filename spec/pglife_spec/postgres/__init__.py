"""PostgreSQL's postmaster and its children as one machine, with the defects that releases have.

Begin with `words/` for kinds, releases and the values of variables, and `state/` for the variables;
then the actions in the order of a server's life: `actions/launch.py`, `admission.py`, `children/`,
`actions/requests.py`, `reaping.py`, `state_machine.py`. `claims/` and `properties.py` say what must
hold; `build.py` puts all together.

Not modelled yet: standby servers, archiver, walsenders and autovacuum workers.
"""
