"""Distinct types for the numbers that name processes and their places.

Absence is None, never 0 or -1.
"""

from typing import NewType

Pid = NewType("Pid", int)
Slot = NewType("Slot", int)  # a child slot of the postmaster, counted from 1 (PMChild.child_slot)
WorkerNumber = NewType("WorkerNumber", int)  # a background worker's index in the postmaster's list
ProcNumber = NewType("ProcNumber", int)  # a PGPROC, and its row of pg_stat_activity
