"""The variables of the machine, each with its initial value.

`postmaster.py` has the postmaster's own, `children.py` the children's, `shared.py` those in shared
memory and on disk, `history.py` those that only record what happened, for claims to read.
"""
