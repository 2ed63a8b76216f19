"""What may go wrong at any moment: crashes, signals to single children, a fork() that fails.

Begin with child_crashes. The operator's signals are here too: no shutdown sends them.
"""

from pglife_spec.lang.declare import Step, action
from pglife_spec.lang.expr import in_, ite
from pglife_spec.lang.machine import Actor, when
from pglife_spec.postgres.state.children import ALIVE_LIVES, CHECKPOINTER_MAY_EXIT, COUNT, LIFE
from pglife_spec.postgres.state.history import TAINTED
from pglife_spec.postgres.state.postmaster import FORK_FAILS, STARTUP_FORK_FAILS
from pglife_spec.postgres.words import Kind, Life
from pglife_spec.postgres.words.kinds import (
    BACKGROUND,
    COUNTED,
    REPLICATION,
    SINGLETONS,
    WORKERS,
)
from pglife_spec.postgres.words.parameters import FORK_FAULTS, STRAY_SIGNALS
from pglife_spec.postgres.words.releases import Feature, has


@action(Actor.FAULT, "any", "CR-01", "CR-63", "SG-40", kind=SINGLETONS)
def child_crashes(kind: Kind) -> Step:
    """A child is killed by a signal, or exits with a status that means a crash."""
    return Step(
        when=[in_(LIFE[kind], *ALIVE_LIVES)],
        then=[
            LIFE[kind].becomes(Life.CRASHED),
            () if kind is Kind.LOGGER else TAINTED.becomes(True),
        ],
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
def counted_child_crashes(kind: Kind, life: Life) -> Step:
    """A backend, a dead-end child or an io worker is killed by a signal, or exits with a status
    that means a crash."""
    count, crashed = COUNT[kind, life], COUNT[kind, Life.CRASHED]
    return Step(
        when=[count >= 1],
        then=[
            count.becomes(count - 1),
            crashed.becomes(crashed + 1),
            TAINTED.becomes(True),
        ],
    )


@action(Actor.FAULT, "startup.c: StartupProcessMain()", "PR-20", "RC-21")
def startup_fails() -> Step:
    """The startup process fails with FATAL: exit code 1."""
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
    kind=(*BACKGROUND, *WORKERS, *REPLICATION),
)
def operator_terminates_background_process(kind: Kind) -> Step:
    """The operator sends SIGTERM to one background process, which exits and is replaced."""
    return Step(
        when=[LIFE[kind] == Life.RUNNING],
        then=[LIFE[kind].becomes(Life.TERMINATING)],
    )


@action(Actor.OPERATOR, "storage/aio/method_worker.c: IoWorkerMain()", "SG-20", "IO-05")
def operator_stops_io_worker() -> Step:
    """The operator sends SIGINT or SIGUSR2 to an io worker, or the io worker fails with exit
    code 1."""
    running = COUNT[Kind.IO_WORKER, Life.RUNNING]
    terminating = COUNT[Kind.IO_WORKER, Life.TERMINATING]
    return Step(
        when=[running >= 1],
        then=[running.becomes(running - 1), terminating.becomes(terminating + 1)],
    )


@action(Actor.OPERATOR, "checkpointer.c: CheckpointerMain()", "SG-11", "CK-07")
def operator_sends_sigusr2_to_checkpointer() -> Step:
    """The operator sends SIGUSR2 to the checkpointer: 18 exits without a checkpoint, or right after
    the one that it is writing; 15 writes the shutdown checkpoint first."""
    checkpointer = LIFE[Kind.CHECKPOINTER]
    outlives_wal = has(Feature.CHECKPOINTER_OUTLIVES_WAL)
    writes = outlives_wal & (checkpointer == Life.CHECKPOINTING) & ~CHECKPOINTER_MAY_EXIT
    return Step(
        when=[STRAY_SIGNALS, in_(checkpointer, Life.RUNNING, Life.XLOG_SHUT_DOWN) | writes],
        then=[
            when(
                writes,
                CHECKPOINTER_MAY_EXIT.becomes(True),
                checkpointer.becomes(ite(outlives_wal, Life.TERMINATING, Life.CHECKPOINTING)),
            )
        ],
    )


@action(Actor.OPERATOR, "checkpointer.c: CheckpointerMain()", "SG-11", "TR18-25")
def operator_sends_sigint_to_checkpointer() -> Step:
    """18: the operator sends SIGINT to the checkpointer, which writes the shutdown checkpoint."""
    checkpointer = LIFE[Kind.CHECKPOINTER]
    return Step(
        when=[
            STRAY_SIGNALS,
            has(Feature.CHECKPOINTER_OUTLIVES_WAL),
            checkpointer == Life.RUNNING,
        ],
        then=[checkpointer.becomes(Life.CHECKPOINTING)],
    )


@action(Actor.FAULT, "any", "MM-16")
def fork_begins_to_fail() -> Step:
    """The system has no room for another process: every fork() fails."""
    return Step(when=[FORK_FAULTS, ~FORK_FAILS], then=[FORK_FAILS.becomes(True)])


@action(Actor.FAULT, "any", "MM-16", "ST-07")
def startup_fork_begins_to_fail() -> Step:
    """The system has room for the first children but not for the startup process, the last."""
    return Step(when=[FORK_FAULTS, ~STARTUP_FORK_FAILS], then=[STARTUP_FORK_FAILS.becomes(True)])


@action(Actor.FAULT, "any", "MM-16")
def fork_works_again() -> Step:
    """The system has room for processes again."""
    return Step(
        when=[FORK_FAILS | STARTUP_FORK_FAILS],
        then=[FORK_FAILS.becomes(False), STARTUP_FORK_FAILS.becomes(False)],
    )


ACTIONS = [
    *child_crashes,
    *counted_child_crashes,
    *startup_fails,
    *operator_terminates_background_process,
    *operator_stops_io_worker,
    *operator_sends_sigusr2_to_checkpointer,
    *operator_sends_sigint_to_checkpointer,
    *fork_begins_to_fail,
    *startup_fork_begins_to_fail,
    *fork_works_again,
]
