"""Numbers that are not counts: of processes, io workers, clients and slots."""

from typing import NewType

Pid = NewType("Pid", int)
"""A process id."""
WorkerNumber = NewType("WorkerNumber", int)
"""The number of an io worker, as its title shows it."""
ClientNumber = NewType("ClientNumber", int)
"""The number of a client of one cluster, from 1 on."""
