"""What a crash of a child leads to: all others quit, with a timeout.

Source: postmaster.c: HandleChildCrash(), HandleFatalError(), ServerLoop(); rules TR18-09..13,
SL-05, RP-04.
"""

import signal

from pglife_impl.base.ids import Pid
from pglife_impl.base.pmsignal import QuitReason
from pglife_impl.base.words import Level
from pglife_impl.postmaster.requests import LogChildExit
from pglife_impl.postmaster.state import PM, PmState, Shutdown
from pglife_impl.postmaster.step import Step

SIGKILL_CHILDREN_AFTER_S = 5


def quitting(pm: PmState) -> bool:
    """Whether all children but the logger must exit at once: after a crash, or in an immediate
    shutdown. The checkpointer and the io workers are among them then."""
    return pm.fatal_error or pm.shutdown >= Shutdown.IMMEDIATE


def starting_after_a_crash(pm: PmState) -> bool:
    """Whether FatalError is left over in PM_STARTUP from the previous generation of shared memory
    (MM-01): nothing has crashed in this one, and no child has been sent SIGQUIT."""
    return pm.fatal_error and pm.state is PM.STARTUP and pm.shutdown < Shutdown.IMMEDIATE


def child_crashed(step: Step, name: str, pid: Pid, status: int) -> None:
    """The first crash makes all children quit; the exits that follow are not logged (RP-04).

    DIFFERS: crash_during_fatal_error_in_startup. FatalError is still true in the PM_STARTUP that
    follows a crash (MM-01). PostgreSQL therefore ignores a crash at that time: the other children
    continue with shared memory that may be corrupt, and if the startup process crashed the server
    waits for ever. No SIGQUIT has been sent in this generation, so we handle it as a new crash.
    """
    if quitting(step.pm) and not starting_after_a_crash(step.pm):
        return
    step.ask(LogChildExit(Level.LOG, name, pid, status))
    step.log(Level.LOG, "terminating any other active server processes")
    handle_fatal_error(step, QuitReason.FOR_CRASH, consider_abort=True)


def handle_fatal_error(step: Step, reason: QuitReason, *, consider_abort: bool) -> None:
    """Send SIGQUIT to all children but the logger, and start the SIGKILL timeout (TR18-10..13).

    Args:
        consider_abort: send SIGABRT instead if send_abort_for_crash is on.
    """
    pm = step.pm
    step.quit_reason(reason)
    abort = consider_abort and step.config.send_abort_for_crash
    step.terminate_children(signal.SIGABRT if abort else signal.SIGQUIT)
    pm.fatal_error = True
    if PM.STARTUP <= pm.state <= PM.STOP_BACKENDS:
        step.advance_to(PM.WAIT_BACKENDS)
    elif PM.WAIT_XLOG_SHUTDOWN <= pm.state <= PM.WAIT_CHECKPOINTER:
        step.listen(accepting=False)
        step.advance_to(PM.WAIT_DEAD_END)
    if pm.abort_start_time is None:
        pm.abort_start_time = int(step.now)


def kill_recalcitrant_children(step: Step) -> None:
    """Send SIGKILL once when the timeout is over (SL-05, CR-07)."""
    since = step.pm.abort_start_time
    if since is None or not quitting(step.pm):
        return
    if int(step.now) - since < SIGKILL_CHILDREN_AFTER_S:
        return
    signum = signal.SIGABRT if step.config.send_abort_for_kill else signal.SIGKILL
    step.log(Level.LOG, f"issuing {signum.name} to recalcitrant children")
    step.terminate_children(signum)
    step.pm.abort_start_time = None
