"""decide(): one event in, the next state and a list of requests out. Nothing else happens here.

Begin with   decide().
Owns         which module answers which event.
Leaves out   the answers, and everything that touches the world (perform.py).
Source       postmaster.c: ServerLoop(); rule SL-01.
"""

from __future__ import annotations

from . import pm_admit, pm_launch, pm_machine, pm_reap, pm_shutdown
from .kinds import Kind
from .pm_events import (
    Born,
    ChildExited,
    ConnectionArrived,
    Event,
    Forked,
    ForkFailed,
    LockFileLost,
    LoggerWanted,
    PmSignalsSeen,
    QuitMyself,
    ReapingDone,
    ReloadRequested,
    Request,
    ShutdownRequested,
    TurnEnded,
)
from .pm_state import Config, PmState
from .pm_step import Step
from .words import Level

LOCK_FILE_LOST = "performing immediate shutdown because data directory lock file is invalid"


def decide(pm: PmState, event: Event, config: Config) -> tuple[PmState, list[Request]]:
    """What the postmaster becomes by this event, and what it wants done, in order."""
    step = Step(pm, config, getattr(event, "now", 0.0))
    match event:
        case TurnEnded():
            pm_launch.turn_ended(step)
        case ConnectionArrived():
            pm_admit.connection_arrived(step)
        case Forked():
            pm_launch.forked(step, event)
        case ForkFailed():
            pm_launch.fork_failed(step, event)
        case ChildExited():
            pm_reap.child_exited(step, event)
        case ReapingDone():
            pm_machine.run(step)
        case PmSignalsSeen():
            pm_shutdown.pmsignals_seen(step, event)
        case ShutdownRequested():
            step.log(Level.DEBUG2, "postmaster received shutdown request signal")
            pm_shutdown.shutdown_requested(step, event.level)
        case ReloadRequested():
            pm_shutdown.reload_requested(step)
        case LockFileLost():
            step.log(Level.LOG, LOCK_FILE_LOST)
            step.ask(QuitMyself())
        case LoggerWanted():
            pm_launch.follow_plan(step, (Kind.LOGGER,))
        case Born():
            pm_launch.born(step)
    return step.pm, step.requests
