"""The liveness properties: what happens eventually, under stated fairness.

Begin with the fairness assumptions, then PROPERTIES. Clients and operators may do nothing
for ever, and faults end; only what a property's fairness names can be relied on.
"""

from pglife_spec.lang.machine import Action, Actor, Fairness, Property
from pglife_spec.postgres.state.autovacuum import FORK_FAILED, START_AUTOVAC_WORKER, STARTING
from pglife_spec.postgres.state.children import LIFE, NO_ZOMBIE, none_recorded, number, recorded
from pglife_spec.postgres.state.history import STOPPED_AT_TARGET
from pglife_spec.postgres.state.io_pool import WANTED
from pglife_spec.postgres.state.postmaster import (
    ALIVE,
    EXITED,
    FATAL_ERROR,
    PENDING,
    SHUTDOWN,
    WAL_RECEIVER_REQUESTED,
    state_is,
)
from pglife_spec.postgres.state.shared import (
    BEGIN_HOT_STANDBY,
    PROMOTE_FILE,
    REDO,
    REPLAY,
    SIGNAL_FILE,
    WALRCV,
)
from pglife_spec.postgres.state.workers import (
    LISTED,
    is_due,
    its_time_has_come,
    restarts,
    waits,
)
from pglife_spec.postgres.words import PM, ArchiveMode, Kind, Life, Shutdown
from pglife_spec.postgres.words.kinds import AFTER_WAL, WORKERS
from pglife_spec.postgres.words.parameters import (
    ARCHIVE_MODE,
    AUTOVACUUM,
    HOT_STANDBY,
    RESTART_AFTER_CRASH,
    STANDBY,
    STREAMING,
    SUMMARIZE_WAL,
    SYNC_SLOTS,
    TARGET,
    WRITERS,
)
from pglife_spec.postgres.words.recovery import Replay, Target, WalRcv
from pglife_spec.postgres.words.workers import Registration

_RECOVERY = (
    "startup_writes_control_file",
    "startup_begins_redo",
    "startup_finishes_recovery",
    "startup_exits",
)


def _is_postmaster(action: Action) -> bool:
    return action.actor is Actor.POSTMASTER


def _is_child(action: Action) -> bool:
    return action.actor is Actor.CHILD and not _is_last_wal(action)


def _is_last_wal(action: Action) -> bool:
    return action.family in ("archiver_finishes", "walsender_finishes")


def _is_recovery(action: Action) -> bool:
    return action.family in _RECOVERY


def _is_disconnect(action: Action) -> bool:
    return action.family == "client_disconnects"


def _is_fork_working(action: Action) -> bool:
    return action.family == "fork_works_again"


F1 = Fairness("F1", "the postmaster's event loop runs, and no signal to it is lost", _is_postmaster)
F2 = Fairness("F2", "children finish their work, and exit at the signals that end them", _is_child)
F3 = Fairness("F3", "the kernel carries out SIGKILL at once", lambda _: False)
RECOVERY_ENDS = Fairness("RECOVERY", "the startup process finishes recovery", _is_recovery)
CLIENTS_DISCONNECT = Fairness("CLIENTS", "every client disconnects eventually", _is_disconnect)
F5 = Fairness("F5", "archive commands end, and receivers confirm all WAL or time out", _is_last_wal)
F6 = Fairness("F6", "fork() succeeds again eventually", _is_fork_working)

_WARM = STANDBY & SIGNAL_FILE & ~HOT_STANDBY
"""A standby that admits no session until it is promoted."""

_HANGS = (
    "a request in the PM_STARTUP after a crash, with FatalError still set, waits for a "
    "checkpointer and io workers (18) to which no signal was sent that ends them; 18: without a "
    "checkpointer, and with fork() failing, no child is left whose exit would run the state "
    "machine; in a smart shutdown of a hot standby the exit of the startup process leads to "
    "PM_WAIT_BACKENDS, and nothing was sent to the others"
)
_SM = "postmaster.c: PostmasterStateMachine()"
_AFTER_WAL_STATES = (PM.PM_SHUTDOWN_2, PM.PM_WAIT_XLOG_ARCHIVAL)
_MODES = {
    Shutdown.SmartShutdown: ("INV-92", (F1, F2, F3, F5, CLIENTS_DISCONNECT, F6), _HANGS),
    Shutdown.FastShutdown: ("INV-91", (F1, F2, F3, F5, F6), _HANGS),
}


def _ends(mode: Shutdown) -> Property:
    inv, fairness, exception = _MODES[mode]
    word = mode.name.removesuffix("Shutdown").lower()
    return Property(
        name=f"every_{word}_shutdown_ends",
        ids=(inv, "SH-04" if word == "smart" else "SH-06"),
        doc=f"Every {word} shutdown ends."
        + (" It does if every client disconnects." if word == "smart" else ""),
        source="postmaster.c: PostmasterStateMachine()",
        given=ALIVE & (SHUTDOWN == mode),
        then=EXITED | (SHUTDOWN > mode),
        fairness=fairness,
        exception=exception,
    )


_VACUUMING = state_is(PM.PM_RUN) & AUTOVACUUM & (LIFE[Kind.AUTOVAC_LAUNCHER] == Life.RUNNING)


def _starts(kind: Kind) -> Property:
    may = its_time_has_come(kind) & (is_due(kind) | (waits(kind) & restarts(kind)))
    return Property(
        name=f"a_{kind.value.replace(' ', '_')}_whose_time_has_come_runs",
        ids=("INV-99", "BG-05", "BG-06"),
        doc=f"A {kind.value} whose time has come is started, while the server neither crashes nor "
        "shuts down.",
        source="postmaster.c: maybe_start_bgworkers()",
        given=ALIVE & ~PENDING & ~FATAL_ERROR & may,
        then=EXITED
        | PENDING
        | FATAL_ERROR
        | recorded(kind)
        | (LISTED[kind] == Registration.UNLISTED),
        fairness=(F1, F6),
        exception="after a crash a worker that starts with the postmaster is not started in "
        "PM_RECOVERY: on a standby with hot_standby off that may be for ever",
    )


_INTERRUPTED = EXITED | PENDING | FATAL_ERROR
_NO_STARTUP = (
    "the postmaster may reap the startup process of a crash restart before it reads its messages, "
    "and then stays in recovery without one for ever"
)
_IN_RECOVERY = state_is(PM.PM_STARTUP, PM.PM_RECOVERY, PM.PM_HOT_STANDBY)
_HOT = state_is(PM.PM_HOT_STANDBY)

_STANDBY = (
    Property(
        name="a_promotion_ends_in_pm_run",
        ids=("INV-105", "RC-12", "TF-01"),
        doc="A promotion that was asked for opens the server for writers, unless it crashes, exits "
        "or is asked to shut down.",
        source="postmaster.c: process_pm_pmsignal(); xlogrecovery.c: CheckForStandbyTrigger()",
        given=ALIVE & STANDBY & SIGNAL_FILE & PROMOTE_FILE & _IN_RECOVERY & ~PENDING & ~FATAL_ERROR,
        then=_INTERRUPTED | state_is(PM.PM_RUN),
        fairness=(F1, F2, F6),
        exception=f"18: {_NO_STARTUP}; the request to a slotsync worker that is starting is lost",
    ),
    Property(
        name="a_consistent_standby_opens",
        ids=("RC-05", "TR18-03", "PG-20"),
        doc="When the startup process has reported that sessions may read, the server opens.",
        source="postmaster.c: process_pm_pmsignal()",
        given=ALIVE & BEGIN_HOT_STANDBY & _IN_RECOVERY & ~PENDING & ~FATAL_ERROR,
        then=_INTERRUPTED | _HOT | state_is(PM.PM_RUN),
        fairness=(F1,),
        exception=f"18: {_NO_STARTUP}",
    ),
    Property(
        name="a_requested_walreceiver_is_launched",
        ids=("INV-98", "PR-08", "RC-15"),
        doc="A walreceiver that the startup process has asked for is launched, also in a smart "
        "shutdown of a hot standby.",
        source="postmaster.c: LaunchMissingBackgroundProcesses()",
        given=WAL_RECEIVER_REQUESTED
        & _IN_RECOVERY
        & (SHUTDOWN <= Shutdown.SmartShutdown)
        & none_recorded(Kind.WAL_RECEIVER),
        then=recorded(Kind.WAL_RECEIVER) | ~_IN_RECOVERY | (SHUTDOWN > Shutdown.SmartShutdown),
        fairness=(F1, F6),
    ),
    Property(
        name="a_hot_standby_receives",
        ids=("RC-15", "INV-98"),
        doc="A streaming hot standby that replays WAL has a walreceiver again and again.",
        source="xlogrecovery.c: WaitForWALToBecomeAvailable()",
        given=ALIVE & STANDBY & STREAMING & _HOT & (REPLAY == Replay.READABLE) & ~PENDING,
        then=_INTERRUPTED | ~_HOT | (REPLAY != Replay.READABLE) | (WALRCV == WalRcv.STREAMING),
        fairness=(F1, F2, F6),
    ),
    Property(
        name="a_missing_slotsync_worker_is_replaced",
        ids=("INV-98", "PR-10"),
        doc="In PM_HOT_STANDBY a missing slotsync worker is launched eventually.",
        source="postmaster.c: LaunchMissingBackgroundProcesses()",
        given=ALIVE & SYNC_SLOTS & _HOT & none_recorded(Kind.SLOTSYNC_WORKER) & ~PENDING,
        then=_INTERRUPTED | ~_HOT | recorded(Kind.SLOTSYNC_WORKER),
        fairness=(F1, F6),
    ),
    Property(
        name="replication_processes_end_with_recovery",
        ids=("RC-20", "INV-42", "WS-22"),
        doc="In PM_RUN a walreceiver or slotsync worker that is left over exits and is reaped.",
        source="xlogrecovery.c: FinishWalRecovery()",
        given=state_is(PM.PM_RUN) & recorded(Kind.WAL_RECEIVER, Kind.SLOTSYNC_WORKER),
        then=~state_is(PM.PM_RUN) | none_recorded(Kind.WAL_RECEIVER, Kind.SLOTSYNC_WORKER),
        fairness=(F1, F2),
    ),
    Property(
        name="a_recovery_target_is_obeyed",
        ids=("RC-09", "RC-10", "INV-96"),
        doc="Archive recovery with a reachable target opens the server, pauses, or ends it.",
        source="xlogrecovery.c: PerformWalRecovery()",
        given=ALIVE
        & (TARGET != Target.NONE)
        & SIGNAL_FILE
        & REDO
        & _IN_RECOVERY
        & ~PENDING
        & ~FATAL_ERROR,
        then=_INTERRUPTED | state_is(PM.PM_RUN) | (REPLAY == Replay.PAUSED),
        fairness=(F1, F2, F6),
        exception=f"18: {_NO_STARTUP}; the request to a slotsync worker that is starting is lost",
    ),
    Property(
        name="a_stop_at_the_target_ends",
        ids=("RC-10", "TR18-06", "MM-21"),
        doc="After the startup process has asked for a shutdown the postmaster exits.",
        source="postmaster.c: process_pm_child_exit()",
        given=ALIVE & STOPPED_AT_TARGET,
        then=EXITED,
        fairness=(F1, F2, F3, F5, F6),
        exception="18: the exit may be reaped in the PM_STARTUP after a crash, before the message "
        "that redo has begun is read; FatalError is then left over, and the postmaster waits for "
        "checkpointer and io workers, which ignore its SIGTERM",
    ),
)

PROPERTIES = (
    Property(
        name="every_immediate_shutdown_ends",
        ids=("INV-90", "TR18-18", "SL-05"),
        doc="Every immediate shutdown ends, even if no child reacts to SIGQUIT.",
        source="postmaster.c: ServerLoop(), PostmasterStateMachine()",
        given=ALIVE & (SHUTDOWN == Shutdown.ImmediateShutdown),
        then=EXITED,
        fairness=(F1, F3),
        exception="15: a dead-end child gets neither SIGQUIT nor SIGKILL; 18: one that was forked "
        "after the only SIGKILL round gets SIGQUIT but never SIGKILL",
    ),
    _ends(Shutdown.FastShutdown),
    _ends(Shutdown.SmartShutdown),
    Property(
        name="a_smart_shutdown_without_sessions_ends",
        ids=("INV-93", "SM-01", "SM-20"),
        doc="A smart shutdown without sessions ends without a step of any client.",
        source="postmaster.c: PostmasterStateMachine()",
        given=ALIVE & (SHUTDOWN == Shutdown.SmartShutdown) & none_recorded(Kind.BACKEND),
        then=EXITED | (SHUTDOWN > Shutdown.SmartShutdown),
        fairness=(F1, F2, F3, F5, F6),
        exception=_HANGS,
    ),
    Property(
        name="every_crash_restart_ends",
        ids=("INV-94", "CR-20", "CR-23"),
        doc="After a crash with restart_after_crash on the server opens or begins recovery, the "
        "postmaster exits, or a shutdown is requested.",
        source="postmaster.c: HandleChildCrash(), PostmasterStateMachine()",
        given=ALIVE & FATAL_ERROR & RESTART_AFTER_CRASH & ~PENDING,
        then=EXITED | PENDING | ~FATAL_ERROR,
        fairness=(F1, F3, RECOVERY_ENDS, F6),
        exception="18: when the startup process fails in the PM_STARTUP after a crash, the server "
        "stays there for ever; 15: SIGKILL is not sent to a stuck dead-end child",
    ),
    Property(
        name="a_crash_without_restart_ends_the_server",
        ids=("INV-95", "CR-22"),
        doc="After a crash with restart_after_crash off the postmaster exits.",
        source="postmaster.c: PostmasterStateMachine()",
        given=ALIVE & FATAL_ERROR & ~RESTART_AFTER_CRASH,
        then=EXITED | ~FATAL_ERROR,
        fairness=(F1, F3, RECOVERY_ENDS, F6),
        exception="15: SIGKILL is not sent to a stuck dead-end child",
    ),
    Property(
        name="every_start_opens_or_ends",
        ids=("INV-96", "TR18-04"),
        doc="After a start the server opens, a standby with hot_standby off begins recovery, or "
        "the server crashes, exits or is asked to shut down.",
        source="postmaster.c: PostmasterMain()",
        given=ALIVE & state_is(PM.PM_STARTUP) & ~FATAL_ERROR,
        then=EXITED
        | PENDING
        | FATAL_ERROR
        | state_is(PM.PM_RUN, PM.PM_HOT_STANDBY)
        | (_WARM & state_is(PM.PM_RECOVERY)),
        fairness=(F1, F2, F6),
    ),
    Property(
        name="every_recovery_ends",
        ids=("INV-96", "TR18-04", "MM-08"),
        doc="After PM_RECOVERY the server opens, crashes or exits, or a shutdown is requested, "
        "unless it is a standby with hot_standby off.",
        source="postmaster.c: process_pm_pmsignal()",
        given=ALIVE & state_is(PM.PM_RECOVERY) & ~_WARM,
        then=EXITED | PENDING | FATAL_ERROR | state_is(PM.PM_RUN, PM.PM_HOT_STANDBY),
        fairness=(F1, F2, F6),
        exception="18: the postmaster may reap the startup process of a crash restart before it "
        "reads its RECOVERY_STARTED, and then stays in PM_RECOVERY without one for ever",
    ),
    Property(
        name="every_zombie_is_reaped",
        ids=("INV-101", "RP-01"),
        doc="Every child that exits is reaped eventually.",
        source="postmaster.c: process_pm_child_exit()",
        given=ALIVE & ~NO_ZOMBIE,
        then=EXITED | NO_ZOMBIE,
        fairness=(F1,),
    ),
    Property(
        name="a_missing_walwriter_is_replaced",
        ids=("INV-98", "PR-04", "SL-03"),
        doc="In PM_RUN a missing walwriter is launched eventually.",
        source="postmaster.c: LaunchMissingBackgroundProcesses()",
        given=WRITERS & state_is(PM.PM_RUN) & (LIFE[Kind.WAL_WRITER] == Life.ABSENT),
        then=recorded(Kind.WAL_WRITER) | ~state_is(PM.PM_RUN),
        fairness=(F1, F6),
    ),
    Property(
        name="a_missing_archiver_is_replaced",
        ids=("INV-98", "PR-07", "AR-06"),
        doc="In PM_RUN with archive_mode on or always a missing archiver is launched eventually.",
        source="postmaster.c: LaunchMissingBackgroundProcesses()",
        given=state_is(PM.PM_RUN)
        & (ARCHIVE_MODE != ArchiveMode.OFF)
        & (LIFE[Kind.ARCHIVER] == Life.ABSENT),
        then=recorded(Kind.ARCHIVER) | ~state_is(PM.PM_RUN),
        fairness=(F1, F6),
    ),
    Property(
        name="a_missing_summarizer_is_replaced",
        ids=("INV-98", "WS-02"),
        doc="In PM_RUN with summarize_wal on a missing WAL summarizer is launched eventually.",
        source="postmaster.c: LaunchMissingBackgroundProcesses()",
        given=state_is(PM.PM_RUN) & SUMMARIZE_WAL & (LIFE[Kind.WAL_SUMMARIZER] == Life.ABSENT),
        then=recorded(Kind.WAL_SUMMARIZER) | ~state_is(PM.PM_RUN),
        fairness=(F1, F6),
    ),
    *(_starts(kind) for kind in WORKERS),
    Property(
        name="a_reload_changes_the_number_of_io_workers",
        ids=("INV-107", "IO-02", "IO-04"),
        doc="In PM_RUN the pool of io workers becomes as large as io_workers says.",
        source="postmaster.c: maybe_adjust_io_workers()",
        given=state_is(PM.PM_RUN) & (number(Kind.IO_WORKER) != WANTED),
        then=~state_is(PM.PM_RUN) | (number(Kind.IO_WORKER) == WANTED),
        fairness=(F1, F2, F6),
    ),
    Property(
        name="a_failed_start_of_an_autovacuum_worker_is_repeated",
        ids=("INV-106", "AV-10"),
        doc="When an autovacuum worker could not be started the launcher asks again.",
        source="postmaster.c: StartAutovacuumWorker()",
        given=_VACUUMING & FORK_FAILED,
        then=~_VACUUMING | ~FORK_FAILED,
        fairness=(F1, F2),
    ),
    Property(
        name="every_request_for_an_autovacuum_worker_is_answered",
        ids=("INV-106", "INV-51", "AV-02"),
        doc="While the launcher runs and fork() works again, a worker takes the entry that waits.",
        source="autovacuum.c: do_start_worker()",
        given=_VACUUMING & STARTING & START_AUTOVAC_WORKER,
        then=~_VACUUMING | ~STARTING,
        fairness=(F1, F2, F6),
    ),
    Property(
        name="the_wait_for_archiver_and_walsenders_ends",
        ids=("INV-91", "SM-07", "SH-20", "SH-21"),
        doc="The state that waits for archiver and walsenders ends.",
        source=_SM,
        given=ALIVE & state_is(*_AFTER_WAL_STATES) & recorded(*AFTER_WAL),
        then=EXITED | ~state_is(*_AFTER_WAL_STATES),
        fairness=(F1, F2, F3, F5, F6),
    ),
    Property(
        name="wait_dead_end_ends",
        ids=("INV-110", "SM-09", "SM-23"),
        doc="PM_WAIT_DEAD_END ends if children exit at signals and dead-end children time out.",
        source="postmaster.c: PostmasterStateMachine()",
        given=ALIVE & state_is(PM.PM_WAIT_DEAD_END),
        then=EXITED | ~state_is(PM.PM_WAIT_DEAD_END),
        fairness=(F1, F2, F3, F6),
    ),
    *_STANDBY,
)
