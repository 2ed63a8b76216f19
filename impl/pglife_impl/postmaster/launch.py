"""Who is missing and must be started, and what to do when a fork came off or failed.

Begin with   turn_ended(), which runs at the end of each turn of the loop.
Owns         the plan (kinds looked at one after another), io worker numbers, bgworker restarts.
Leaves out   children for clients (pm_admit.py).
Source       postmaster.c: LaunchMissingBackgroundProcesses(), maybe_adjust_io_workers(),
             maybe_start_bgworkers(), StartChildProcess(), ServerLoop(), DetermineSleepTime();
             rules PR-01..14, SL-03..05, IO-02..07, BG-05..09.
"""

from __future__ import annotations

import signal

from pglife_impl.base.kinds import ALL_BUT_LOGGER, Kind, info
from pglife_impl.base.pmsignal import QuitReason
from pglife_impl.base.words import Level
from pglife_impl.postmaster import state_machine
from pglife_impl.postmaster.events import Exit, ExitCode, Forked, ForkFailed
from pglife_impl.postmaster.state import (
    PM,
    Child,
    Config,
    PmState,
    Shutdown,
    StartTime,
    StartupStatus,
    Worker,
)
from pglife_impl.postmaster.step import Step

SIGKILL_CHILDREN_AFTER_S = 5
LONGEST_SLEEP_S = 60.0

AT_BIRTH = (Kind.IO_WORKER, Kind.CHECKPOINTER, Kind.BG_WRITER, Kind.STARTUP, Kind.BG_WORKER)
EVERY_TURN = (
    Kind.LOGGER,
    Kind.IO_WORKER,
    Kind.CHECKPOINTER,
    Kind.BG_WRITER,
    Kind.WAL_WRITER,
    Kind.AUTOVAC_LAUNCHER,
    Kind.BG_WORKER,
)


def born(step: Step) -> None:
    """TR18-01, ST-04: the first children, in their order."""
    step.advance_to(PM.STARTUP)
    step.set(startup_status=StartupStatus.RUNNING)
    follow_plan(step, AT_BIRTH)


def turn_ended(step: Step) -> None:
    """SL-01: start what is missing, then look at the SIGKILL clock."""
    follow_plan(step, EVERY_TURN)
    kill_recalcitrant_children(step)


def kill_recalcitrant_children(step: Step) -> None:
    """SL-05, CR-07: one round for each arming of the clock."""
    since = step.pm.abort_start_time
    if since == 0 or not state_machine.dying(step):
        return
    if int(step.now) - since < SIGKILL_CHILDREN_AFTER_S:
        return
    signum = signal.SIGABRT if step.config.send_abort_for_kill else signal.SIGKILL
    step.log(Level.LOG, f"issuing {signum.name} to recalcitrant children")
    step.terminate_children(signum)
    step.set(abort_start_time=0)


# --- the plan -------------------------------------------------------------------------------


def follow_plan(step: Step, plan: tuple[Kind, ...] | None = None) -> None:
    """Ask for the first child of the plan that is wanted; the rest follows when it is there.

    One fork at a time, because whether the next is wanted depends on how this one came off: a
    fork that failed ends the attempt for its kind until the next turn.
    """
    if plan is not None:
        step.set(plan=plan)
    while step.pm.plan:
        if start(step, step.pm.plan[0]):
            return
        step.set(plan=step.pm.plan[1:])


def start(step: Step, kind: Kind) -> bool:
    """Ask for a child of that kind if one is missing; True if a fork is under way."""
    if kind is Kind.IO_WORKER:
        return adjust_io_workers(step)
    if kind is Kind.BG_WORKER:
        return start_workers(step)
    if step.pm.pid_of(kind) or not wanted(step.pm, step.config, kind):
        return False
    return step.fork(kind)


def wanted(pm: PmState, config: Config, kind: Kind) -> bool:
    """The guards of table 3.1 for singletons.

    DIFFERS: archive_mode and summarize_wal are checked and then without effect: there is no WAL
    yet, so nobody archives or summarizes it.
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


def forked(step: Step, event: Forked) -> None:
    """Record a new child, and go on with the plan."""
    step.pm = step.pm.with_child(Child(event.pid, event.kind, event.slot, event.worker))
    if event.kind in (Kind.BACKEND, Kind.DEAD_END_BACKEND):
        return
    if event.kind is Kind.IO_WORKER:
        pids = list(step.pm.io_worker_children)
        pids[pids.index(0)] = event.pid
        step.set(io_worker_children=tuple(pids))
    elif event.kind is Kind.BG_WORKER:
        change_worker(step, event.worker, pid=event.pid)
    elif event.kind is Kind.AUTOVAC_LAUNCHER:
        step.set(start_autovac_launcher=False)
    elif event.kind is Kind.CHECKPOINTER and step.pm.awaiting_shutdown_checkpointer:
        state_machine.checkpointer_forked(step)
        return
    follow_plan(step)


def fork_failed(step: Step, event: ForkFailed) -> None:
    """MM-16: what the lack of a child leads to, which differs from kind to kind."""
    step.pm = step.pm.with_slot_back(event.kind, event.slot)
    if event.kind in (Kind.BACKEND, Kind.DEAD_END_BACKEND):
        step.log(Level.LOG, f"could not fork new process for connection: {event.error}")
    elif event.kind is Kind.BG_WORKER:
        step.log(Level.LOG, f"could not fork background worker process: {event.error}")
        change_worker(step, event.worker, crashed_at=event.now)
        step.set(start_worker_needed=True, plan=step.pm.plan[1:])
        follow_plan(step)
    elif event.kind is Kind.LOGGER:
        step.log(Level.LOG, f"could not fork system logger: {event.error}")
        step.set(plan=step.pm.plan[1:])
        follow_plan(step)
    else:
        name = info(event.kind).fork_name
        step.log(Level.LOG, f'could not fork "{name}" process: {event.error}')
        if event.kind is Kind.STARTUP:
            startup_not_forked(step)
        elif step.pm.awaiting_shutdown_checkpointer:
            state_machine.checkpointer_not_forked(step)
        else:
            step.set(plan=step.pm.plan[1:])
            follow_plan(step)


def startup_not_forked(step: Step) -> None:
    """ST-07: without a startup process there is nothing to go on for.

    DIFFERS: startup_fork_failure_is_crash. PostgreSQL exits on the spot and leaves the children
    that it has forked before as orphans, attached to the shared memory. We treat it as a startup
    process that failed: they are told to quit, and the end comes when they have gone.
    """
    step.set(plan=())
    if step.pm.count_children(ALL_BUT_LOGGER) == 0:
        step.ask(Exit(ExitCode.ABNORMAL))
        step.over = True
        return
    step.set(startup_status=StartupStatus.CRASHED)
    state_machine.handle_fatal_error(step, QuitReason.FOR_CRASH, consider_abort=False)


# --- io workers -----------------------------------------------------------------------------


def adjust_io_workers(step: Step) -> bool:
    """IO-02..07: fill the pool up, or ask one too many to go."""
    pm = step.pm
    if step.config.io_method != "worker" or pm.state >= PM.WAIT_IO_WORKERS:
        return False
    if pm.shutdown >= Shutdown.IMMEDIATE or (pm.fatal_error and pm.state >= PM.STOP_BACKENDS):
        return False
    if pm.io_worker_count() < step.config.io_workers:
        return step.fork(Kind.IO_WORKER)
    if pm.io_worker_count() > step.config.io_workers:
        highest = max(i for i, pid in enumerate(pm.io_worker_children) if pid)
        step.signal(signal.SIGUSR2, pm.children[pm.io_worker_children[highest]])
    return False


# --- background workers ---------------------------------------------------------------------


def start_workers(step: Step) -> bool:
    """BG-05..07: start one background worker whose time has come."""
    if not (step.pm.start_worker_needed or step.pm.have_crashed_worker):
        return False
    step.set(start_worker_needed=False, have_crashed_worker=False)
    if step.pm.fatal_error:
        return False  # CR-24
    for index, worker in enumerate(step.pm.workers):
        if worker.pid or worker.terminate:
            continue
        if worker.crashed_at and worker.restart_s < 0:
            change_worker(step, index, terminate=True)  # forgotten: BG-12
        elif worker.crashed_at and step.now - worker.crashed_at < worker.restart_s:
            step.set(have_crashed_worker=True)
        elif may_start(step.pm.state, worker.start):
            change_worker(step, index, crashed_at=0.0)
            return start_worker(step, index)
    return False


def start_worker(step: Step, index: int) -> bool:
    """Ask for the process of one background worker (BG-09)."""
    name = step.pm.workers[index].name
    step.log(Level.DEBUG1, f'starting background worker process "{name}"')
    step.set(start_worker_needed=True)  # look at the others when this one is there
    return step.fork(Kind.BG_WORKER, index)


def may_start(state: PM, start: StartTime) -> bool:
    """BG-05: does the state allow a worker of this start time?"""
    match start:
        case StartTime.POSTMASTER_START:
            return state <= PM.RUN
        case StartTime.CONSISTENT_STATE:
            return state in (PM.HOT_STANDBY, PM.RUN)
        case StartTime.RECOVERY_FINISHED:
            return state is PM.RUN


def change_worker(
    step: Step,
    index: int,
    *,
    pid: int | None = None,
    crashed_at: float | None = None,
    terminate: bool = False,
) -> None:
    """Change one entry of the list of background workers."""
    old = step.pm.workers[index]
    new = old.replace(
        pid=old.pid if pid is None else pid,
        crashed_at=old.crashed_at if crashed_at is None else crashed_at,
        terminate=old.terminate or terminate,
    )
    workers: list[Worker] = list(step.pm.workers)
    workers[index] = new
    step.set(workers=tuple(workers))


# --- how long to sleep ----------------------------------------------------------------------


def sleep_time(pm: PmState, now: float) -> float:
    """SL-04: the longest time the loop may sleep."""
    if pm.shutdown > Shutdown.NO or not (pm.start_worker_needed or pm.have_crashed_worker):
        if pm.abort_start_time:
            left = SIGKILL_CHILDREN_AFTER_S - (int(now) - pm.abort_start_time)
            return float(max(left, 0))
        return LONGEST_SLEEP_S
    if pm.start_worker_needed:
        return 0.0
    due = [w.crashed_at + w.restart_s for w in pm.workers if w.crashed_at and w.restart_s >= 0]
    if not due:
        return LONGEST_SLEEP_S
    return min(max(min(due) - now, 0.0) + 0.001, LONGEST_SLEEP_S)
