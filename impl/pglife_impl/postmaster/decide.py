"""decide(): one event in, requests and the next state out. No system call happens here.

Begin with decide(); carry_out() is how a loop or a test drives it.

Source: postmaster.c: ServerLoop(); rule SL-01.
"""

from collections.abc import Callable

from pglife_impl.base.kinds import Kind
from pglife_impl.base.words import Level
from pglife_impl.postmaster import admit, launch, reaping, shutdown, state_machine
from pglife_impl.postmaster.events import (
    ChildExited,
    ConnectionArrived,
    Event,
    Initialized,
    IterationEnded,
    LockFileLost,
    LoggerWanted,
    PmSignalsSeen,
    ReapingDone,
    ReloadRequested,
    ShutdownRequested,
)
from pglife_impl.postmaster.requests import ForkOutcome, QuitMyself, Request
from pglife_impl.postmaster.state import Config, PmState
from pglife_impl.postmaster.step import Deciding, Step

LOCK_FILE_LOST = "performing immediate shutdown because data directory lock file is invalid"


def decide(pm: PmState, event: Event, config: Config, now: float) -> Deciding[PmState]:
    """Yield what the postmaster must do about an event, in order, and return its next state.

    Args:
        pm: the state, which is not changed.
        now: the time, in Unix seconds.
    """
    step = Step(pm.copy(), config, now)
    match event:
        case LoggerWanted():
            yield from launch.launch_missing(step, (Kind.LOGGER,))
        case Initialized():
            yield from launch.initialized(step)
        case IterationEnded():
            yield from launch.iteration_ended(step)
        case ConnectionArrived():
            yield from admit.connection_arrived(step, event.client)
        case ChildExited():
            yield from reaping.child_exited(step, event)
        case ReapingDone():
            yield from state_machine.run(step)
        case PmSignalsSeen():
            yield from shutdown.pmsignals_seen(step, event)
        case ShutdownRequested():
            yield from shutdown.shutdown_requested(step, event.mode)
        case ReloadRequested():
            shutdown.reload_requested(step)
        case LockFileLost():
            step.log(Level.LOG, LOCK_FILE_LOST)
            step.ask(QuitMyself())
    yield from step.flush()
    return step.pm


def carry_out(
    decision: Deciding[PmState], perform: Callable[[Request], ForkOutcome | None]
) -> PmState:
    """Perform each request of a decision, and send the outcome back.

    Returns:
        The next state of the postmaster.
    """
    outcome: ForkOutcome | None = None
    while True:
        try:
            request = decision.send(outcome)
        except StopIteration as end:
            after: PmState = end.value
            return after
        outcome = perform(request)
