"""The safety claims: what holds in every state that the machine can reach.

Begin with   postmaster.py, then family.py.
Owns         their order, which is that of the invariants in section 11.
"""

from pglife_spec.postgres.claims import family, postmaster

CLAIMS = (*postmaster.CLAIMS, *family.CLAIMS)

__all__ = ["CLAIMS"]
