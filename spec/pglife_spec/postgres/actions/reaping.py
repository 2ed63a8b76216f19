"""Deaths as the postmaster sees them, and messages from its children.

Begin with   the reap actions, one for each way a kind can end, in the order of table 3.4; then
             end_reaping, which runs the state machine once for all of them (RP-01).
Owns         the reaper table and the PMSignal messages of this scope (7.1).
Source       postmaster.c: process_pm_child_exit(), CleanupBackend(), process_pm_pmsignal();
             15: reaper(), sigusr1_handler().
"""

from __future__ import annotations

from pglife_spec.lang.declare import Step, action
from pglife_spec.lang.expr import const
from pglife_spec.lang.machine import Actor, emit, flatten, when
from pglife_spec.postgres.actions.state_machine import state_machine
from pglife_spec.postgres.effects import (
    ALL_BUT_LOGGER,
    Effects,
    advance_to,
    clear_fatal_error,
    crash,
    forget,
    fork,
    handle_fatal_error,
    log,
    signal,
    write_pid_file,
)
from pglife_spec.postgres.state import (
    AUTOVACUUM,
    CONNS_ALLOWED,
    COUNT,
    CRASHY,
    FATAL_ERROR,
    FORK_FAILS,
    HOT_STANDBY,
    LIFE,
    LIVES,
    LOGGING_COLLECTOR,
    LOGICAL_LAUNCHER,
    NOBODY_DEAD,
    READY,
    REAPING,
    RECOVERY_STARTED,
    REPAIR_STARTUP_EXIT_IN_CRASH,
    REPAIR_XLOG_IN_CRASH_STARTUP,
    SHUTDOWN,
    STARTUP_STATUS,
    V15,
    V18,
    XLOG_IS_SHUTDOWN,
    state_is,
)
from pglife_spec.postgres.words import (
    COUNTED,
    PM,
    Kind,
    Life,
    PidFile,
    Shutdown,
    Signal,
    StartupStatus,
)

_REAPER = "postmaster.c: process_pm_child_exit()"


def _helpers_of_15() -> Effects:
    """TR17-04: up to 17 the reaper itself forks what is missing, before it says "ready"."""
    wanted = {
        Kind.CHECKPOINTER: const(True),
        Kind.BG_WRITER: const(True),
        Kind.WAL_WRITER: const(True),
        Kind.AUTOVAC_LAUNCHER: AUTOVACUUM,
        Kind.BG_WORKER: LOGICAL_LAUNCHER,
    }
    return tuple(
        when(
            V15 & ~FORK_FAILS & condition & (LIFE[kind] == Life.ABSENT),
            fork(kind, state_is(PM.PM_RUN)),
        )
        for kind, condition in wanted.items()
    )


def open_for_business() -> Effects:
    """PM_RUN: 18 says so first and launches its helpers later, 15 the other way round (MM-25)."""
    return flatten(
        [
            STARTUP_STATUS.becomes(StartupStatus.STARTUP_NOT_RUNNING),
            clear_fatal_error(),
            advance_to(PM.PM_RUN),
            CONNS_ALLOWED.becomes(True),
            _helpers_of_15(),
            log("database system is ready to accept connections"),
            write_pid_file(PidFile.READY),
        ]
    )


def _startup_failed() -> Effects:
    """TR18-07, TR18-08: a startup process that was not told to die ends the server."""
    told = flatten(
        [
            STARTUP_STATUS.becomes(StartupStatus.STARTUP_NOT_RUNNING),
            when(state_is(PM.PM_STARTUP), advance_to(PM.PM_WAIT_BACKENDS)),
        ]
    )
    return flatten(
        [
            when(
                STARTUP_STATUS == StartupStatus.STARTUP_SIGNALED,
                told,
                STARTUP_STATUS.becomes(StartupStatus.STARTUP_CRASHED),
            ),
            crash(Kind.STARTUP),
        ]
    )


def _startup_done(life: Life) -> Effects:
    """Exit 0, or 1 with a shutdown under way: TR18-04, TR18-05."""
    pending = SHUTDOWN != Shutdown.NoShutdown
    stays = flatten([STARTUP_STATUS.becomes(StartupStatus.STARTUP_NOT_RUNNING)])
    if life is Life.EXITED_1:
        otherwise: Effects = _startup_failed()
    else:
        repaired = REPAIR_STARTUP_EXIT_IN_CRASH & FATAL_ERROR & state_is(PM.PM_WAIT_BACKENDS)
        otherwise = (when(repaired, stays, open_for_business()),)
    return (
        when(
            pending,
            [
                STARTUP_STATUS.becomes(StartupStatus.STARTUP_NOT_RUNNING),
                advance_to(PM.PM_WAIT_BACKENDS),
            ],
            otherwise,
        ),
    )


@action(
    Actor.POSTMASTER,
    _REAPER,
    "RP-10",
    "RP-11",
    "TR18-04",
    "TR18-05",
    "TR18-07",
    "TR18-08",
    "PR-20",
    life=(Life.EXITED_0, Life.EXITED_1, Life.CRASHED),
)
def reap_startup(life: Life) -> Step:
    """The startup process has ended: the server opens, goes on shutting down, or gives up."""
    end = _startup_failed() if life is Life.CRASHED else _startup_done(life)
    return Step(
        when=[LIVES, LIFE[Kind.STARTUP] == life],
        then=[REAPING.becomes(True), forget(Kind.STARTUP, life), end],
    )


@action(
    Actor.POSTMASTER,
    _REAPER,
    "RP-13",
    "TR18-28",
    "TR18-29",
    "TR17-21",
    "INV-83",
    life=(Life.EXITED_0, Life.CRASHED),
)
def reap_checkpointer(life: Life) -> Step:
    """The checkpointer has ended: as told in the right state, in any other way a crash."""
    fine = V18 & state_is(PM.PM_WAIT_CHECKPOINTER)
    fine_15 = ~V18 & state_is(PM.PM_SHUTDOWN)
    done = flatten([advance_to(PM.PM_WAIT_DEAD_END), signal(Signal.SIGTERM, *ALL_BUT_LOGGER)])
    end: Effects = crash(Kind.CHECKPOINTER)
    if life is Life.EXITED_0:
        end = (when(fine, done, when(fine_15, advance_to(PM.PM_SHUTDOWN_2), end)),)
    return Step(
        when=[LIVES, LIFE[Kind.CHECKPOINTER] == life],
        then=[REAPING.becomes(True), forget(Kind.CHECKPOINTER, life), end],
    )


@action(
    Actor.POSTMASTER,
    _REAPER,
    "RP-12",
    "RP-14",
    "RP-17",
    "SG-41",
    kind=(Kind.BG_WRITER, Kind.WAL_WRITER, Kind.AUTOVAC_LAUNCHER),
    life=(Life.EXITED_0, Life.CRASHED),
)
def reap_background_process(kind: Kind, life: Life) -> Step:
    """Exit 0 is forgotten and made good by the loop; any other end is a crash."""
    return Step(
        when=[LIVES, LIFE[kind] == life],
        then=[
            REAPING.becomes(True),
            forget(kind, life),
            crash(kind) if life is Life.CRASHED else (),
        ],
    )


@action(
    Actor.POSTMASTER,
    "postmaster.c: CleanupBackend()",
    "RP-22",
    "BG-12",
    "BG-14",
    "SH-27",
    life=(Life.EXITED_1, Life.CRASHED),
)
def reap_logical_replication_launcher(life: Life) -> Step:
    """Exit 1 is logged and the worker comes back later; any other end is a crash."""
    return Step(
        when=[LIVES, LIFE[Kind.BG_WORKER] == life],
        then=[
            REAPING.becomes(True),
            forget(Kind.BG_WORKER, life),
            crash(Kind.BG_WORKER)
            if life is Life.CRASHED
            else emit("log", "bgworker exited", Kind.BG_WORKER.name),
        ],
    )


@action(Actor.POSTMASTER, _REAPER, "RP-19", "CR-44", "LG-02", "RP-08")
def reap_logger() -> Step:
    """The logger is replaced at once, however it ended; never a crash."""
    replaced = LOGGING_COLLECTOR & ~FORK_FAILS
    return Step(
        when=[LIVES, LIFE[Kind.LOGGER] == Life.CRASHED],
        then=[
            REAPING.becomes(True),
            forget(Kind.LOGGER, Life.CRASHED),
            when(replaced, fork(Kind.LOGGER, const(True))),
        ],
    )


@action(
    Actor.POSTMASTER,
    "postmaster.c: CleanupBackend(), maybe_reap_io_worker()",
    "RP-21",
    "RP-23",
    "RP-26",
    "CR-47",
    kind=COUNTED,
    life=(Life.EXITED_0, Life.CRASHED),
)
def reap_one_of_many(kind: Kind, life: Life) -> Step:
    """A session, a dead-end child or an io worker has ended: 0 and 1 are fine, else a crash."""
    return Step(
        when=[LIVES, COUNT[kind, life] >= 1],
        then=[
            REAPING.becomes(True),
            forget(kind, life),
            crash(kind) if life is Life.CRASHED else (),
        ],
    )


@action(Actor.POSTMASTER, _REAPER, "RP-01", "SM-01", "MM-08")
def end_reaping() -> Step:
    """When nobody dead is left to reap, the state machine runs once."""
    return Step(
        when=[LIVES, REAPING, NOBODY_DEAD],
        then=[REAPING.becomes(False), state_machine()],
    )


def _recovery_started() -> Effects:
    return flatten(
        [
            clear_fatal_error(),
            when(~HOT_STANDBY, write_pid_file(PidFile.STANDBY)),
            advance_to(PM.PM_RECOVERY),
        ]
    )


def _xlog_is_shutdown() -> Effects:
    """TR18-24, TR18-25."""
    unexpected = flatten([log("WAL was shut down unexpectedly"), handle_fatal_error()])
    afresh = (
        REPAIR_XLOG_IN_CRASH_STARTUP
        & state_is(PM.PM_STARTUP)
        & (SHUTDOWN != Shutdown.ImmediateShutdown)
    )
    return flatten(
        [
            when(
                state_is(PM.PM_WAIT_XLOG_SHUTDOWN),
                advance_to(PM.PM_WAIT_XLOG_ARCHIVAL),
                when(~CRASHY | afresh, unexpected),
            ),
            state_machine(),
        ]
    )


@action(
    Actor.POSTMASTER,
    "postmaster.c: process_pm_pmsignal()",
    "PG-01",
    "PG-09",
    "PG-23",
    "TR18-02",
    "TR18-24",
    "TR18-25",
    "MM-09",
    flags=("recovery", "xlog", "both"),
)
def process_pmsignal(flags: str) -> Step:
    """Messages are looked at in a fixed order, and are gone then, whether they were heeded or not.

    Redo has begun: the crash is over. The shutdown checkpoint is done: go on, or crash.
    """
    recovery, xlog = flags != "xlog", flags != "recovery"
    heeded = state_is(PM.PM_STARTUP) & (SHUTDOWN == Shutdown.NoShutdown)
    return Step(
        when=[
            READY,
            RECOVERY_STARTED if recovery else ~RECOVERY_STARTED,
            XLOG_IS_SHUTDOWN if xlog else ~XLOG_IS_SHUTDOWN,
        ],
        then=[
            [RECOVERY_STARTED.becomes(False), when(heeded, _recovery_started())]
            if recovery
            else (),
            [XLOG_IS_SHUTDOWN.becomes(False), _xlog_is_shutdown()] if xlog else (),
        ],
    )


ACTIONS = [
    *reap_startup,
    *reap_checkpointer,
    *reap_background_process,
    *reap_logical_replication_launcher,
    *reap_logger,
    *reap_one_of_many,
    *end_reaping,
    *process_pmsignal,
]
