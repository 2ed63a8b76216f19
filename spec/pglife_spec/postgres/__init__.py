"""PostgreSQL's postmaster and its children as one machine.

Begin with   words.py for the values, state.py for the variables, then the actions in the order of a
             server's life: birth.py, admission.py, children.py, requests.py, reaping.py,
             state_machine.py. claims.py and properties.py say what must hold.
Owns         what PostgreSQL 15 and 18 do, defects included; repairs are switches, off by default.
Leaves out   standby servers, archiver, walsenders and autovacuum workers, for now.
"""
