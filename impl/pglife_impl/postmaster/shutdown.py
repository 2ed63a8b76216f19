"""Requests to stop, to reload, and the flags that children raise.

Begin with   shutdown_requested().
Owns         Shutdown, connsAllowed; what SIGHUP and SIGUSR1 lead to.
Leaves out   what follows when the children have gone (pm_machine.py).
Source       postmaster.c: process_pm_shutdown_request(), process_pm_reload_request(),
             process_pm_pmsignal(); rules SH-01..10, SG-02, PG-01..25, TR18-02, TR18-14..18.
"""

from __future__ import annotations

import signal

from pglife_impl.base.kinds import EVERYBODY, Kind
from pglife_impl.base.pmsignal import PmSignal, QuitReason
from pglife_impl.base.words import Level, PidStatus
from pglife_impl.postmaster import state_machine
from pglife_impl.postmaster.events import PmSignalsSeen, RemoveLogrotateFile, RereadConfiguration
from pglife_impl.postmaster.state import PM, Shutdown
from pglife_impl.postmaster.step import Step

WORDS = {Shutdown.SMART: "smart", Shutdown.FAST: "fast", Shutdown.IMMEDIATE: "immediate"}


def shutdown_requested(step: Step, level: Shutdown) -> None:
    """SH-01, SH-02: a stronger request than before counts; any other is dropped in silence."""
    if level <= step.pm.shutdown:
        return
    step.set(shutdown=level)
    step.log(Level.LOG, f"received {WORDS[level]} shutdown request")
    step.pid_status(PidStatus.STOPPING)
    if level is Shutdown.IMMEDIATE:
        stop_at_once(step)
    elif state_machine.starting_after_a_crash(step):
        stop_while_starting_after_a_crash(step)
    elif step.pm.state in (PM.STARTUP, PM.RECOVERY):
        step.advance_to(PM.STOP_BACKENDS)  # there are no sessions to wait for: SH-05
    elif step.pm.state in (PM.RUN, PM.HOT_STANDBY):
        if level is Shutdown.SMART:
            step.set(conns_allowed=False)
        else:
            step.log(Level.LOG, "aborting any active transactions")
            step.advance_to(PM.STOP_BACKENDS)
    state_machine.run(step)


def stop_at_once(step: Step) -> None:
    """TR18-18: QUIT to everybody, back to PM_WAIT_BACKENDS from wherever, the clock anew."""
    step.quit_reason(QuitReason.FOR_STOP)
    step.terminate_children(signal.SIGQUIT)
    step.advance_to(PM.WAIT_BACKENDS)
    step.set(abort_start_time=int(step.now))


def stop_while_starting_after_a_crash(step: Step) -> None:
    """Stop a server that is still recovering from a crash.

    DIFFERS: startup_shutdown_after_crash_quits. PostgreSQL goes to PM_STOP_BACKENDS, where
    FatalError, still true, puts checkpointer and io workers among those who get TERM and are
    waited for. They ignore TERM, no clock is running, and the shutdown never ends. We treat the
    request as the crash it follows: QUIT to everybody, with the clock armed.
    """
    state_machine.handle_fatal_error(step, QuitReason.FOR_STOP, consider_abort=False)


def reload_requested(step: Step) -> None:
    """SG-02: reread the files and pass SIGHUP on, unless a fast shutdown is under way."""
    step.log(Level.DEBUG2, "postmaster received reload request signal")
    if step.pm.shutdown > Shutdown.SMART:
        return
    step.log(Level.LOG, "received SIGHUP, reloading configuration files")
    step.ask(RereadConfiguration())
    step.signal_children(signal.SIGHUP, EVERYBODY - {Kind.DEAD_END_BACKEND})


def pmsignals_seen(step: Step, event: PmSignalsSeen) -> None:
    """7.1, in its order. A flag whose guard is false is lost (MM-09)."""
    step.log(Level.DEBUG2, "postmaster received pmsignal signal")
    reasons = event.reasons
    if PmSignal.RECOVERY_STARTED in reasons:
        recovery_started(step)
    if PmSignal.BEGIN_HOT_STANDBY in reasons:
        begin_hot_standby(step)
    if PmSignal.BACKGROUND_WORKER_CHANGE in reasons:
        step.set(start_worker_needed=True)
    rotate_log(step, event)
    if PmSignal.START_AUTOVAC_LAUNCHER in reasons:
        want_autovacuum_launcher(step)
    if PmSignal.XLOG_IS_SHUTDOWN in reasons:
        xlog_is_shutdown(step)
    if reasons & {PmSignal.XLOG_IS_SHUTDOWN, PmSignal.ADVANCE_STATE_MACHINE}:
        state_machine.run(step)
    promotable = step.pm.state in (PM.STARTUP, PM.RECOVERY, PM.HOT_STANDBY)
    if event.promote_file and promotable:
        step.signal_children(signal.SIGUSR2, {Kind.STARTUP})


def recovery_started(step: Step) -> None:
    """TR18-02: redo begins, so the reinitialisation is over."""
    if step.pm.state is not PM.STARTUP or step.pm.shutdown is not Shutdown.NO:
        return
    step.set(fatal_error=False, abort_start_time=0)
    if not step.config.hot_standby:
        step.pid_status(PidStatus.STANDBY)
    step.advance_to(PM.RECOVERY)


def begin_hot_standby(step: Step) -> None:
    """TR18-03: read-only sessions from here on."""
    if step.pm.state is not PM.RECOVERY or step.pm.shutdown is not Shutdown.NO:
        return
    step.log(Level.LOG, "database system is ready to accept read-only connections")
    step.pid_status(PidStatus.READY)
    step.advance_to(PM.HOT_STANDBY)
    step.set(conns_allowed=True, start_worker_needed=True)


def rotate_log(step: Step, event: PmSignalsSeen) -> None:
    """PG-05, TF-02: pass a request for rotation to the logger, if there is one."""
    if not step.pm.pid_of(Kind.LOGGER):
        return
    if event.logrotate_file:
        step.signal_children(signal.SIGUSR1, {Kind.LOGGER})
        step.ask(RemoveLogrotateFile())
    elif PmSignal.ROTATE_LOGFILE in event.reasons:
        step.signal_children(signal.SIGUSR1, {Kind.LOGGER})


def want_autovacuum_launcher(step: Step) -> None:
    """PG-06: somebody near wraparound asks for a launcher although autovacuum is off."""
    if step.pm.shutdown <= Shutdown.SMART and step.pm.state < PM.STOP_BACKENDS:
        step.set(start_autovac_launcher=True)


def xlog_is_shutdown(step: Step) -> None:
    """TR18-24, -25: the checkpointer has written the shutdown checkpoint.

    DIFFERS: xlog_shutdown_in_crash_startup_is_crash. In the PM_STARTUP after a crash FatalError is
    left over, and PostgreSQL ignores the message; but this checkpointer serves no request any more,
    so that recovery waits for its last checkpoint for ever. We start over, as at any other time.
    """
    if step.pm.state is PM.WAIT_XLOG_SHUTDOWN:
        step.advance_to(PM.WAIT_XLOG_ARCHIVAL)
    elif not state_machine.dying(step) or state_machine.starting_after_a_crash(step):
        step.log(Level.LOG, "WAL was shut down unexpectedly")
        state_machine.handle_fatal_error(step, QuitReason.FOR_CRASH, consider_abort=False)
