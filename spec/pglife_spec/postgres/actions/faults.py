"""What may go wrong from outside: deaths at any moment, stray signals, a fork that fails.

Begin with   child_crashes; every other action here is a way of a child to end that nobody ordered.
Owns         the environment's faults and an operator's signals to single children (3.3).
"""

from __future__ import annotations

from pglife_spec.lang.declare import Step, action
from pglife_spec.lang.expr import in_
from pglife_spec.lang.machine import Actor, when
from pglife_spec.postgres.state import (
    ALIVE_LIVES,
    COUNT,
    FORK_FAILS,
    FORK_FAULTS,
    LIFE,
    SCARCE,
    STRAY_SIGNALS,
    V18,
)
from pglife_spec.postgres.words import COUNTED, SINGLETONS, Kind, Life

_COUNTED_ALIVE = tuple(
    (kind, life) for kind in COUNTED for life in (Life.RUNNING, Life.TERMINATING, Life.QUITTING)
)


@action(Actor.FAULT, "any", "CR-01", "CR-63", "SG-40", kind=SINGLETONS)
def child_crashes(kind: Kind) -> Step:
    """A child dies by a signal or with an exit code that means a crash, at any moment."""
    return Step(
        when=[in_(LIFE[kind], *ALIVE_LIVES)],
        then=[LIFE[kind].becomes(Life.CRASHED)],
    )


@action(
    Actor.FAULT,
    "any",
    "CR-01",
    "CR-46",
    "CR-47",
    "MM-31",
    kind=COUNTED,
    life=(Life.RUNNING, Life.TERMINATING, Life.QUITTING),
)
def one_of_many_crashes(kind: Kind, life: Life) -> Step:
    """One of the children that come in numbers dies badly, at any moment."""
    count, crashed = COUNT[kind, life], COUNT[kind, Life.CRASHED]
    return Step(
        when=[count >= 1],
        then=[count.becomes(count - 1), crashed.becomes(crashed + 1)],
    )


@action(Actor.FAULT, "startup.c: StartupProcessMain()", "PR-20", "RC-21")
def startup_fails() -> Step:
    """The startup process gives up with FATAL: exit code 1."""
    startup = LIFE[Kind.STARTUP]
    return Step(
        when=[in_(startup, Life.RUNNING, Life.TERMINATING)],
        then=[startup.becomes(Life.EXITED_1)],
    )


@action(
    Actor.OPERATOR,
    "any",
    "SG-12",
    "SG-13",
    "SG-15",
    "SG-22",
    kind=(Kind.BG_WRITER, Kind.WAL_WRITER, Kind.AUTOVAC_LAUNCHER, Kind.BG_WORKER),
)
def background_process_is_terminated(kind: Kind) -> Step:
    """Somebody sends SIGTERM to a single background process; it ends and is replaced."""
    return Step(
        when=[LIFE[kind] == Life.RUNNING],
        then=[LIFE[kind].becomes(Life.TERMINATING)],
    )


@action(Actor.OPERATOR, "storage/aio/method_worker.c: IoWorkerMain()", "SG-20", "IO-05")
def io_worker_is_terminated() -> Step:
    """Somebody sends SIGINT or SIGUSR2 to an io worker, or it fails with exit code 1."""
    running = COUNT[Kind.IO_WORKER, Life.RUNNING]
    told = COUNT[Kind.IO_WORKER, Life.TERMINATING]
    return Step(
        when=[running >= 1],
        then=[running.becomes(running - 1), told.becomes(told + 1)],
    )


@action(Actor.OPERATOR, "checkpointer.c: CheckpointerMain()", "SG-11", "CK-07")
def checkpointer_gets_stray_sigusr2() -> Step:
    """SIGUSR2 by hand: 18 exits without a checkpoint; 15 writes the shutdown checkpoint first."""
    checkpointer = LIFE[Kind.CHECKPOINTER]
    return Step(
        when=[STRAY_SIGNALS, in_(checkpointer, Life.RUNNING, Life.XLOG_SHUT_DOWN)],
        then=[
            when(
                V18,
                checkpointer.becomes(Life.TERMINATING),
                checkpointer.becomes(Life.CHECKPOINTING),
            )
        ],
    )


@action(Actor.OPERATOR, "checkpointer.c: CheckpointerMain()", "SG-11", "TR18-25")
def checkpointer_gets_stray_sigint() -> Step:
    """18: SIGINT by hand makes the checkpointer write the shutdown checkpoint at once."""
    checkpointer = LIFE[Kind.CHECKPOINTER]
    return Step(
        when=[STRAY_SIGNALS, V18, checkpointer == Life.RUNNING],
        then=[checkpointer.becomes(Life.CHECKPOINTING)],
    )


@action(Actor.FAULT, "any", "MM-16")
def fork_begins_to_fail() -> Step:
    """The system runs out of processes."""
    return Step(when=[FORK_FAULTS, ~FORK_FAILS], then=[FORK_FAILS.becomes(True)])


@action(Actor.FAULT, "any", "MM-16", "ST-07")
def processes_become_scarce() -> Step:
    """Of the next family the startup process will be the one too many."""
    return Step(when=[FORK_FAULTS, ~SCARCE], then=[SCARCE.becomes(True)])


@action(Actor.FAULT, "any", "MM-16")
def fork_works_again() -> Step:
    """The system has processes again."""
    return Step(
        when=[FORK_FAILS | SCARCE],
        then=[FORK_FAILS.becomes(False), SCARCE.becomes(False)],
    )


ACTIONS = [
    *child_crashes,
    *one_of_many_crashes,
    *startup_fails,
    *background_process_is_terminated,
    *io_worker_is_terminated,
    *checkpointer_gets_stray_sigusr2,
    *checkpointer_gets_stray_sigint,
    *fork_begins_to_fail,
    *processes_become_scarce,
    *fork_works_again,
]
