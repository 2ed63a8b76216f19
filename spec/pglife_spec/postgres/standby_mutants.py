"""Wrong models of archive recovery, each with one change, and the claim that must fail.

Begin with STANDBY_MUTANTS.
"""

from pglife_spec.lang.declare import mutant
from pglife_spec.lang.expr import show
from pglife_spec.lang.machine import Machine
from pglife_spec.lang.mutate import (
    rewrite,
    sets,
    with_value,
    without_condition,
    without_effect,
    without_guard,
)
from pglife_spec.postgres.children.startup import ENDS_ARCHIVE_RECOVERY
from pglife_spec.postgres.state.history import PROMOTED
from pglife_spec.postgres.state.postmaster import CONNS_ALLOWED, PID_FILE, SHUTDOWN, STATE
from pglife_spec.postgres.state.shared import (
    CONTROL,
    NEW_TIMELINE,
    SIGNAL_FILE,
    SLOT_SYNC,
    WALRCV,
)
from pglife_spec.postgres.words import PM, Control, PidFile, Shutdown
from pglife_spec.postgres.words.parameters import HOT_STANDBY, STREAMING
from pglife_spec.postgres.words.recovery import SlotSync, WalRcv
from pglife_spec.postgres.words.repairs import REPAIR_PROMOTE_FILE

_PMSIGNAL = frozenset({"process_pmsignal"})
_REAP = frozenset({"reap_startup"})


@mutant("a_hot_standby_has_a_startup_process", "standby-15")
def failed_startup_keeps_the_readers(m: Machine) -> Machine:
    """The crash of the startup process leaves pmState as it is."""
    return without_effect(m, STATE, PM.PM_WAIT_BACKENDS, _REAP)


@mutant("sessions_read_only_a_consistent_standby", "standby-18")
def consistency_is_not_waited_for(m: Machine) -> Machine:
    """RECOVERY_STARTED opens the server for readers."""
    return with_value(m, STATE, PM.PM_RECOVERY, PM.PM_HOT_STANDBY, _PMSIGNAL)


@mutant("no_session_reads_with_hot_standby_off", "warm-standby-18")
def hot_standby_off_is_ignored(m: Machine) -> Machine:
    """The startup process reports consistency to the postmaster in any case."""
    return without_guard(m, "startup_reaches_consistency", show(HOT_STANDBY))


@mutant("only_archive_recovery_admits_readers", "tiny-18")
def crash_recovery_admits_readers(m: Machine) -> Machine:
    """The postmaster opens for readers when crash recovery begins."""
    return with_value(m, STATE, PM.PM_RECOVERY, PM.PM_HOT_STANDBY, _PMSIGNAL)


@mutant("the_pid_file_says_ready_in_hot_standby", "standby-18")
def readers_are_not_announced(m: Machine) -> Machine:
    """PM_HOT_STANDBY does not write "ready" (a crash restart hides it, a first start does not)."""
    return without_effect(m, PID_FILE, PidFile.READY, _PMSIGNAL)


@mutant("the_pid_file_says_standby_where_no_session_can_read", "warm-standby-18")
def warm_standby_stays_starting(m: Machine) -> Machine:
    """With hot_standby off the pid file goes on to say "starting"."""
    return without_effect(m, PID_FILE, PidFile.STANDBY)


@mutant("a_hot_standby_is_in_archive_recovery_on_disk", "standby-18")
def promotion_is_not_recorded(m: Machine) -> Machine:
    """The end of archive recovery does not change the control file."""
    return without_effect(m, CONTROL, Control.IN_PRODUCTION)


@mutant("a_standby_ends_recovery_only_when_asked", "standby-18")
def standby_ends_at_the_end_of_wal(m: Machine) -> Machine:
    """A standby ends redo by itself, as archive recovery does."""
    guards = next(a for a in m.actions if a.family == "startup_ends_redo_at_target").guards
    return without_guard(m, "startup_ends_redo_at_target", show(guards[-1]))


@mutant("the_signal_file_stays_until_recovery_ends", "standby-18-repaired")
def signal_file_is_never_removed(m: Machine) -> Machine:
    """A promotion does not remove standby.signal, and recovery ends all the same."""
    return without_effect(m, SIGNAL_FILE, False)


@mutant("a_promotion_needs_its_file", "standby-18")
def promotion_happens_unasked(m: Machine) -> Machine:
    """Recovery that is left alone promotes itself."""
    return without_effect(m, PROMOTED, True)


@mutant("recovery_ends_without_a_walreceiver", "streaming-18")
def walreceiver_is_not_awaited(m: Machine) -> Machine:
    """Archive recovery ends without waiting for the walreceiver's end."""
    return without_guard(m, "startup_removes_signal_file", show(ENDS_ARCHIVE_RECOVERY))


@mutant("recovery_ends_without_a_slotsync_worker", "slot-sync-18")
def slotsync_worker_is_not_awaited(m: Machine) -> Machine:
    """Archive recovery ends without waiting for the slotsync worker's end."""
    return without_guard(m, "startup_removes_signal_file", show(ENDS_ARCHIVE_RECOVERY))


@mutant("a_promotion_survives_a_crash", "standby-18-repaired")
def promotion_is_removed_as_soon_as_read(m: Machine) -> Machine:
    """The startup process removes the file promote when it reads it."""
    return without_condition(m, {show(~REPAIR_PROMOTE_FILE)}, {"startup_is_promoted"})


@mutant("archive_recovery_ends_on_a_new_timeline", "standby-18-repaired")
def new_timeline_is_not_recorded(m: Machine) -> Machine:
    """The control file does not learn of the new timeline."""
    return without_effect(m, NEW_TIMELINE, True)


@mutant("a_receiving_walreceiver_is_on_record", "streaming-18")
def walreceiver_dies_unnoticed(m: Machine) -> Machine:
    """A walreceiver that exits at SIGTERM does not say so in shared memory."""
    return without_effect(m, WALRCV, WalRcv.STOPPED, {"walreceiver_exits_at_sigterm"})


@mutant("a_slotsync_worker_at_work_is_on_record", "slot-sync-18")
def slotsync_worker_dies_unnoticed(m: Machine) -> Machine:
    """A slotsync worker that exits at SIGTERM does not say so in shared memory."""
    return without_effect(m, SLOT_SYNC, SlotSync.STOPPED, {"slotsync_worker_exits_at_sigterm"})


@mutant("unwanted_replication_processes_do_not_exist", "standby-18")
def walreceiver_without_a_primary(m: Machine) -> Machine:
    """The startup process asks for a walreceiver although primary_conninfo is empty."""
    guard = next(a for a in m.actions if a.family == "startup_requests_walreceiver").guards[0]
    assert STREAMING.name in show(guard)
    return without_guard(m, "startup_requests_walreceiver", show(guard))


@mutant("only_a_recovery_target_makes_exit_3", "standby-18")
def exit_3_without_a_target(m: Machine) -> Machine:
    """The startup process asks for a shutdown when it has replayed all WAL."""
    guards = next(a for a in m.actions if a.family == "startup_exits_at_target").guards
    return without_guard(m, "startup_exits_at_target", show(guards[-1]))


@mutant("a_stop_at_the_target_is_a_shutdown", "recovery-target-18")
def exit_3_is_no_request(m: Machine) -> Machine:
    """Exit code 3 stops the children, but Shutdown stays as it was."""
    return without_effect(m, SHUTDOWN, Shutdown.SmartShutdown, _REAP)


@mutant("a_server_that_stops_in_recovery_says_so_on_disk", "recovery-target-18")
def stop_in_recovery_is_clean(m: Machine) -> Machine:
    """The restartpoint of a shutdown in recovery writes "shut down": the next start redoes
    nothing."""
    done = CONTROL.becomes(Control.SHUT_DOWN)
    families = {"checkpointer_finishes_shutdown_checkpoint"}
    return rewrite(m, lambda e: done if sets(e, CONTROL) else e, families)


@mutant("a_shutdown_before_hot_standby_opens_nothing", "standby-18")
def smart_request_admits_readers(m: Machine) -> Machine:
    """A smart request in PM_HOT_STANDBY leaves sessions allowed."""
    return without_effect(m, CONNS_ALLOWED, False)


@mutant("an_orderly_shutdown_has_signaled_whom_it_awaits", "standby-18-repaired")
def exit_in_smart_sends_no_signal(m: Machine) -> Machine:
    """When the startup process of a hot standby exits in a smart shutdown, nothing is sent to the
    others (W1)."""
    return with_value(m, STATE, PM.PM_STOP_BACKENDS, PM.PM_WAIT_BACKENDS, _REAP)


@mutant("a_running_server_has_no_signal_file", "standby-18")
def standby_opens_for_writers_at_consistency(m: Machine) -> Machine:
    """BEGIN_HOT_STANDBY leads to PM_RUN."""
    return with_value(m, STATE, PM.PM_HOT_STANDBY, PM.PM_RUN, _PMSIGNAL)


STANDBY_MUTANTS = (
    failed_startup_keeps_the_readers,
    consistency_is_not_waited_for,
    hot_standby_off_is_ignored,
    crash_recovery_admits_readers,
    readers_are_not_announced,
    warm_standby_stays_starting,
    promotion_is_not_recorded,
    standby_ends_at_the_end_of_wal,
    signal_file_is_never_removed,
    promotion_happens_unasked,
    promotion_is_removed_as_soon_as_read,
    walreceiver_is_not_awaited,
    new_timeline_is_not_recorded,
    slotsync_worker_is_not_awaited,
    walreceiver_dies_unnoticed,
    slotsync_worker_dies_unnoticed,
    walreceiver_without_a_primary,
    exit_3_without_a_target,
    exit_3_is_no_request,
    stop_in_recovery_is_clean,
    smart_request_admits_readers,
    exit_in_smart_sends_no_signal,
    standby_opens_for_writers_at_consistency,
)
