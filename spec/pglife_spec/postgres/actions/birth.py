"""Birth, and the loop's care for missing children.

Begin with   begin, then the launch actions in the order of SL-03.
Owns         what is forked, when it may be (3.1), and what the logger's absence means.
Source       postmaster.c: PostmasterMain(), LaunchMissingBackgroundProcesses(),
             maybe_adjust_io_workers(), maybe_start_bgworkers(); 15: ServerLoop().
"""

from __future__ import annotations

from pglife_spec.lang.declare import Step, action
from pglife_spec.lang.expr import TRUE, Expr, any_of, ite
from pglife_spec.lang.machine import Actor, when
from pglife_spec.postgres.effects import advance_to, fork, fork_startup
from pglife_spec.postgres.state import (
    AUTOVACUUM,
    COUNT,
    FATAL_ERROR,
    FORK_FAILS,
    IO_WORKERS,
    LIFE,
    LIVES,
    LOGGING_COLLECTOR,
    LOGICAL_LAUNCHER,
    READY,
    SHUTDOWN,
    STATE,
    V18,
    number,
    state_is,
)
from pglife_spec.postgres.words import PM, Kind, Life, Shutdown

UP = (PM.PM_STARTUP, PM.PM_RECOVERY, PM.PM_HOT_STANDBY, PM.PM_RUN)


@action(Actor.POSTMASTER, "postmaster.c: PostmasterMain()", "TR18-01", "TR17-01", "ST-04")
def begin() -> Step:
    """The postmaster forks its first children: io workers (18), checkpointer, bgwriter, startup."""
    workers = COUNT[Kind.IO_WORKER, Life.RUNNING]
    return Step(
        when=[READY, state_is(PM.PM_INIT)],
        then=[
            advance_to(PM.PM_STARTUP),
            when(LOGGING_COLLECTOR, LIFE[Kind.LOGGER].becomes(Life.RUNNING)),
            workers.becomes(ite(V18, IO_WORKERS, 0)),
            fork(Kind.CHECKPOINTER, TRUE),
            fork(Kind.BG_WRITER, TRUE),
            fork_startup(),
        ],
    )


def _missing(kind: Kind) -> Expr:
    return LIFE[kind] == Life.ABSENT


@action(
    Actor.POSTMASTER,
    "postmaster.c: LaunchMissingBackgroundProcesses()",
    "PR-12",
    "SL-03",
    "LG-04",
)
def launch_logger() -> Step:
    """A missing logger is started again in any state."""
    return Step(
        when=[
            READY,
            ~FORK_FAILS,
            LOGGING_COLLECTOR,
            _missing(Kind.LOGGER),
            STATE != PM.PM_INIT,
        ],
        then=[fork(Kind.LOGGER, TRUE)],
    )


@action(Actor.POSTMASTER, "postmaster.c: maybe_adjust_io_workers()", "PR-11", "IO-02", "IO-07")
def launch_io_worker() -> Step:
    """The pool of io workers is filled up, also in a shutdown until they are told to end."""
    crashing = FATAL_ERROR & (STATE >= PM.PM_STOP_BACKENDS)
    return Step(
        when=[
            LIVES,
            ~FORK_FAILS,
            V18,
            STATE != PM.PM_INIT,
            STATE < PM.PM_WAIT_IO_WORKERS,
            SHUTDOWN != Shutdown.ImmediateShutdown,
            ~crashing,
            number(Kind.IO_WORKER) < IO_WORKERS,
        ],
        then=[
            fork(
                Kind.IO_WORKER,
                ~state_is(
                    PM.PM_INIT,
                    PM.PM_WAIT_IO_WORKERS,
                    PM.PM_WAIT_CHECKPOINTER,
                    PM.PM_WAIT_DEAD_END,
                    PM.PM_NO_CHILDREN,
                ),
            )
        ],
    )


@action(
    Actor.POSTMASTER,
    "postmaster.c: LaunchMissingBackgroundProcesses()",
    "PR-02",
    "PR-03",
    kind=(Kind.CHECKPOINTER, Kind.BG_WRITER),
)
def launch_writer(kind: Kind) -> Step:
    """A missing checkpointer or background writer is started while the server is up."""
    return Step(
        when=[READY, ~FORK_FAILS, state_is(*UP), _missing(kind)],
        then=[fork(kind, state_is(*UP))],
    )


@action(
    Actor.POSTMASTER,
    "postmaster.c: LaunchMissingBackgroundProcesses()",
    "PR-04",
    "PR-05",
    "INV-41",
    kind=(Kind.WAL_WRITER, Kind.AUTOVAC_LAUNCHER),
)
def launch_in_run(kind: Kind) -> Step:
    """A missing walwriter or autovacuum launcher is started in PM_RUN only."""
    return Step(
        when=[
            READY,
            ~FORK_FAILS,
            state_is(PM.PM_RUN),
            _missing(kind),
            any_of(kind is Kind.WAL_WRITER, AUTOVACUUM),
        ],
        then=[fork(kind, state_is(PM.PM_RUN))],
    )


@action(Actor.POSTMASTER, "postmaster.c: maybe_start_bgworkers()", "BG-05", "BG-25", "PR-14")
def launch_logical_replication_launcher() -> Step:
    """The logical replication launcher, a background worker, runs from PM_RUN on (no FatalError).

    That it waits 5 s after an exit is not told: any time may pass before a step.
    """
    return Step(
        when=[
            READY,
            ~FORK_FAILS,
            LOGICAL_LAUNCHER,
            ~FATAL_ERROR,
            state_is(PM.PM_RUN),
            _missing(Kind.BG_WORKER),
        ],
        then=[fork(Kind.BG_WORKER, state_is(PM.PM_RUN) & ~FATAL_ERROR)],
    )


ACTIONS = [
    *begin,
    *launch_logger,
    *launch_io_worker,
    *launch_writer,
    *launch_in_run,
    *launch_logical_replication_launcher,
]
