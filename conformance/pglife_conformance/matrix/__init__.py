"""The matrix: every state of the postmaster that can be held, times every event.

rules.py computes what must be seen, states.py enters a state, events.py acts, and cell.py plays one
cell: enter, stop all children, act, compare, continue all children, compare again. The rules stand
here apart from the model, since the model has no standby and no archiver; a test of the suite
compares both in every other cell.

Source: rules TR18-01..35, TR15-04..26, SM-01..13, RP-10..29, SH-01..28.
"""
