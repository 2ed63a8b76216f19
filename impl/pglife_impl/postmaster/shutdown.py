"""Shutdown and reload requests, and the flags that children set.

Begin with shutdown_requested(), reload_requested() and pmsignals_seen().

Source: postmaster.c: process_pm_shutdown_request(), process_pm_reload_request(),
process_pm_pmsignal(); rules SH-01..10, SG-02, PG-01..25, TR18-02, TR18-03, TR18-14..18.
"""

import signal

from pglife_impl.base.kinds import ALL_KINDS, Kind
from pglife_impl.base.pmsignal import PmSignal, QuitReason
from pglife_impl.base.words import Level, PidStatus
from pglife_impl.postmaster import crash, state_machine
from pglife_impl.postmaster.events import PmSignalsSeen
from pglife_impl.postmaster.requests import RemoveLogrotateFile, RereadConfiguration
from pglife_impl.postmaster.state import PM, Shutdown
from pglife_impl.postmaster.step import Deciding, Step


def shutdown_requested(step: Step, mode: Shutdown) -> Deciding[None]:
    """Begin a shutdown, or make it stronger; ignore a request that is not (SH-01, SH-02)."""
    step.log(Level.DEBUG2, "postmaster received shutdown request signal")
    if mode <= step.pm.shutdown:
        return
    step.pm.shutdown = mode
    step.log(Level.LOG, f"received {mode.name.lower()} shutdown request")
    step.pid_status(PidStatus.STOPPING)
    if mode is Shutdown.IMMEDIATE:
        quit_at_once(step)
    elif crash.starting_after_a_crash(step.pm):
        # DIFFERS: startup_shutdown_after_crash_quits. PostgreSQL enters PM_STOP_BACKENDS, where
        # FatalError, still true, adds checkpointer and io workers to those that get SIGTERM and
        # are waited for. They ignore SIGTERM, no timeout runs, and the shutdown never ends. We
        # send SIGQUIT to all children and start the SIGKILL timeout, as for a crash.
        crash.handle_fatal_error(step, QuitReason.FOR_STOP, consider_abort=False)
    elif step.pm.state in (PM.STARTUP, PM.RECOVERY):
        step.advance_to(PM.STOP_BACKENDS)  # there are no sessions to wait for: SH-05
    elif step.pm.state in (PM.RUN, PM.HOT_STANDBY):
        if mode is Shutdown.SMART:
            step.pm.conns_allowed = False
        else:
            step.log(Level.LOG, "aborting any active transactions")
            step.advance_to(PM.STOP_BACKENDS)
    yield from state_machine.run(step)


def quit_at_once(step: Step) -> None:
    """From any state: SIGQUIT to all children, PM_WAIT_BACKENDS, a new timeout (TR18-18)."""
    step.quit_reason(QuitReason.FOR_STOP)
    step.terminate_children(signal.SIGQUIT)
    step.advance_to(PM.WAIT_BACKENDS)
    step.pm.abort_start_time = int(step.now)


def reload_requested(step: Step) -> None:
    """Reread the files and send SIGHUP to the children, unless a fast shutdown runs (SG-02)."""
    step.log(Level.DEBUG2, "postmaster received reload request signal")
    if step.pm.shutdown > Shutdown.SMART:
        return
    step.log(Level.LOG, "received SIGHUP, reloading configuration files")
    step.ask(RereadConfiguration())
    step.signal_children(signal.SIGHUP, ALL_KINDS - {Kind.DEAD_END_BACKEND})


def pmsignals_seen(step: Step, event: PmSignalsSeen) -> Deciding[None]:
    """Serve the flags in PostgreSQL's order. A flag whose guard is false is lost (MM-09)."""
    step.log(Level.DEBUG2, "postmaster received pmsignal signal")
    reasons = event.reasons
    if PmSignal.RECOVERY_STARTED in reasons:
        recovery_started(step)
    if PmSignal.BEGIN_HOT_STANDBY in reasons:
        begin_hot_standby(step)
    if PmSignal.BACKGROUND_WORKER_CHANGE in reasons:
        step.pm.start_worker_needed = True
    rotate_log(step, event)
    if PmSignal.START_AUTOVAC_LAUNCHER in reasons:
        start_autovacuum_launcher(step)
    if PmSignal.XLOG_IS_SHUTDOWN in reasons:
        xlog_is_shutdown(step)
    if reasons & {PmSignal.XLOG_IS_SHUTDOWN, PmSignal.ADVANCE_STATE_MACHINE}:
        yield from state_machine.run(step)
    promotable = step.pm.state in (PM.STARTUP, PM.RECOVERY, PM.HOT_STANDBY)
    if event.promote_file and promotable:
        step.signal_children(signal.SIGUSR2, {Kind.STARTUP})


def recovery_started(step: Step) -> None:
    """Redo begins, which ends the reinitialization after a crash (TR18-02)."""
    if step.pm.state is not PM.STARTUP or step.pm.shutdown is not Shutdown.NO:
        return
    step.pm.fatal_error = False
    step.pm.abort_start_time = None
    if not step.config.hot_standby:
        step.pid_status(PidStatus.STANDBY)
    step.advance_to(PM.RECOVERY)


def begin_hot_standby(step: Step) -> None:
    """Accept read-only sessions (TR18-03)."""
    if step.pm.state is not PM.RECOVERY or step.pm.shutdown is not Shutdown.NO:
        return
    step.log(Level.LOG, "database system is ready to accept read-only connections")
    step.pid_status(PidStatus.READY)
    step.advance_to(PM.HOT_STANDBY)
    step.pm.conns_allowed = True
    step.pm.start_worker_needed = True


def rotate_log(step: Step, event: PmSignalsSeen) -> None:
    """Pass a request for rotation to the logger, if it runs (PG-05, TF-02)."""
    if step.pm.pid_of(Kind.LOGGER) is None:
        return
    if event.logrotate_file:
        step.signal_children(signal.SIGUSR1, {Kind.LOGGER})
        step.ask(RemoveLogrotateFile())
    elif PmSignal.ROTATE_LOGFILE in event.reasons:
        step.signal_children(signal.SIGUSR1, {Kind.LOGGER})


def start_autovacuum_launcher(step: Step) -> None:
    """Start a launcher although autovacuum is off: a backend is near wraparound (PG-06)."""
    if step.pm.shutdown <= Shutdown.SMART and step.pm.state < PM.STOP_BACKENDS:
        step.pm.start_autovac_launcher = True


def xlog_is_shutdown(step: Step) -> None:
    """The checkpointer has written the shutdown checkpoint (TR18-24, TR18-25).

    DIFFERS: xlog_shutdown_in_crash_startup_is_crash. In the PM_STARTUP after a crash FatalError is
    left over, and PostgreSQL ignores the message; but this checkpointer serves no more requests, so
    recovery waits for its last checkpoint for ever. We handle it as at any other wrong time.
    """
    if step.pm.state is PM.WAIT_XLOG_SHUTDOWN:
        step.advance_to(PM.WAIT_XLOG_ARCHIVAL)
    elif not crash.quitting(step.pm) or crash.starting_after_a_crash(step.pm):
        step.log(Level.LOG, "WAL was shut down unexpectedly")
        crash.handle_fatal_error(step, QuitReason.FOR_CRASH, consider_abort=False)
