"""The state machine: which state follows when the children that it waits for have exited.

Begin with run(), which tries the steps in order; one call can pass through many states.

Source: postmaster.c: PostmasterStateMachine(); rules SM-01..13, TR18-19..35.
"""

import signal

from pglife_impl.base.kinds import (
    ALL_BUT_LOGGER,
    STOPPED_FIRST,
    STOPPED_FIRST_ONLY_IN_A_CRASH,
    Kind,
)
from pglife_impl.base.pmsignal import QuitReason
from pglife_impl.base.words import Level
from pglife_impl.postmaster import crash, launch
from pglife_impl.postmaster.requests import Exit, ExitCode, Reinitialize
from pglife_impl.postmaster.state import PM, PmState, Shutdown, StartupStatus
from pglife_impl.postmaster.step import Deciding, Step

# The only kinds that may still run when PM_WAIT_XLOG_ARCHIVAL ends.
LEFT_AFTER_ARCHIVAL = frozenset(
    {Kind.CHECKPOINTER, Kind.IO_WORKER, Kind.LOGGER, Kind.DEAD_END_BACKEND}
)


def run(step: Step) -> Deciding[None]:
    """Advance as far as the remaining children allow."""
    finish_smart_wait(step)
    stop_backends(step)
    yield from wait_backends(step)
    wait_xlog_archival(step)
    wait_io_workers(step)
    wait_dead_end(step)
    yield from no_children(step)


def finish_smart_wait(step: Step) -> None:
    """A smart shutdown proceeds when the last session has ended (SM-01)."""
    if step.pm.state not in (PM.RUN, PM.HOT_STANDBY) or step.pm.conns_allowed:
        return
    if step.pm.count_children({Kind.BACKEND}) == 0:
        step.advance_to(PM.STOP_BACKENDS)


def stop_backends(step: Step) -> None:
    """Send SIGTERM to the shutdown targets (SM-02). The state is transient (PM-03)."""
    if step.pm.state is not PM.STOP_BACKENDS:
        return
    step.signal_children(signal.SIGTERM, targets(step.pm))
    step.advance_to(PM.WAIT_BACKENDS)


def targets(pm: PmState) -> frozenset[Kind]:
    """The kinds of children that PM_WAIT_BACKENDS waits for."""
    if crash.quitting(pm):
        return STOPPED_FIRST | STOPPED_FIRST_ONLY_IN_A_CRASH
    return STOPPED_FIRST


def wait_backends(step: Step) -> Deciding[None]:
    """When the shutdown targets have exited: to the shutdown checkpoint, or after a crash to
    PM_WAIT_DEAD_END (SM-03..06).

    DIFFERS: checkpointer_fork_failure_advances. When no checkpointer can be forked for the shutdown
    checkpoint, PostgreSQL waits for the exit of a child to run the machine again; with
    io_method = sync and no client no child is left, and the shutdown never ends. We run it again.
    """
    if step.pm.state is not PM.WAIT_BACKENDS or step.pm.count_children(targets(step.pm)):
        return
    if crash.quitting(step.pm):
        wait_for_dead_end_children_only(step)
    elif step.pm.pid_of(Kind.CHECKPOINTER) is not None or (yield from step.fork(Kind.CHECKPOINTER)):
        ask_for_shutdown_checkpoint(step)
    else:  # no shutdown checkpoint is possible: end as after a crash (TR18-23)
        crash.handle_fatal_error(step, QuitReason.FOR_CRASH, consider_abort=False)
        yield from wait_backends(step)


def wait_for_dead_end_children_only(step: Step) -> None:
    """Stop accepting, and send SIGQUIT to dead-end children.

    DIFFERS: sigkill_reaches_dead_end. A dead-end child that was forked after the only SIGKILL
    round gets SIGQUIT here and, in PostgreSQL, no SIGKILL if it does not exit. We start the
    timeout again.
    """
    step.advance_to(PM.WAIT_DEAD_END)
    step.listen(accepting=False)
    step.signal_children(signal.SIGQUIT, {Kind.DEAD_END_BACKEND})
    if step.pm.count_children({Kind.DEAD_END_BACKEND}) and step.pm.abort_start_time is None:
        step.pm.abort_start_time = int(step.now)


def ask_for_shutdown_checkpoint(step: Step) -> None:
    """Send SIGINT to the checkpointer, which answers with XLOG_IS_SHUTDOWN (TR18-22)."""
    step.signal_children(signal.SIGINT, {Kind.CHECKPOINTER})
    step.advance_to(PM.WAIT_XLOG_SHUTDOWN)


def wait_xlog_archival(step: Step) -> None:
    """When archiver and walsenders have exited, stop the io workers (SM-07). This server has
    neither yet."""
    if step.pm.state is not PM.WAIT_XLOG_ARCHIVAL:
        return
    if step.pm.count_children(frozenset(Kind) - LEFT_AFTER_ARCHIVAL) == 0:
        step.advance_to(PM.WAIT_IO_WORKERS)
        step.signal_children(signal.SIGUSR2, {Kind.IO_WORKER})


def wait_io_workers(step: Step) -> None:
    """When the io workers have exited, stop the checkpointer (SM-08)."""
    if step.pm.state is not PM.WAIT_IO_WORKERS:
        return
    if step.pm.io_worker_count() == 0:
        step.advance_to(PM.WAIT_CHECKPOINTER)
        step.signal_children(signal.SIGUSR2, {Kind.CHECKPOINTER})


def checkpointer_done(step: Step) -> None:
    """The checkpointer has exited in PM_WAIT_CHECKPOINTER: stop dead-end children (TR18-28)."""
    step.advance_to(PM.WAIT_DEAD_END)
    step.listen(accepting=False)
    step.signal_children(signal.SIGTERM, ALL_BUT_LOGGER)


def wait_dead_end(step: Step) -> None:
    """When only the logger is left, the state machine has no children (SM-09)."""
    if step.pm.state is not PM.WAIT_DEAD_END:
        return
    if step.pm.count_children(ALL_BUT_LOGGER) == 0:
        step.advance_to(PM.NO_CHILDREN)


def no_children(step: Step) -> Deciding[None]:
    """Exit, or start again after a crash (SM-10..13)."""
    if step.pm.state is not PM.NO_CHILDREN:
        return
    if step.pm.shutdown > Shutdown.NO:
        if step.pm.fatal_error:
            exit_abnormally(step, "abnormal database system shutdown")
        else:
            step.ask(Exit(ExitCode.NORMAL))
    elif step.pm.startup_status is StartupStatus.CRASHED:
        exit_abnormally(step, "shutting down due to startup process failure")
    elif not step.config.restart_after_crash:
        exit_abnormally(step, 'shutting down because "restart_after_crash" is off')
    elif step.pm.fatal_error:
        yield from reinitialize(step)


def exit_abnormally(step: Step, why: str) -> None:
    """Log the reason and exit with status 1."""
    step.log(Level.LOG, why)
    step.ask(Exit(ExitCode.ABNORMAL))


def reinitialize(step: Step) -> Deciding[None]:
    """Make new shared memory, then start io workers and a startup process (CR-20).

    FatalError stays set until recovery begins or ends.
    """
    pm = step.pm
    step.log(Level.LOG, "all server processes terminated; reinitializing")
    pm.workers = [worker for worker in pm.workers if worker.restart_s is not None]
    for worker in pm.workers:
        worker.crashed_at = None  # it may start at once: BG-20
    step.ask(Reinitialize())
    step.advance_to(PM.STARTUP)
    pm.startup_status = StartupStatus.RUNNING
    pm.abort_start_time = None
    yield from launch.launch_missing(step, (Kind.IO_WORKER, Kind.STARTUP))
    step.listen(accepting=True)
