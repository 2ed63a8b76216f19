"""Claims about archive recovery: standby, recovery target, promotion, walreceiver, slotsync worker.

Begin with a_hot_standby_has_a_startup_process. Those about what the shutdown of a standby waits for
come last.
"""

from pglife_spec.lang.declare import Statement, claim
from pglife_spec.lang.expr import all_of, any_of, implies, in_
from pglife_spec.postgres.claims.common import NEW_CRASH
from pglife_spec.postgres.state.children import LIFE, none_recorded, recorded, some_in
from pglife_spec.postgres.state.history import PROMOTED, STOPPED_AT_TARGET, TAINTED
from pglife_spec.postgres.state.postmaster import (
    ALIVE,
    CONNS_ALLOWED,
    CRASH_OR_IMMEDIATE,
    EXIT,
    IMMEDIATE,
    PENDING,
    PID_FILE,
    PROMOTE_REQUEST,
    SHUTDOWN,
    WAL_RECEIVER_REQUESTED,
    state_is,
)
from pglife_spec.postgres.state.shared import (
    BEGIN_HOT_STANDBY,
    CONTROL,
    NEW_TIMELINE,
    PROMOTE_FILE,
    PROMOTE_SIGNALED,
    RECOVERED,
    REDO,
    REPLAY,
    SIGNAL_FILE,
    SLOT_SYNC,
    START_WALRECEIVER,
    WALRCV,
)
from pglife_spec.postgres.words import PM, Control, Exit, Kind, Life, PidFile, Shutdown
from pglife_spec.postgres.words.kinds import TARGETS
from pglife_spec.postgres.words.parameters import (
    HOT_STANDBY,
    STANDBY,
    STRAY_SIGNALS,
    STREAMING,
    SYNC_SLOTS,
    TARGET,
)
from pglife_spec.postgres.words.recovery import Replay, SlotSync, Target, WalRcv
from pglife_spec.postgres.words.releases import Feature, has
from pglife_spec.postgres.words.repairs import (
    REPAIR_PROMOTE_FILE,
    REPAIR_SIGNAL_FILE,
    REPAIR_STARTUP_EXIT_IN_SMART,
)

_HOT = state_is(PM.PM_HOT_STANDBY)
_REDO_HAS_ENDED = in_(REPLAY, Replay.PROMOTED, Replay.AT_TARGET)
_ARCHIVE_RECOVERY = STANDBY | (TARGET != Target.NONE)
_REAPER = "postmaster.c: process_pm_child_exit()"
_PMSIGNAL = "postmaster.c: process_pm_pmsignal()"
_LAUNCH = "postmaster.c: LaunchMissingBackgroundProcesses()"
_STARTUP = "xlog.c: StartupXLOG()"


@claim(
    "INV-14",
    "RC-20",
    "RC-24",
    source=_REAPER,
    exception="18 without the repair: a startup process that reports consistency and dies before "
    "the postmaster looks, in the PM_STARTUP after a crash, leaves a hot standby without one",
)
def a_hot_standby_has_a_startup_process() -> Statement:
    """In PM_HOT_STANDBY a startup process is on record."""
    here = _HOT & NEW_CRASH
    return Statement(holds=implies(here, recorded(Kind.STARTUP)), reaches=here)


@claim("RC-05", "TR18-03", "PG-03", source="xlogrecovery.c: CheckRecoveryConsistency()")
def sessions_read_only_a_consistent_standby() -> Statement:
    """In PM_HOT_STANDBY the startup process has reported that sessions may read, since shared
    memory was made."""
    return Statement(holds=implies(_HOT, REDO & (REPLAY != Replay.INCONSISTENT)), reaches=_HOT)


@claim("RC-06", "CN-04", source=_PMSIGNAL)
def no_session_reads_with_hot_standby_off() -> Statement:
    """With hot_standby off the server never enters PM_HOT_STANDBY."""
    off = ~HOT_STANDBY & SIGNAL_FILE & state_is(PM.PM_RECOVERY)
    return Statement(holds=implies(~HOT_STANDBY, ~_HOT), reaches=off)


@claim("RC-01", "TR-90", "RC-05", source="xlogrecovery.c: InitWalRecovery()")
def only_archive_recovery_admits_readers() -> Statement:
    """Without standby.signal or recovery.signal at the first start the server never enters
    PM_HOT_STANDBY, and asks for no walreceiver."""
    wanted = START_WALRECEIVER | WAL_RECEIVER_REQUESTED | (WALRCV != WalRcv.STOPPED)
    return Statement(
        holds=implies(~_ARCHIVE_RECOVERY, ~_HOT & ~BEGIN_HOT_STANDBY & ~wanted & ~SIGNAL_FILE),
        reaches=~_ARCHIVE_RECOVERY & state_is(PM.PM_RECOVERY),
    )


@claim("INV-25", "SH-40", "TR18-03", source=_PMSIGNAL)
def the_pid_file_says_ready_in_hot_standby() -> Statement:
    """In PM_HOT_STANDBY without a shutdown pending line 8 of the pid file is "ready", and sessions
    are allowed."""
    here = _HOT & ~PENDING
    return Statement(holds=implies(here, (PID_FILE == PidFile.READY) & CONNS_ALLOWED), reaches=here)


@claim("INV-25", "SH-40", "RC-06", source=_PMSIGNAL)
def the_pid_file_says_standby_where_no_session_can_read() -> Statement:
    """Line 8 of the pid file is "standby" in PM_RECOVERY with hot_standby off, and with hot_standby
    on never."""
    here = ~HOT_STANDBY & state_is(PM.PM_RECOVERY) & ~PENDING
    says = PID_FILE == PidFile.STANDBY
    return Statement(
        holds=implies(here, says) & implies(HOT_STANDBY, ~says), reaches=here & SIGNAL_FILE
    )


@claim("CT-20", "RC-17", source=_STARTUP)
def a_hot_standby_is_in_archive_recovery_on_disk() -> Statement:
    """In PM_HOT_STANDBY the control file says "in archive recovery", or "in production" when
    recovery is over."""
    archive = CONTROL == Control.IN_ARCHIVE_RECOVERY
    return Statement(
        holds=implies(
            _HOT & ~STRAY_SIGNALS,
            (~RECOVERED & archive) | (RECOVERED & (CONTROL == Control.IN_PRODUCTION)),
        ),
        reaches=_HOT & ~RECOVERED & ~STRAY_SIGNALS,
    )


@claim("RC-01", "RC-12", "INV-105", source="xlogrecovery.c: CheckForStandbyTrigger()")
def a_standby_ends_recovery_only_when_asked() -> Statement:
    """A standby without a recovery target removes standby.signal, and opens for writers, only after
    someone has asked for a promotion."""
    left = STANDBY & (TARGET == Target.NONE) & (~SIGNAL_FILE | state_is(PM.PM_RUN))
    return Statement(holds=implies(left, PROMOTED), reaches=left)


@claim("TF-05", "RC-12", source=_STARTUP)
def the_signal_file_stays_until_recovery_ends() -> Statement:
    """While standby.signal or recovery.signal exists recovery is not over."""
    return Statement(holds=implies(SIGNAL_FILE, ~RECOVERED), reaches=SIGNAL_FILE & REDO)


@claim("TF-01", "MM-23", "PG-11", source="xlogrecovery.c: CheckForStandbyTrigger()")
def a_promotion_needs_its_file() -> Statement:
    """SIGUSR1 of a promotion is pending, or redo was ended by one, only if someone asked."""
    ended = REPLAY == Replay.PROMOTED
    return Statement(
        holds=implies(PROMOTE_REQUEST | PROMOTE_FILE | PROMOTE_SIGNALED | ended, PROMOTED),
        reaches=ended,
    )


@claim("RC-20", "INV-42", "RC-12", source="xlogrecovery.c: FinishWalRecovery()")
def recovery_ends_without_a_walreceiver() -> Statement:
    """When recovery is over no walreceiver receives, and none is awaited."""
    return Statement(
        holds=implies(RECOVERED, WALRCV == WalRcv.STOPPED),
        reaches=RECOVERED & _REDO_HAS_ENDED & recorded(Kind.WAL_RECEIVER),
    )


@claim("RC-20", "INV-42", "WS-22", source="slotsync.c: ShutDownSlotSync()")
def recovery_ends_without_a_slotsync_worker() -> Statement:
    """When recovery is over no slotsync worker is at work."""
    stopped = SLOT_SYNC == SlotSync.STOPPED
    wanted = SYNC_SLOTS & RECOVERED & _REDO_HAS_ENDED
    return Statement(
        holds=implies(RECOVERED, stopped), reaches=~has(Feature.SLOTSYNC_WORKER) | wanted
    )


@claim("RC-15", "PR-08", source="walreceiver.c: WalRcvDie()")
def a_receiving_walreceiver_is_on_record() -> Statement:
    """If shared memory says that a walreceiver receives, one is on record, or it has crashed."""
    said = in_(WALRCV, WalRcv.STREAMING, WalRcv.STOPPING)
    return Statement(
        holds=implies(said & ALIVE, recorded(Kind.WAL_RECEIVER) | TAINTED), reaches=said & ALIVE
    )


@claim("WS-22", "PR-10", source="slotsync.c: slotsync_worker_onexit()")
def a_slotsync_worker_at_work_is_on_record() -> Statement:
    """If shared memory says that a slotsync worker is at work, one is on record, or it has
    crashed."""
    working = SLOT_SYNC != SlotSync.STOPPED
    return Statement(
        holds=implies(working & ALIVE, recorded(Kind.SLOTSYNC_WORKER) | TAINTED),
        reaches=~has(Feature.SLOTSYNC_WORKER) | (working & ALIVE),
    )


@claim("RC-15", "PR-08", "PR-10", source=_LAUNCH)
def unwanted_replication_processes_do_not_exist() -> Statement:
    """Without primary_conninfo there is never a walreceiver, and without sync_replication_slots
    never a slotsync worker."""
    return Statement(
        holds=all_of(
            implies(~(STANDBY & STREAMING), none_recorded(Kind.WAL_RECEIVER)),
            implies(~SYNC_SLOTS, none_recorded(Kind.SLOTSYNC_WORKER)),
        ),
        reaches=_HOT & (~(STANDBY & STREAMING) | ~SYNC_SLOTS),
    )


@claim("RC-09", "INV-79", "RC-10", source="xlogrecovery.c: PerformWalRecovery()")
def only_a_recovery_target_makes_exit_3() -> Statement:
    """The startup process exits with 3 only at a recovery target, which recovery_target_action
    makes a shutdown; the signal file still exists then."""
    asks = in_(TARGET, Target.SHUTDOWN, Target.PAUSE)
    exited = LIFE[Kind.STARTUP] == Life.EXITED_3
    return Statement(holds=implies(exited, asks & SIGNAL_FILE & REDO), reaches=exited)


@claim("RC-10", "TR18-06", "SV-01", source=_REAPER)
def a_stop_at_the_target_is_a_shutdown() -> Statement:
    """After the startup process has asked for a shutdown one is pending, and the server never opens
    again."""
    closed = ~state_is(PM.PM_STARTUP, PM.PM_RECOVERY, PM.PM_HOT_STANDBY, PM.PM_RUN)
    return Statement(
        holds=implies(STOPPED_AT_TARGET, (SHUTDOWN >= Shutdown.SmartShutdown) & closed),
        reaches=STOPPED_AT_TARGET & ALIVE,
    )


@claim("RC-10", "RC-17", "RC-18", "INV-71", source="xlog.c: ShutdownXLOG()")
def a_server_that_stops_in_recovery_says_so_on_disk() -> Statement:
    """After an orderly exit the control file says "shut down in recovery" if recovery was not over,
    and "shut down" otherwise."""
    here = (EXIT == Exit.EXITED_0) & ~IMMEDIATE & ~STRAY_SIGNALS
    return Statement(
        holds=implies(
            here,
            (RECOVERED & (CONTROL == Control.SHUT_DOWN))
            | (~RECOVERED & (CONTROL == Control.SHUT_DOWN_IN_RECOVERY)),
        ),
        reaches=here & ~RECOVERED & SIGNAL_FILE,
    )


@claim("PG-22", "TR18-03", "INV-11", source=_PMSIGNAL)
def a_shutdown_before_hot_standby_opens_nothing() -> Statement:
    """A fast shutdown is never pending in PM_HOT_STANDBY, and a smart one only with sessions
    disallowed."""
    return Statement(
        holds=implies(_HOT & PENDING, (SHUTDOWN == Shutdown.SmartShutdown) & ~CONNS_ALLOWED),
        reaches=_HOT & PENDING,
    )


@claim(
    "SM-02",
    "SM-03",
    "TR18-05",
    "RC-17",
    source="postmaster.c: PostmasterStateMachine(), process_pm_child_exit()",
    exception="without the repair: when the startup process of a hot standby exits in a smart "
    "shutdown, the postmaster waits for children to which it has sent nothing",
)
def an_orderly_shutdown_has_signaled_whom_it_awaits() -> Statement:
    """In PM_WAIT_BACKENDS without a crash SIGTERM was sent to every child that it waits for."""
    here = state_is(PM.PM_WAIT_BACKENDS) & ~CRASH_OR_IMMEDIATE & ALIVE
    running = any_of(*(some_in(kind, Life.RUNNING) for kind in TARGETS))
    return Statement(
        holds=implies(REPAIR_STARTUP_EXIT_IN_SMART & here, ~running),
        reaches=REPAIR_STARTUP_EXIT_IN_SMART & here & recorded(*TARGETS),
    )


@claim("TF-05", "RC-12", "RC-20", source=_STARTUP)
def a_running_server_has_no_signal_file() -> Statement:
    """In PM_RUN there is neither standby.signal nor recovery.signal."""
    here = state_is(PM.PM_RUN)
    return Statement(holds=implies(here, ~SIGNAL_FILE), reaches=here & _REDO_HAS_ENDED)


@claim(
    "TF-05",
    "RC-12",
    source=_STARTUP,
    exception="without the repair: a crash or a fast shutdown between the removal of the signal "
    "file and the record of the new timeline makes a primary on the old one",
)
def archive_recovery_ends_on_a_new_timeline() -> Statement:
    """A server that was started for archive recovery opens for writers only when the control file
    knows its new timeline."""
    here = REPAIR_SIGNAL_FILE & _ARCHIVE_RECOVERY & state_is(PM.PM_RUN)
    return Statement(holds=implies(here, NEW_TIMELINE), reaches=here)


@claim(
    "RC-12",
    "TF-01",
    "MM-23",
    source="xlogrecovery.c: CheckForStandbyTrigger()",
    exception="without the repair: the startup process removes the file promote when it reads it, "
    "and a crash before recovery has ended forgets the request",
)
def a_promotion_survives_a_crash() -> Statement:
    """While a standby that was asked to become a primary has standby.signal, it has the file
    promote, or a startup process that has read it."""
    standby = ALIVE & STANDBY & (TARGET == Target.NONE) & SIGNAL_FILE
    here = REPAIR_PROMOTE_FILE & standby & PROMOTED
    read = REPLAY == Replay.PROMOTED
    return Statement(holds=implies(here, PROMOTE_FILE | read), reaches=here & read)


CLAIMS = (
    a_hot_standby_has_a_startup_process,
    sessions_read_only_a_consistent_standby,
    no_session_reads_with_hot_standby_off,
    only_archive_recovery_admits_readers,
    the_pid_file_says_ready_in_hot_standby,
    the_pid_file_says_standby_where_no_session_can_read,
    a_hot_standby_is_in_archive_recovery_on_disk,
    a_standby_ends_recovery_only_when_asked,
    the_signal_file_stays_until_recovery_ends,
    a_promotion_needs_its_file,
    recovery_ends_without_a_walreceiver,
    recovery_ends_without_a_slotsync_worker,
    a_receiving_walreceiver_is_on_record,
    a_slotsync_worker_at_work_is_on_record,
    unwanted_replication_processes_do_not_exist,
    only_a_recovery_target_makes_exit_3,
    a_stop_at_the_target_is_a_shutdown,
    a_server_that_stops_in_recovery_says_so_on_disk,
    a_shutdown_before_hot_standby_opens_nothing,
    an_orderly_shutdown_has_signaled_whom_it_awaits,
    a_running_server_has_no_signal_file,
    archive_recovery_ends_on_a_new_timeline,
    a_promotion_survives_a_crash,
)
