"""What the death of a child means.

Begin with   child_exited().
Owns         StartupStatus after a death; the judgement "crash or not" (table 3.4).
Leaves out   waitpid (reap.py) and what follows when all have gone (pm_machine.py).
Source       postmaster.c: process_pm_child_exit(), CleanupBackend(), HandleChildCrash();
             rules RP-01..27, TR18-04..09, TR18-28, TR18-29.
"""

from __future__ import annotations

import os

from pglife_impl.base.kinds import BadExit, Kind, info
from pglife_impl.base.pmsignal import QuitReason
from pglife_impl.base.words import Level, PidStatus
from pglife_impl.postmaster import launch, state_machine
from pglife_impl.postmaster.events import ChildExited, LogChildExit
from pglife_impl.postmaster.state import (
    PM,
    Child,
    Shutdown,
    StartupStatus,
)
from pglife_impl.postmaster.step import Step, log_name

RECOVERY_TARGET_SHUTDOWN = 3  # only the startup process exits so (SG-40)


def exit_code(status: int) -> int | None:
    """The exit code of a wait status, None if a signal ended the process."""
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else None


def child_exited(step: Step, event: ChildExited) -> None:
    """Take the dead child off the list and do what its kind's row says."""
    child = step.pm.children.get(event.pid)
    if child is None:
        untracked_child_exited(step, event)
        return
    name = log_name(step.pm, child)
    step.pm = step.pm.without_child(event.pid)
    match child.kind:
        case Kind.STARTUP:
            startup_exited(step, event)
        case Kind.CHECKPOINTER:
            checkpointer_exited(step, event)
        case Kind.LOGGER:
            logger_exited(step, event)
        case Kind.IO_WORKER:
            io_worker_exited(step, event)
        case Kind.BACKEND | Kind.DEAD_END_BACKEND | Kind.BG_WORKER:
            backend_exited(step, event, child, name)
        case _:
            if exit_code(event.status) not in info(child.kind).good_exits:
                child_crashed(step, event, name)


def untracked_child_exited(step: Step, event: ChildExited) -> None:
    """PR-25: a child we keep no record of; it cannot be, but it is handled."""
    if exit_code(event.status) in (0, 1):
        step.ask(LogChildExit(Level.LOG, "untracked child process", event.pid, event.status))
    else:
        child_crashed(step, event, "untracked child process")


def child_crashed(step: Step, event: ChildExited, name: str) -> None:
    """TR18-09..13: the first crash throws shared memory away; later deaths are silent (RP-04).

    DIFFERS: crash_during_fatal_error_in_startup. FatalError is still true in the PM_STARTUP that
    follows a crash (MM-01). PostgreSQL therefore ignores a crash in that time: the others go on
    with a memory that is to be distrusted, and if it was the startup process nobody ends the
    wait. No signal has been sent in this generation, so we treat it as the new crash it is.
    """
    if state_machine.dying(step) and not state_machine.starting_after_a_crash(step):
        return
    step.ask(LogChildExit(Level.LOG, name, event.pid, event.status))
    step.log(Level.LOG, "terminating any other active server processes")
    state_machine.handle_fatal_error(step, QuitReason.FOR_CRASH, consider_abort=True)


# --- the startup process --------------------------------------------------------------------


def startup_exited(step: Step, event: ChildExited) -> None:
    """RP-10, RP-11."""
    code = exit_code(event.status)
    if step.pm.shutdown > Shutdown.NO and code in (0, 1):
        startup_ended_in_shutdown(step)
    elif code == RECOVERY_TARGET_SHUTDOWN:
        recovery_target_reached(step)
    elif code != 0:
        startup_failed(step, event)
    elif step.pm.fatal_error and step.pm.state is not PM.STARTUP:
        # DIFFERS: startup_exit_in_crash_not_run. QUIT came too late for a startup process that
        # was just about to exit 0. PostgreSQL then opens the server (PM_RUN) with FatalError
        # cleared, while the children that were told to quit die around it, each a new crash.
        # We let the crash take its course: this exit is one of those waited for.
        step.set(startup_status=StartupStatus.NOT_RUNNING)
    else:
        startup_succeeded(step)


def startup_ended_in_shutdown(step: Step) -> None:
    """TR18-05: it was told to go, or came to its end just then.

    DIFFERS: startup_exit_signals_others. PostgreSQL goes to PM_WAIT_BACKENDS without a signal to
    anybody, also if nobody has been told to stop yet (a smart shutdown with sessions on a hot
    standby that is being promoted). We go by way of PM_STOP_BACKENDS then, which tells them.
    """
    step.set(startup_status=StartupStatus.NOT_RUNNING)
    if step.pm.state < PM.STOP_BACKENDS:
        step.advance_to(PM.STOP_BACKENDS)
    else:
        step.advance_to(PM.WAIT_BACKENDS)


def recovery_target_reached(step: Step) -> None:
    """TR18-06: exit 3 is a request to shut down, and tells everybody (MM-21)."""
    step.log(Level.LOG, "shutdown at recovery target")
    step.set(
        startup_status=StartupStatus.NOT_RUNNING,
        shutdown=max(step.pm.shutdown, Shutdown.SMART),
    )
    state_machine.tell_everybody_to_stop(step)
    step.advance_to(PM.WAIT_BACKENDS)


def startup_failed(step: Step, event: ChildExited) -> None:
    """TR18-07, -08: our own doing, or the end of the cluster (PR-20)."""
    if step.pm.startup_status is StartupStatus.SIGNALED:
        step.set(startup_status=StartupStatus.NOT_RUNNING)
        if step.pm.state is PM.STARTUP:
            step.advance_to(PM.WAIT_BACKENDS)
    else:
        step.set(startup_status=StartupStatus.CRASHED)
    child_crashed(step, event, info(Kind.STARTUP).log_name)


def startup_succeeded(step: Step) -> None:
    """TR18-04: open for business."""
    step.set(
        startup_status=StartupStatus.NOT_RUNNING,
        fatal_error=False,
        abort_start_time=0,
        reached_normal_running=True,
    )
    step.advance_to(PM.RUN)
    step.set(conns_allowed=True, start_worker_needed=True)
    step.log(Level.LOG, "database system is ready to accept connections")
    step.pid_status(PidStatus.READY)


# --- the others -----------------------------------------------------------------------------


def checkpointer_exited(step: Step, event: ChildExited) -> None:
    """RP-13: only one moment is right for it to go."""
    if exit_code(event.status) == 0 and step.pm.state is PM.WAIT_CHECKPOINTER:
        state_machine.checkpointer_done(step)
    else:
        child_crashed(step, event, info(Kind.CHECKPOINTER).log_name)


def logger_exited(step: Step, event: ChildExited) -> None:
    """RP-08, RP-19: a new one first, then the line, so that the line has somewhere to go."""
    assert info(Kind.LOGGER).bad_exit is BadExit.REPLACED
    launch.follow_plan(step, (Kind.LOGGER,))
    if exit_code(event.status) != 0:
        name = info(Kind.LOGGER).log_name
        step.ask(LogChildExit(Level.LOG, name, event.pid, event.status))


def io_worker_exited(step: Step, event: ChildExited) -> None:
    """RP-21, IO-05: replaced in the reaper itself, unless it was a crash."""
    pids = tuple(0 if pid == event.pid else pid for pid in step.pm.io_worker_children)
    step.set(io_worker_children=pids)
    if exit_code(event.status) not in info(Kind.IO_WORKER).good_exits:
        child_crashed(step, event, info(Kind.IO_WORKER).log_name)
    launch.follow_plan(step, (Kind.IO_WORKER,))


def backend_exited(step: Step, event: ChildExited, child: Child, name: str) -> None:
    """RP-22..26: backends, dead-end children, background workers (CleanupBackend)."""
    code = exit_code(event.status)
    if code not in info(child.kind).good_exits or not event.slot_was_clean:
        child_crashed(step, event, name)
        return
    level = Level.DEBUG2
    if child.kind is Kind.BG_WORKER:
        level = Level.DEBUG1 if code == 0 else Level.LOG
        launch.change_worker(
            step,
            child.worker,
            pid=0,
            crashed_at=0.0 if code == 0 else event.now,
            terminate=code == 0,
        )
        step.set(have_crashed_worker=True)
    step.ask(LogChildExit(level, name, event.pid, event.status))
