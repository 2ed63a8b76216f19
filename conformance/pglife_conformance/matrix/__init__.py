"""The matrix: every state of the postmaster that can be held, times every event.

Begin with   rules.py (what must happen), states.py (how a state is entered), events.py (what is
             done), cell.py (one cell: enter, freeze, act, compare, let go, compare again).
Owns         expectations computed from the rules by a few lines a rule, not by the model.
Leaves out   what needs a standby or an archiver on targets that have none.
Source       rules TR18-01..35, TR15-04..26, SM-01..13, RP-10..29, SH-01..28.
"""
