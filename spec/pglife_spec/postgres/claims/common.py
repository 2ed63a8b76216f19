"""Conditions that claims in both files use."""

from pglife_spec.postgres.words import PM
from pglife_spec.postgres.words.parameters import FORK_FAULTS
from pglife_spec.postgres.words.repairs import REPAIR_STARTUP_FORK_FAILURE

STATES_15 = (PM.PM_SHUTDOWN, PM.PM_SHUTDOWN_2)
STATES_18 = (
    PM.PM_WAIT_XLOG_SHUTDOWN,
    PM.PM_WAIT_XLOG_ARCHIVAL,
    PM.PM_WAIT_IO_WORKERS,
    PM.PM_WAIT_CHECKPOINTER,
)
#: Where a shutdown without a crash waits, from the shutdown checkpoint on.
CHECKPOINT_STATES = (*STATES_15, *STATES_18)
#: Where a startup process that cannot be forked does not end the postmaster at once.
FORKS = REPAIR_STARTUP_FORK_FAILURE | ~FORK_FAULTS
