"""What the exit of a child means.

Begin with child_exited(). The good exit codes of a kind are in base/kinds.py; what follows when
the last child has exited is in state_machine.py.

Source: postmaster.c: process_pm_child_exit(), CleanupBackend(); rules RP-01..27, TR18-04..08,
TR18-28, TR18-29.
"""

import os
import signal

from pglife_impl.base.kinds import BadExit, Kind, info
from pglife_impl.base.pmsignal import SlotFlag
from pglife_impl.base.words import Level, PidStatus
from pglife_impl.postmaster import launch, state_machine
from pglife_impl.postmaster.crash import child_crashed, starting_after_a_crash
from pglife_impl.postmaster.events import ChildExited
from pglife_impl.postmaster.requests import FreeSlot, LogChildExit
from pglife_impl.postmaster.state import PM, Child, Shutdown, StartupStatus
from pglife_impl.postmaster.step import Deciding, Step, log_name

RECOVERY_TARGET_SHUTDOWN = 3  # only the startup process exits so (SG-40)


def exit_code(status: int) -> int | None:
    """The exit code of a wait status; None if a signal killed the process."""
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else None


def child_exited(step: Step, event: ChildExited) -> Deciding[None]:
    """Forget the child, free its slot, and do what its kind requires."""
    child = step.pm.children.get(event.pid)
    if child is None:
        untracked_child_exited(step, event)
        return
    step.pm.remove_child(child)
    if child.slot is not None:
        step.ask(FreeSlot(child.slot))
    name = log_name(step.pm, child)
    match child.kind:
        case Kind.STARTUP:
            startup_exited(step, event)
        case Kind.CHECKPOINTER:
            checkpointer_exited(step, event)
        case Kind.LOGGER:
            yield from logger_exited(step, event)
        case Kind.IO_WORKER:
            yield from io_worker_exited(step, event)
        case Kind.BACKEND | Kind.DEAD_END_BACKEND | Kind.BG_WORKER:
            backend_exited(step, event, child, name)
        case _:
            if exit_code(event.status) not in info(child.kind).good_exits:
                child_crashed(step, name, event.pid, event.status)


def untracked_child_exited(step: Step, event: ChildExited) -> None:
    """A child that is not recorded exited: impossible, but PostgreSQL handles it (PR-25)."""
    if exit_code(event.status) in (0, 1):
        step.ask(LogChildExit(Level.LOG, "untracked child process", event.pid, event.status))
    else:
        child_crashed(step, "untracked child process", event.pid, event.status)


# --- the startup process --------------------------------------------------------------------


def startup_exited(step: Step, event: ChildExited) -> None:
    """The startup process exited: open the server, shut it down, or fail (RP-10, RP-11)."""
    code = exit_code(event.status)
    if step.pm.shutdown > Shutdown.NO and code in (0, 1):
        startup_ended_in_shutdown(step)
    elif code == RECOVERY_TARGET_SHUTDOWN:
        recovery_target_reached(step)
    elif code != 0:
        startup_failed(step, event)
    elif step.pm.fatal_error and step.pm.state is not PM.STARTUP:
        # DIFFERS: startup_exit_in_crash_not_run. SIGQUIT arrived when the startup process was
        # about to exit 0. PostgreSQL then opens the server (PM_RUN) and clears FatalError, while
        # the other children quit, and takes each of those exits for a new crash. To us this exit
        # is one of those that the crash waits for.
        step.pm.startup_status = StartupStatus.NOT_RUNNING
    else:
        startup_succeeded(step)


def startup_ended_in_shutdown(step: Step) -> None:
    """The startup process exited during a shutdown, by SIGTERM or because it was done (TR18-05).

    DIFFERS: startup_exit_signals_others. PostgreSQL enters PM_WAIT_BACKENDS and sends no signal,
    even if no child has been asked to stop yet (a smart shutdown with sessions on a hot standby
    that is being promoted). We enter PM_STOP_BACKENDS in that case, which sends SIGTERM.
    """
    step.pm.startup_status = StartupStatus.NOT_RUNNING
    if step.pm.state < PM.STOP_BACKENDS:
        step.advance_to(PM.STOP_BACKENDS)
    else:
        step.advance_to(PM.WAIT_BACKENDS)


def recovery_target_reached(step: Step) -> None:
    """Exit code 3 is a request to shut down; all children get SIGTERM (TR18-06, MM-21).

    DIFFERS: recovery_target_in_crash_startup. In the PM_STARTUP that follows a crash the exit can
    be reaped before the message that redo has begun is read. FatalError, still true, then makes
    PostgreSQL wait for the checkpointer and the io workers, which ignore SIGTERM. Redo has begun,
    so we end FatalError as that message does.
    """
    step.log(Level.LOG, "shutdown at recovery target")
    if starting_after_a_crash(step.pm):
        step.pm.fatal_error = False
        step.pm.abort_start_time = None
    step.pm.startup_status = StartupStatus.NOT_RUNNING
    step.pm.shutdown = max(step.pm.shutdown, Shutdown.SMART)
    step.terminate_children(signal.SIGTERM)
    step.advance_to(PM.WAIT_BACKENDS)


def startup_failed(step: Step, event: ChildExited) -> None:
    """The startup process failed: expected if the postmaster sent it SIGQUIT, otherwise the
    postmaster gives up (TR18-07, TR18-08, PR-20)."""
    if step.pm.startup_status is StartupStatus.SIGNALED:
        step.pm.startup_status = StartupStatus.NOT_RUNNING
        if step.pm.state is PM.STARTUP:
            step.advance_to(PM.WAIT_BACKENDS)
    else:
        step.pm.startup_status = StartupStatus.CRASHED
    child_crashed(step, info(Kind.STARTUP).log_name, event.pid, event.status)


def startup_succeeded(step: Step) -> None:
    """Recovery is complete: accept connections (TR18-04)."""
    pm = step.pm
    pm.startup_status = StartupStatus.NOT_RUNNING
    pm.fatal_error = False
    pm.abort_start_time = None
    step.advance_to(PM.RUN)
    pm.conns_allowed = True
    pm.start_worker_needed = True
    step.log(Level.LOG, "database system is ready to accept connections")
    step.pid_status(PidStatus.READY)


# --- the other kinds ------------------------------------------------------------------------


def checkpointer_exited(step: Step, event: ChildExited) -> None:
    """The checkpointer may exit 0 in PM_WAIT_CHECKPOINTER only (RP-13)."""
    if exit_code(event.status) == 0 and step.pm.state is PM.WAIT_CHECKPOINTER:
        state_machine.checkpointer_done(step)
    else:
        child_crashed(step, info(Kind.CHECKPOINTER).log_name, event.pid, event.status)


def logger_exited(step: Step, event: ChildExited) -> Deciding[None]:
    """Start a new logger, then log the exit, so that the new one writes the line (RP-08, RP-19)."""
    assert info(Kind.LOGGER).bad_exit is BadExit.REPLACED
    yield from launch.launch_missing(step, (Kind.LOGGER,))
    if exit_code(event.status) != 0:
        name = info(Kind.LOGGER).log_name
        step.ask(LogChildExit(Level.LOG, name, event.pid, event.status))


def io_worker_exited(step: Step, event: ChildExited) -> Deciding[None]:
    """Replace an io worker at once, unless it crashed (RP-21, IO-05)."""
    if exit_code(event.status) not in info(Kind.IO_WORKER).good_exits:
        child_crashed(step, info(Kind.IO_WORKER).log_name, event.pid, event.status)
    yield from launch.launch_missing(step, (Kind.IO_WORKER,))


def backend_exited(step: Step, event: ChildExited, child: Child, name: str) -> None:
    """A backend, dead-end child or background worker exited (RP-22..26, CleanupBackend).

    A good exit code is not enough: a child that has not detached from shared memory crashed
    (RP-03).
    """
    code = exit_code(event.status)
    detached = event.slot_flag in (None, SlotFlag.ASSIGNED)
    if code not in info(child.kind).good_exits or not detached:
        child_crashed(step, name, event.pid, event.status)
        return
    level = Level.DEBUG2
    if child.worker is not None:
        level = Level.DEBUG1 if code == 0 else Level.LOG
        worker = step.pm.workers[child.worker]
        worker.crashed_at = None if code == 0 else step.now
        worker.terminate = code == 0
        step.pm.have_crashed_worker = True
    step.ask(LogChildExit(level, name, event.pid, event.status))
