"""Conditions that claims in several files use."""

from pglife_spec.lang.expr import Expr
from pglife_spec.lang.watch import before, noted, seen
from pglife_spec.postgres.state.children import COUNT, LIFE
from pglife_spec.postgres.words import PM, Kind, Life
from pglife_spec.postgres.words.parameters import FORK_FAULTS
from pglife_spec.postgres.words.releases import Feature, has
from pglife_spec.postgres.words.repairs import (
    REPAIR_CRASH_IN_CRASH_STARTUP,
    REPAIR_STARTUP_FORK_FAILURE,
)

STATES_15 = (PM.PM_SHUTDOWN, PM.PM_SHUTDOWN_2)
STATES_18 = (
    PM.PM_WAIT_XLOG_SHUTDOWN,
    PM.PM_WAIT_XLOG_ARCHIVAL,
    PM.PM_WAIT_IO_WORKERS,
    PM.PM_WAIT_CHECKPOINTER,
)
#: Where a shutdown without a crash waits, from the shutdown checkpoint on.
CHECKPOINT_STATES = (*STATES_15, *STATES_18)
#: A crash in the PM_STARTUP after a crash is handled as one: by 15, and by the repair.
NEW_CRASH = ~has(Feature.HANDLE_FATAL_ERROR) | REPAIR_CRASH_IN_CRASH_STARTUP
#: Where a startup process that cannot be forked does not end the postmaster at once.
FORKS = REPAIR_STARTUP_FORK_FAILURE | ~FORK_FAULTS

#: The states that a step goes through, by its own word; 15 has them too, but does not log them.
THROUGH = {state: noted(f"through {state.name}", seen("pmstate", None, state.name)) for state in PM}
AT_TARGET = noted("at target", seen("log", "shutdown at recovery target"))
NO_FORK = noted("no startup", seen("log", 'could not fork "startup" process'))


def reaped(kind: Kind, life: Life) -> Expr:
    """Whether the step deletes the record of such a child."""
    if kind in LIFE:
        return (before(LIFE[kind]) == life) & (LIFE[kind] == Life.ABSENT)
    return before(COUNT[kind, life]) > COUNT[kind, life]
