"""Exits of children as the postmaster sees them, and messages from children.

Begin with the reap actions, one for each way in which a kind can exit, in the order of the reaper;
then end_reaping, which runs the state machine once for all of them (RP-01).

Source: postmaster.c: process_pm_child_exit(), CleanupBackend(), process_pm_pmsignal();
15: reaper(), sigusr1_handler().
"""

from pglife_spec.lang.declare import Step, action
from pglife_spec.lang.expr import TRUE, all_of
from pglife_spec.lang.machine import Actor, flatten, when
from pglife_spec.postgres.actions.autovacuum import ASKED as AUTOVACUUM_ASKED
from pglife_spec.postgres.actions.autovacuum import read_requests
from pglife_spec.postgres.actions.effects import (
    IO_WORKER_IS_MISSING,
    Effects,
    advance_to,
    clear_fatal_error,
    crash,
    forget,
    fork,
    fork_io_worker,
    handle_fatal_error,
    log,
    signal,
    terminate_children,
    write_pid_file,
)
from pglife_spec.postgres.actions.state_machine import state_machine
from pglife_spec.postgres.actions.workers import (
    WORKERS_EXIST,
    look_at_workers,
    open_for_workers,
)
from pglife_spec.postgres.state.children import COUNT, LIFE, NO_ZOMBIE, alive, recorded
from pglife_spec.postgres.state.history import STOPPED_AT_TARGET
from pglife_spec.postgres.state.io_pool import SHRINKS
from pglife_spec.postgres.state.postmaster import (
    ALIVE,
    BETWEEN_EVENTS,
    CONNS_ALLOWED,
    CRASH_OR_IMMEDIATE,
    FATAL_ERROR,
    FORK_FAILS,
    IMMEDIATE,
    PENDING,
    PROMOTE_REQUEST,
    REAPING,
    SHUTDOWN,
    STARTUP_STATUS,
    WAL_RECEIVER_REQUESTED,
    state_is,
)
from pglife_spec.postgres.state.shared import (
    ADVANCE_STATE_MACHINE,
    BEGIN_HOT_STANDBY,
    PROMOTE_FILE,
    PROMOTE_SIGNALED,
    RECOVERY_STARTED,
    START_WALRECEIVER,
    XLOG_IS_SHUTDOWN,
)
from pglife_spec.postgres.state.workers import START_WORKER_NEEDED
from pglife_spec.postgres.words import (
    PM,
    ArchiveMode,
    Kind,
    Life,
    PidFile,
    Shutdown,
    Signal,
    StartupStatus,
)
from pglife_spec.postgres.words.kinds import (
    AFTER_WAL,
    ALL_BUT_LOGGER,
    BACKGROUND,
    COUNTED,
    KINDS,
)
from pglife_spec.postgres.words.parameters import ARCHIVE_MODE, HOT_STANDBY, LOGGING_COLLECTOR
from pglife_spec.postgres.words.releases import Feature, has
from pglife_spec.postgres.words.repairs import (
    REPAIR_STARTUP_EXIT_IN_CRASH,
    REPAIR_STARTUP_EXIT_IN_SMART,
    REPAIR_TARGET_IN_CRASH_STARTUP,
    REPAIR_WORKERS_IN_RECOVERY,
    REPAIR_XLOG_IN_CRASH_STARTUP,
)

_REAPER = "postmaster.c: process_pm_child_exit()"


def _fork_background_processes() -> Effects:
    """TR17-04: up to 17 the reaper forks what is missing before it logs "ready"."""
    return tuple(
        when(
            has(Feature.REAPER_FORKS_CHILDREN)
            & ~FORK_FAILS
            & KINDS[kind].wanted
            & (LIFE[kind] == Life.ABSENT),
            fork(kind, state_is(PM.PM_RUN)),
        )
        for kind in (Kind.CHECKPOINTER, *BACKGROUND)
    )


def open_server(*also: Kind) -> Effects:
    """Enter PM_RUN: 18 logs it first and launches background processes later, 15 does so before
    (MM-25).

    Args:
        also: what else 15 forks.
    """
    return flatten(
        [
            STARTUP_STATUS.becomes(StartupStatus.STARTUP_NOT_RUNNING),
            clear_fatal_error(),
            advance_to(PM.PM_RUN),
            CONNS_ALLOWED.becomes(True),
            _fork_background_processes(),
            *(fork(kind, state_is(PM.PM_RUN)) for kind in also),
            open_for_workers(),
            log("database system is ready to accept connections"),
            write_pid_file(PidFile.READY),
        ]
    )


def _startup_failed() -> Effects:
    """TR18-07, TR18-08: a startup process that failed without a signal ends the server."""
    signaled = flatten(
        [
            STARTUP_STATUS.becomes(StartupStatus.STARTUP_NOT_RUNNING),
            when(state_is(PM.PM_STARTUP), advance_to(PM.PM_WAIT_BACKENDS)),
        ]
    )
    return flatten(
        [
            when(
                STARTUP_STATUS == StartupStatus.STARTUP_SIGNALED,
                signaled,
                STARTUP_STATUS.becomes(StartupStatus.STARTUP_CRASHED),
            ),
            crash(Kind.STARTUP),
        ]
    )


def _startup_done(life: Life) -> Effects:
    """TR18-04, TR18-05: exit code 0, or 1 in a shutdown."""
    stays = STARTUP_STATUS.becomes(StartupStatus.STARTUP_NOT_RUNNING)
    if life is Life.EXITED_1:
        otherwise: Effects = _startup_failed()
    else:
        repaired = REPAIR_STARTUP_EXIT_IN_CRASH & FATAL_ERROR & state_is(PM.PM_WAIT_BACKENDS)
        otherwise = (when(repaired, stays, open_server()),)
    return (
        when(
            PENDING,
            [
                STARTUP_STATUS.becomes(StartupStatus.STARTUP_NOT_RUNNING),
                when(
                    REPAIR_STARTUP_EXIT_IN_SMART & state_is(PM.PM_HOT_STANDBY),
                    advance_to(PM.PM_STOP_BACKENDS),
                    advance_to(PM.PM_WAIT_BACKENDS),
                ),
            ],
            otherwise,
        ),
    )


def _recovery_target_reached() -> Effects:
    """TR18-06: exit code 3 asks for a shutdown, which the pid file does not say."""
    left_over = FATAL_ERROR & state_is(PM.PM_STARTUP)
    return flatten(
        [
            log("shutdown at recovery target"),
            when(REPAIR_TARGET_IN_CRASH_STARTUP & left_over, clear_fatal_error()),
            STARTUP_STATUS.becomes(StartupStatus.STARTUP_NOT_RUNNING),
            STOPPED_AT_TARGET.becomes(True),
            when(~PENDING, SHUTDOWN.becomes(Shutdown.SmartShutdown)),
            terminate_children(Signal.SIGTERM, dead_end=True),
            advance_to(PM.PM_WAIT_BACKENDS),
        ]
    )


@action(
    Actor.POSTMASTER,
    _REAPER,
    "RP-10",
    "RP-11",
    "TR18-04",
    "TR18-05",
    "TR18-06",
    "TR18-07",
    "TR18-08",
    "PR-20",
    "MM-21",
    life=(Life.EXITED_0, Life.EXITED_1, Life.EXITED_3, Life.CRASHED),
)
def reap_startup(life: Life) -> Step:
    """The postmaster reaps the startup process: it opens the server, continues a shutdown, begins
    one at the recovery target, or handles a failure."""
    match life:
        case Life.CRASHED:
            end = _startup_failed()
        case Life.EXITED_3:
            end = _recovery_target_reached()
        case _:
            end = _startup_done(life)
    return Step(
        when=[ALIVE, LIFE[Kind.STARTUP] == life],
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
    """The postmaster reaps the checkpointer: exit code 0 in the state that waits for it continues
    the shutdown, anything else is a crash."""
    outlives_wal = has(Feature.CHECKPOINTER_OUTLIVES_WAL)
    last = outlives_wal & state_is(PM.PM_WAIT_CHECKPOINTER)
    wal_shut_down = ~outlives_wal & state_is(PM.PM_SHUTDOWN)
    done = flatten([advance_to(PM.PM_WAIT_DEAD_END), signal(Signal.SIGTERM, *ALL_BUT_LOGGER)])
    wal_is_written = flatten([signal(Signal.SIGUSR2, *AFTER_WAL), advance_to(PM.PM_SHUTDOWN_2)])
    end: Effects = crash(Kind.CHECKPOINTER)
    if life is Life.EXITED_0:
        end = (when(last, done, when(wal_shut_down, wal_is_written, end)),)
    return Step(
        when=[ALIVE, LIFE[Kind.CHECKPOINTER] == life],
        then=[REAPING.becomes(True), forget(Kind.CHECKPOINTER, life), end],
    )


@action(
    Actor.POSTMASTER,
    _REAPER,
    "RP-12",
    "RP-14",
    "RP-17",
    "SG-41",
    "WS-05",
    kind=BACKGROUND,
    life=(Life.EXITED_0, Life.CRASHED),
)
def reap_background_process(kind: Kind, life: Life) -> Step:
    """The postmaster reaps a background process: exit code 0 is fine, and the main loop launches
    another; any other status is a crash."""
    return Step(
        when=[ALIVE, LIFE[kind] == life],
        then=[
            REAPING.becomes(True),
            forget(kind, life),
            crash(kind) if life is Life.CRASHED else (),
        ],
    )


@action(Actor.POSTMASTER, _REAPER, "RP-19", "CR-44", "LG-02", "RP-08")
def reap_logger() -> Step:
    """The postmaster reaps the logger and replaces it at once; its exit is never a crash."""
    replaced = LOGGING_COLLECTOR & ~FORK_FAILS
    return Step(
        when=[ALIVE, LIFE[Kind.LOGGER] == Life.CRASHED],
        then=[
            REAPING.becomes(True),
            forget(Kind.LOGGER, Life.CRASHED),
            when(replaced, fork(Kind.LOGGER, TRUE)),
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
def reap_counted_child(kind: Kind, life: Life) -> Step:
    """The postmaster reaps a backend, a dead-end child or an io worker: exit codes 0 and 1 are
    fine, any other status is a crash. An io worker is replaced at once, or the next one is asked to
    exit."""
    replaced = [when(all_of(*IO_WORKER_IS_MISSING), fork_io_worker()), SHRINKS.becomes(False)]
    return Step(
        when=[ALIVE, COUNT[kind, life] >= 1],
        then=[
            REAPING.becomes(True),
            forget(kind, life),
            crash(kind) if life is Life.CRASHED else (),
            replaced if kind is Kind.IO_WORKER else (),
        ],
    )


@action(Actor.POSTMASTER, _REAPER, "RP-01", "SM-01", "MM-08")
def end_reaping() -> Step:
    """When no zombie is left, the postmaster runs the state machine once."""
    return Step(
        when=[ALIVE, REAPING, NO_ZOMBIE],
        then=[REAPING.becomes(False), state_machine()],
    )


def _recovery_started() -> Effects:
    """TR18-02: the crash is over; with archive_mode = always the archiver is forked at once."""
    always = (ARCHIVE_MODE == ArchiveMode.ALWAYS) & ~FORK_FAILS
    return flatten(
        [
            clear_fatal_error(),
            when(always, fork(Kind.ARCHIVER, state_is(PM.PM_STARTUP))),
            when(~HOT_STANDBY, write_pid_file(PidFile.STANDBY)),
            advance_to(PM.PM_RECOVERY),
            when(REPAIR_WORKERS_IN_RECOVERY & WORKERS_EXIST, START_WORKER_NEEDED.becomes(True)),
        ]
    )


def _begin_hot_standby() -> Effects:
    """TR18-03: sessions may read."""
    return flatten(
        [
            log("database system is ready to accept read-only connections"),
            write_pid_file(PidFile.READY),
            advance_to(PM.PM_HOT_STANDBY),
            CONNS_ALLOWED.becomes(True),
            when(WORKERS_EXIST, START_WORKER_NEEDED.becomes(True)),
        ]
    )


def _pass_on_promotion() -> Effects:
    """PG-11: at every SIGUSR1, while the file exists (MM-23)."""
    in_recovery = state_is(PM.PM_STARTUP, PM.PM_RECOVERY, PM.PM_HOT_STANDBY)
    return (
        when(
            recorded(Kind.STARTUP) & in_recovery & PROMOTE_FILE,
            [
                signal(Signal.SIGUSR2, Kind.STARTUP),
                when(alive(Kind.STARTUP), PROMOTE_SIGNALED.becomes(True)),
            ],
        ),
    )


def _xlog_is_shutdown() -> Effects:
    """TR18-24, TR18-25."""
    unexpected = flatten([log("WAL was shut down unexpectedly"), handle_fatal_error()])
    expected = flatten([signal(Signal.SIGUSR2, *AFTER_WAL), advance_to(PM.PM_WAIT_XLOG_ARCHIVAL)])
    afresh = REPAIR_XLOG_IN_CRASH_STARTUP & state_is(PM.PM_STARTUP) & ~IMMEDIATE
    return flatten(
        [
            when(
                state_is(PM.PM_WAIT_XLOG_SHUTDOWN),
                expected,
                when(~CRASH_OR_IMMEDIATE | afresh, unexpected),
            ),
        ]
    )


@action(
    Actor.POSTMASTER,
    "postmaster.c: process_pm_pmsignal()",
    "PG-01",
    "PG-03",
    "PG-08",
    "PG-09",
    "PG-10",
    "PG-11",
    "PG-20",
    "PG-23",
    "TR18-02",
    "TR18-03",
    "TR18-24",
    "TR18-25",
    "MM-09",
)
def process_pmsignal() -> Step:
    """The postmaster reads and resets the PMSignal flags in a fixed order: at RECOVERY_STARTED the
    crash is over; BEGIN_HOT_STANDBY opens the server for readers; autovacuum workers are started; a
    walreceiver is noted; at XLOG_IS_SHUTDOWN the shutdown continues, or the server crashes; then,
    or at ADVANCE_STATE_MACHINE, the state machine runs. At last it looks for the file promote."""
    flags = RECOVERY_STARTED | BEGIN_HOT_STANDBY | START_WALRECEIVER | XLOG_IS_SHUTDOWN
    begins = RECOVERY_STARTED & state_is(PM.PM_STARTUP) & ~PENDING
    opens = BEGIN_HOT_STANDBY & state_is(PM.PM_RECOVERY) & ~PENDING
    return Step(
        when=[BETWEEN_EVENTS, flags | AUTOVACUUM_ASKED | ADVANCE_STATE_MACHINE | PROMOTE_REQUEST],
        then=[
            PROMOTE_REQUEST.becomes(False),
            when(begins, _recovery_started()),
            RECOVERY_STARTED.becomes(False),
            when(opens, _begin_hot_standby()),
            BEGIN_HOT_STANDBY.becomes(False),
            look_at_workers(),
            read_requests(),
            when(START_WALRECEIVER, WAL_RECEIVER_REQUESTED.becomes(True)),
            START_WALRECEIVER.becomes(False),
            when(XLOG_IS_SHUTDOWN, _xlog_is_shutdown()),
            when(
                XLOG_IS_SHUTDOWN | ADVANCE_STATE_MACHINE,
                [
                    XLOG_IS_SHUTDOWN.becomes(False),
                    ADVANCE_STATE_MACHINE.becomes(False),
                    state_machine(),
                ],
            ),
            _pass_on_promotion(),
        ],
    )


ACTIONS = [
    *reap_startup,
    *reap_checkpointer,
    *reap_background_process,
    *reap_logger,
    *reap_counted_child,
    *end_reaping,
    *process_pmsignal,
]
