"""The safety claims: what is true in every state that the machine can reach.

`postmaster.py` has claims about the postmaster's own variables, `children.py` about children,
shared memory and files. Where a real release breaks a claim, the condition says under which repair
it holds, and `exception` says how it is broken.
"""

from pglife_spec.postgres.claims import children, postmaster

CLAIMS = (*postmaster.CLAIMS, *children.CLAIMS)

__all__ = ["CLAIMS"]
