"""The state machine proper: what follows when nothing more holds the present state.

Begin with   run(); its steps are tried in order, each at most once, so that one call can fall
             through many states (2.8).
Owns         the way from a shutdown request or a crash to the last exit or the new life.
Leaves out   requests (pm_shutdown.py), deaths (pm_reap.py), missing children (pm_launch.py).
Source       postmaster.c: PostmasterStateMachine(), HandleFatalError(); rules SM-01..13,
             TR18-10..13, TR18-19..23, TR18-26..35.
"""

from __future__ import annotations

import signal

from pglife_impl.base.kinds import (
    ALL_BUT_LOGGER,
    STOPPED_FIRST,
    STOPPED_FIRST_ONLY_IN_A_CRASH,
    Kind,
)
from pglife_impl.base.pmsignal import QuitReason
from pglife_impl.base.words import Level
from pglife_impl.postmaster import launch
from pglife_impl.postmaster.events import Exit, ExitCode, Reinitialize
from pglife_impl.postmaster.state import (
    PM,
    Shutdown,
    StartupStatus,
    Worker,
)
from pglife_impl.postmaster.step import Step

# Nobody but these may be left when PM_WAIT_XLOG_ARCHIVAL ends.
LEFT_AFTER_ARCHIVAL = frozenset(
    {Kind.CHECKPOINTER, Kind.IO_WORKER, Kind.LOGGER, Kind.DEAD_END_BACKEND}
)


def run(step: Step) -> None:
    """Go as far as the children that are left allow."""
    finish_smart_wait(step)
    stop_backends(step)
    wait_backends(step)
    wait_xlog_archival(step)
    wait_io_workers(step)
    wait_dead_end(step)
    no_children(step)


def starting_after_a_crash(step: Step) -> bool:
    """PM_STARTUP with FatalError left over from the previous generation (MM-01): nothing has
    crashed in this one, and nobody has been told to quit."""
    leftover = step.pm.fatal_error and step.pm.state is PM.STARTUP
    return leftover and step.pm.shutdown < Shutdown.IMMEDIATE


def dying(step: Step) -> bool:
    """Is everybody to go at once, the checkpointer and the io workers too?"""
    return step.pm.fatal_error or step.pm.shutdown >= Shutdown.IMMEDIATE


def finish_smart_wait(step: Step) -> None:
    """SM-01: a smart shutdown goes on when the last session has left."""
    if step.pm.state not in (PM.RUN, PM.HOT_STANDBY) or step.pm.conns_allowed:
        return
    if step.pm.count_children({Kind.BACKEND}) == 0:
        step.advance_to(PM.STOP_BACKENDS)


def stop_backends(step: Step) -> None:
    """SM-02: tell those who go first to go. A transient state (PM-03)."""
    if step.pm.state is not PM.STOP_BACKENDS:
        return
    step.signal_children(signal.SIGTERM, targets(step))
    step.advance_to(PM.WAIT_BACKENDS)


def targets(step: Step) -> frozenset[Kind]:
    """Whom PM_WAIT_BACKENDS waits for."""
    if dying(step):
        return STOPPED_FIRST | STOPPED_FIRST_ONLY_IN_A_CRASH
    return STOPPED_FIRST


def wait_backends(step: Step) -> None:
    """SM-03..06: when they are gone, on to the end, or to the shutdown checkpoint.

    DIFFERS: sigkill_reaches_dead_end. A dead-end child that came after the only SIGKILL round gets
    SIGQUIT here and, in PostgreSQL, no SIGKILL if it does not heed it. We arm the clock again.
    """
    if step.pm.state is not PM.WAIT_BACKENDS or step.pm.awaiting_shutdown_checkpointer:
        return
    if step.pm.count_children(targets(step)):
        return
    if dying(step):
        step.advance_to(PM.WAIT_DEAD_END)
        step.stop_accepting()
        step.signal_children(signal.SIGQUIT, {Kind.DEAD_END_BACKEND})
        if step.pm.count_children({Kind.DEAD_END_BACKEND}) and step.pm.abort_start_time == 0:
            step.set(abort_start_time=int(step.now))
    elif step.pm.pid_of(Kind.CHECKPOINTER):
        ask_for_shutdown_checkpoint(step)
    else:
        step.set(awaiting_shutdown_checkpointer=True)
        step.fork(Kind.CHECKPOINTER)  # on with checkpointer_forked() or ..._not_forked()


def ask_for_shutdown_checkpoint(step: Step) -> None:
    """TR18-22: INT to the checkpointer; it answers with XLOG_IS_SHUTDOWN."""
    step.signal_children(signal.SIGINT, {Kind.CHECKPOINTER})
    step.advance_to(PM.WAIT_XLOG_SHUTDOWN)


def checkpointer_forked(step: Step) -> None:
    """The checkpointer that was missing for the shutdown checkpoint is there."""
    step.set(awaiting_shutdown_checkpointer=False)
    ask_for_shutdown_checkpoint(step)


def checkpointer_not_forked(step: Step) -> None:
    """TR18-23: no shutdown checkpoint can be had; end as after a crash.

    DIFFERS: checkpointer_fork_failure_advances. PostgreSQL stops here and waits for the death of
    a child to run the machine again; with io_method = sync and no client nobody is left to die,
    and the shutdown never ends. We run the machine again.
    """
    step.set(awaiting_shutdown_checkpointer=False)
    handle_fatal_error(step, QuitReason.FOR_CRASH, consider_abort=False)
    run(step)


def wait_xlog_archival(step: Step) -> None:
    """SM-07: archiver and walsenders are gone (this server has none yet)."""
    if step.pm.state is not PM.WAIT_XLOG_ARCHIVAL:
        return
    if step.pm.count_children(frozenset(Kind) - LEFT_AFTER_ARCHIVAL) == 0:
        step.advance_to(PM.WAIT_IO_WORKERS)
        step.signal_children(signal.SIGUSR2, {Kind.IO_WORKER})


def wait_io_workers(step: Step) -> None:
    """SM-08: the io workers are gone, so the checkpointer may go."""
    if step.pm.state is not PM.WAIT_IO_WORKERS:
        return
    if step.pm.io_worker_count() == 0:
        step.advance_to(PM.WAIT_CHECKPOINTER)
        step.signal_children(signal.SIGUSR2, {Kind.CHECKPOINTER})


def checkpointer_done(step: Step) -> None:
    """TR18-28: the checkpointer has ended as it should; only dead-end children may be left."""
    step.advance_to(PM.WAIT_DEAD_END)
    step.stop_accepting()
    step.signal_children(signal.SIGTERM, ALL_BUT_LOGGER)


def tell_everybody_to_stop(step: Step) -> None:
    """TERM to all but the logger: exit 3 of the startup process (TR18-06)."""
    step.terminate_children(signal.SIGTERM)


def wait_dead_end(step: Step) -> None:
    """SM-09: nobody but the logger is left."""
    if step.pm.state is not PM.WAIT_DEAD_END:
        return
    if step.pm.count_children(ALL_BUT_LOGGER) == 0:
        step.advance_to(PM.NO_CHILDREN)


def no_children(step: Step) -> None:
    """SM-10..13: the end, or the new life."""
    if step.pm.state is not PM.NO_CHILDREN:
        return
    if step.pm.shutdown > Shutdown.NO:
        if step.pm.fatal_error:
            finish(step, "abnormal database system shutdown")
        else:
            step.ask(Exit(ExitCode.NORMAL))
            step.over = True
    elif step.pm.startup_status is StartupStatus.CRASHED:
        finish(step, "shutting down due to startup process failure")
    elif not step.config.restart_after_crash:
        finish(step, 'shutting down because "restart_after_crash" is off')
    elif step.pm.fatal_error:
        reinitialize(step)


def finish(step: Step, why: str) -> None:
    """An end with status 1."""
    step.log(Level.LOG, why)
    step.ask(Exit(ExitCode.ABNORMAL))
    step.over = True


def reinitialize(step: Step) -> None:
    """CR-20: new shared memory, then io workers and a startup process. FatalError stays."""
    step.log(Level.LOG, "all server processes terminated; reinitializing")
    step.set(workers=tuple(after_crash(w) for w in step.pm.workers if w.restart_s >= 0))
    step.ask(Reinitialize())
    step.advance_to(PM.STARTUP)
    step.set(startup_status=StartupStatus.RUNNING, abort_start_time=0)
    launch.follow_plan(step, (Kind.IO_WORKER, Kind.STARTUP))
    step.accept_again()


def after_crash(worker: Worker) -> Worker:
    """BG-20: a background worker may start at once after a crash restart."""
    return worker.replace(crashed_at=0.0, pid=0)


def handle_fatal_error(step: Step, reason: QuitReason, *, consider_abort: bool) -> None:
    """TR18-10..13: everybody is told to die at once, and the SIGKILL clock runs."""
    step.quit_reason(reason)
    abort = consider_abort and step.config.send_abort_for_crash
    step.terminate_children(signal.SIGABRT if abort else signal.SIGQUIT)
    step.set(fatal_error=True)
    if PM.STARTUP <= step.pm.state <= PM.STOP_BACKENDS:
        step.advance_to(PM.WAIT_BACKENDS)
    elif PM.WAIT_XLOG_SHUTDOWN <= step.pm.state <= PM.WAIT_CHECKPOINTER:
        step.stop_accepting()
        step.advance_to(PM.WAIT_DEAD_END)
    if step.pm.abort_start_time == 0:
        step.set(abort_start_time=int(step.now))
