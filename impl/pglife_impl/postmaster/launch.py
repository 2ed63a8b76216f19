"""Which children are missing, and starting them one after another.

Begin with iteration_ended(), which runs at the end of each iteration of the loop.

Source: postmaster.c: LaunchMissingBackgroundProcesses(), maybe_adjust_io_workers(),
maybe_start_bgworkers(), StartChildProcess(), DetermineSleepTime(); rules PR-01..14, SL-03, SL-04,
IO-02..07, BG-05..09.
"""

import signal
from collections.abc import Sequence

from pglife_impl.base.ids import WorkerNumber
from pglife_impl.base.kinds import ALL_BUT_LOGGER, Kind
from pglife_impl.base.pmsignal import QuitReason
from pglife_impl.base.words import Level
from pglife_impl.postmaster import crash
from pglife_impl.postmaster.requests import Exit, ExitCode
from pglife_impl.postmaster.state import (
    PM,
    Config,
    IoMethod,
    PmState,
    Shutdown,
    StartTime,
    StartupStatus,
    Worker,
)
from pglife_impl.postmaster.step import Deciding, Step

LONGEST_SLEEP_S = 60.0

AT_START = (Kind.IO_WORKER, Kind.CHECKPOINTER, Kind.BG_WRITER, Kind.STARTUP, Kind.BG_WORKER)
EACH_ITERATION = (
    Kind.LOGGER,
    Kind.IO_WORKER,
    Kind.CHECKPOINTER,
    Kind.BG_WRITER,
    Kind.WAL_WRITER,
    Kind.AUTOVAC_LAUNCHER,
    Kind.BG_WORKER,
)


def initialized(step: Step) -> Deciding[None]:
    """Start the first children, in their order (TR18-01, ST-04)."""
    step.advance_to(PM.STARTUP)
    step.pm.startup_status = StartupStatus.RUNNING
    yield from launch_missing(step, AT_START)


def iteration_ended(step: Step) -> Deciding[None]:
    """Start what is missing, then check the SIGKILL timeout (SL-01)."""
    yield from launch_missing(step, EACH_ITERATION)
    crash.kill_recalcitrant_children(step)


def launch_missing(step: Step, kinds: Sequence[Kind]) -> Deciding[None]:
    """Fork the missing children of these kinds, one after another.

    A fork that fails ends the attempt for its kind; the next iteration tries again.
    """
    for kind in kinds:
        if kind is Kind.IO_WORKER:
            yield from adjust_io_workers(step)
        elif kind is Kind.BG_WORKER:
            yield from start_workers(step)
        elif step.pm.pid_of(kind) is None and wanted(step.pm, step.config, kind):
            forked = yield from step.fork(kind)
            if kind is Kind.STARTUP and not forked:
                startup_not_forked(step)
            elif kind is Kind.AUTOVAC_LAUNCHER and forked:
                step.pm.start_autovac_launcher = False


def wanted(pm: PmState, config: Config, kind: Kind) -> bool:
    """Whether a singleton runs in this state.

    DIFFERS: archive_mode and summarize_wal are checked and have no effect: there is no WAL yet,
    so the server starts no archiver and no WAL summarizer.
    """
    match kind:
        case Kind.LOGGER:
            return config.logging_collector
        case Kind.STARTUP:
            return pm.state is PM.STARTUP
        case Kind.CHECKPOINTER | Kind.BG_WRITER:
            return pm.state in (PM.STARTUP, PM.RECOVERY, PM.HOT_STANDBY, PM.RUN)
        case Kind.WAL_WRITER:
            return pm.state is PM.RUN
        case Kind.AUTOVAC_LAUNCHER:
            active = config.autovacuum and config.track_counts
            return pm.state is PM.RUN and (active or pm.start_autovac_launcher)
        case _:
            return False


def startup_not_forked(step: Step) -> None:
    """Without a startup process the server cannot start (ST-07).

    DIFFERS: startup_fork_failure_is_crash. PostgreSQL exits at once and leaves the children that
    it has already forked as orphans, attached to shared memory. We handle it as a startup process
    that failed: the postmaster sends them SIGQUIT and waits for them before it exits.
    """
    if step.pm.count_children(ALL_BUT_LOGGER) == 0:
        step.ask(Exit(ExitCode.ABNORMAL))
        return
    step.pm.startup_status = StartupStatus.CRASHED
    crash.handle_fatal_error(step, QuitReason.FOR_CRASH, consider_abort=False)


# --- io workers -----------------------------------------------------------------------------


def adjust_io_workers(step: Step) -> Deciding[None]:
    """Fork io workers up to io_workers, or ask one that is too many to exit (IO-02..07)."""
    pm = step.pm
    if step.config.io_method is not IoMethod.WORKER or pm.state >= PM.WAIT_IO_WORKERS:
        return
    if pm.shutdown >= Shutdown.IMMEDIATE or (pm.fatal_error and pm.state >= PM.STOP_BACKENDS):
        return
    while pm.io_worker_count() < step.config.io_workers:
        if not (yield from step.fork(Kind.IO_WORKER)):
            return
    if pm.io_worker_count() > step.config.io_workers:
        last = [pid for pid in pm.io_worker_children if pid is not None][-1]
        step.signal_child(signal.SIGUSR2, pm.children[last])


# --- background workers ---------------------------------------------------------------------


def start_workers(step: Step) -> Deciding[None]:
    """Start each registered background worker that may run now (BG-05..07, BG-09)."""
    pm = step.pm
    if not (pm.start_worker_needed or pm.have_crashed_worker):
        return
    pm.start_worker_needed = pm.have_crashed_worker = False
    if pm.fatal_error:
        return  # CR-24
    for index, worker in enumerate(pm.workers):
        if worker.pid is not None or worker.terminate:
            continue
        if worker.crashed_at is not None and worker.restart_s is None:
            worker.terminate = True  # never restarted: BG-12
        elif (due := restart_time(worker)) is not None and step.now < due:
            pm.have_crashed_worker = True
        elif may_start(pm.state, worker.start):
            worker.crashed_at = None
            step.log(Level.DEBUG1, f'starting background worker process "{worker.name}"')
            if not (yield from step.fork(Kind.BG_WORKER, WorkerNumber(index))):
                worker.crashed_at = step.now
                pm.start_worker_needed = True
                return


def may_start(state: PM, start: StartTime) -> bool:
    """Whether the state allows a worker of this start time (BG-05)."""
    match start:
        case StartTime.POSTMASTER_START:
            return state <= PM.RUN
        case StartTime.CONSISTENT_STATE:
            return state in (PM.HOT_STANDBY, PM.RUN)
        case StartTime.RECOVERY_FINISHED:
            return state is PM.RUN


def restart_time(worker: Worker) -> float | None:
    """When a worker that has failed is due again; None if it has not failed, or never is."""
    if worker.crashed_at is None or worker.restart_s is None:
        return None
    return worker.crashed_at + worker.restart_s


# --- how long to sleep ----------------------------------------------------------------------


def sleep_time(pm: PmState, now: float) -> float:
    """How long the loop may sleep, in seconds (SL-04)."""
    if pm.shutdown > Shutdown.NO or not (pm.start_worker_needed or pm.have_crashed_worker):
        if pm.abort_start_time is not None:
            left = crash.SIGKILL_CHILDREN_AFTER_S - (int(now) - pm.abort_start_time)
            return float(max(left, 0))
        return LONGEST_SLEEP_S
    if pm.start_worker_needed:
        return 0.0
    due = [time for worker in pm.workers if (time := restart_time(worker)) is not None]
    if not due:
        return LONGEST_SLEEP_S
    return min(max(min(due) - now, 0.0) + 0.001, LONGEST_SLEEP_S)
