"""decide(): one event in, the next state and a list of requests out. Nothing else happens here.

Begin with   decide().
Owns         which module answers which event.
Leaves out   the answers, and everything that touches the world (perform.py).
Source       postmaster.c: ServerLoop(); rule SL-01.
"""

from __future__ import annotations

from pglife_impl.base.kinds import Kind
from pglife_impl.base.words import Level
from pglife_impl.postmaster import admit, launch, reaping, shutdown, state_machine
from pglife_impl.postmaster.events import (
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
from pglife_impl.postmaster.state import Config, PmState
from pglife_impl.postmaster.step import Step

LOCK_FILE_LOST = "performing immediate shutdown because data directory lock file is invalid"


def decide(pm: PmState, event: Event, config: Config) -> tuple[PmState, list[Request]]:
    """What the postmaster becomes by this event, and what it wants done, in order."""
    step = Step(pm, config, getattr(event, "now", 0.0))
    match event:
        case TurnEnded():
            launch.turn_ended(step)
        case ConnectionArrived():
            admit.connection_arrived(step)
        case Forked():
            launch.forked(step, event)
        case ForkFailed():
            launch.fork_failed(step, event)
        case ChildExited():
            reaping.child_exited(step, event)
        case ReapingDone():
            state_machine.run(step)
        case PmSignalsSeen():
            shutdown.pmsignals_seen(step, event)
        case ShutdownRequested():
            step.log(Level.DEBUG2, "postmaster received shutdown request signal")
            shutdown.shutdown_requested(step, event.level)
        case ReloadRequested():
            shutdown.reload_requested(step)
        case LockFileLost():
            step.log(Level.LOG, LOCK_FILE_LOST)
            step.ask(QuitMyself())
        case LoggerWanted():
            launch.follow_plan(step, (Kind.LOGGER,))
        case Born():
            launch.born(step)
    return step.pm, step.requests
