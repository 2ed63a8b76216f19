"""The safety claims: what is true in every state that the machine can reach.

`postmaster.py` has claims about the postmaster's own variables, `children.py` about children,
shared memory and files, `after_wal.py` about archiver, walsenders and WAL summarizer. Where a real
release breaks a claim, the condition says under which repair it holds, and `exception` says how it
is broken.
"""

from pglife_spec.postgres.claims import after_wal, children, postmaster

CLAIMS = (*postmaster.CLAIMS, *children.CLAIMS, *after_wal.CLAIMS)

__all__ = ["CLAIMS"]
