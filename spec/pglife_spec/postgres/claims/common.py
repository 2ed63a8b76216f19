"""Conditions that several claims and properties speak of.

Begin with   PENDING, IMMEDIATE, GONE.
"""

from __future__ import annotations

from pglife_spec.postgres.state import EXIT, SHUTDOWN
from pglife_spec.postgres.words import PM, Exit, Shutdown

PENDING = SHUTDOWN != Shutdown.NoShutdown
IMMEDIATE = SHUTDOWN == Shutdown.ImmediateShutdown
GONE = EXIT != Exit.ALIVE
NORMAL_LATE = (
    PM.PM_SHUTDOWN,
    PM.PM_WAIT_XLOG_SHUTDOWN,
    PM.PM_SHUTDOWN_2,
    PM.PM_WAIT_XLOG_ARCHIVAL,
    PM.PM_WAIT_IO_WORKERS,
    PM.PM_WAIT_CHECKPOINTER,
)
