"""The safety claims: what is true in every state that the machine can reach.

`postmaster.py` has claims about the postmaster's own variables, `children.py` about children,
shared memory and files, `memory.py` about requests, flags and the control file, `lives.py` about
the life of each kind, `after_wal.py` about archiver, walsenders and WAL summarizer, `standby.py`
about archive recovery, `workers.py` about background workers, `autovacuum.py` about autovacuum;
`evidence.py` and `signals.py` about the log lines, forks and signals of each step, `steps.py` about
what it changes. Where a real release breaks a claim, the condition says under which repair it
holds, and `exception` says how it is broken.
"""

from dataclasses import replace

from pglife_spec.postgres.claims import (
    after_wal,
    autovacuum,
    children,
    evidence,
    lives,
    memory,
    postmaster,
    signals,
    standby,
    steps,
    workers,
)
from pglife_spec.postgres.claims.explored_only import EXPLORED_ONLY

_DECLARED = (
    *postmaster.CLAIMS,
    *children.CLAIMS,
    *memory.CLAIMS,
    *lives.CLAIMS,
    *after_wal.CLAIMS,
    *standby.CLAIMS,
    *workers.CLAIMS,
    *autovacuum.CLAIMS,
)
CLAIMS = tuple(replace(each, explored_only=each.name in EXPLORED_ONLY) for each in _DECLARED)
WATCHES = (*evidence.WATCHES, *signals.WATCHES, *steps.WATCHES)

__all__ = ["CLAIMS", "WATCHES"]
