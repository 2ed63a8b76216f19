"""Claims about background workers."""

from pglife_spec.lang.declare import Statement, claim
from pglife_spec.lang.expr import all_of, any_of, implies, in_
from pglife_spec.postgres.state.children import LIFE, alive, recorded
from pglife_spec.postgres.state.history import WORKER_FINISHED, WORKER_RAN
from pglife_spec.postgres.state.postmaster import ALIVE, FATAL_ERROR, state_is
from pglife_spec.postgres.state.workers import (
    HAVE_CRASHED_WORKER,
    LISTED,
    START_WORKER_NEEDED,
    is_due,
    its_time_has_come,
    restarts,
    waits,
)
from pglife_spec.postgres.words import PM, Kind, Life
from pglife_spec.postgres.words.kinds import KINDS, WORKERS
from pglife_spec.postgres.words.parameters import FORK_FAULTS, WORKER_START
from pglife_spec.postgres.words.repairs import REPAIR_UNSTARTED_WORKER, REPAIR_WORKERS_IN_RECOVERY
from pglife_spec.postgres.words.workers import Registration, WorkerStart

_STATIC = Kind.STATIC_WORKER
_PASS = "postmaster.c: maybe_start_bgworkers()"


@claim("INV-45", "INV-44", "BG-05", source="postmaster.c: bgworker_should_start_now()")
def background_workers_wait_for_their_time() -> Statement:
    """No background worker is on record before the state that its start time names, nor in the
    PM_STARTUP after a crash."""
    early = (PM.PM_INIT, PM.PM_STARTUP, PM.PM_RECOVERY)
    too_early = (
        state_is(PM.PM_INIT)
        | (state_is(PM.PM_STARTUP) & FATAL_ERROR)
        | (state_is(*early) & (WORKER_START == WorkerStart.CONSISTENT_STATE))
        | (state_is(*early, PM.PM_HOT_STANDBY) & (WORKER_START == WorkerStart.RECOVERY_FINISHED))
    )
    return Statement(holds=implies(recorded(_STATIC), ~too_early), reaches=recorded(_STATIC))


@claim("BG-13", "BG-12", source="postmaster.c: CleanupBackend()")
def a_finished_worker_never_runs_again() -> Statement:
    """A background worker that has exited with 0 is not started again, not even after a crash."""
    return Statement(holds=implies(WORKER_FINISHED, ~alive(_STATIC)), reaches=WORKER_FINISHED)


@claim(
    "INV-99",
    "BG-05",
    "BG-06",
    source=_PASS,
    exception="without the repair: after a crash nothing makes the postmaster look for a "
    "worker that may start in PM_RECOVERY, until the server opens",
)
def no_background_worker_is_forgotten() -> Statement:
    """While a listed worker should run or waits for its restart, a flag makes the main loop look at
    the list."""
    calm = ALIVE & ~FATAL_ERROR
    to_start = any_of(
        *(
            its_time_has_come(kind) & (is_due(kind) | (waits(kind) & restarts(kind)))
            for kind in WORKERS
        )
    )
    flagged = START_WORKER_NEEDED | HAVE_CRASHED_WORKER
    here = REPAIR_WORKERS_IN_RECOVERY & calm & to_start
    return Statement(holds=implies(here, flagged), reaches=here)


@claim("BG-20", "CR-24", source="bgworker.c: ResetBackgroundWorkerCrashTimes()")
def a_crash_ends_every_restart_interval() -> Statement:
    """In the PM_STARTUP after a crash every listed worker may start as soon as its time comes."""
    here = ALIVE & FATAL_ERROR & state_is(PM.PM_STARTUP)
    fresh = (Registration.UNLISTED, Registration.LISTED)
    return Statement(
        holds=implies(here, all_of(*(in_(LISTED[kind], *fresh) for kind in WORKERS))),
        reaches=here & (LISTED[_STATIC] == Registration.LISTED),
    )


@claim(
    "BG-20",
    "INV-99",
    source="bgworker.c: ResetBackgroundWorkerCrashTimes()",
    exception="without the repair: a crash before its time has come forgets a worker that is never "
    "restarted, and it never runs",
)
def every_registered_worker_runs_once() -> Statement:
    """A worker of shared_preload_libraries leaves the list only after it has been started, as long
    as fork() works."""
    gone = (
        (WORKER_START != WorkerStart.NEVER)
        & ~state_is(PM.PM_INIT)
        & (LISTED[_STATIC] == Registration.UNLISTED)
    )
    holds = implies(REPAIR_UNSTARTED_WORKER & ~FORK_FAULTS & gone, WORKER_RAN)
    return Statement(holds=holds, reaches=gone & WORKER_RAN)


@claim("BG-05", "BG-08", source="bgworker.c: RegisterBackgroundWorker()")
def only_registered_workers_are_listed() -> Statement:
    """A background worker is on the list only if it was registered, and from the first fork on."""
    listed = [LISTED[kind] != Registration.UNLISTED for kind in WORKERS]
    wanted = [implies(on, KINDS[kind].wanted) for on, kind in zip(listed, WORKERS, strict=True)]
    flagged = START_WORKER_NEEDED | HAVE_CRASHED_WORKER
    none = ~any_of(flagged, WORKER_FINISHED, *listed)
    return Statement(
        holds=all_of(*wanted, implies(state_is(PM.PM_INIT), none)), reaches=any_of(*listed)
    )


@claim("BG-12", "BG-14", source="bgworker.c: RegisteredBgWorker")
def a_running_worker_is_listed() -> Statement:
    """While a background worker is on record it is on the list and waits for no restart."""
    some = any_of(*(recorded(kind) for kind in WORKERS))
    agree = (implies(recorded(kind), LISTED[kind] == Registration.LISTED) for kind in WORKERS)
    return Statement(holds=all_of(*agree), reaches=some)


@claim("BG-13", source="postmaster.c: CleanupBackend()")
def a_finished_worker_leaves_the_list() -> Statement:
    """A background worker that has exited with 0 is off the list once it was reaped."""
    gone = LISTED[_STATIC] == Registration.UNLISTED
    return Statement(
        holds=implies(WORKER_FINISHED, gone | (LIFE[_STATIC] == Life.EXITED_0)),
        reaches=WORKER_FINISHED & gone,
    )


CLAIMS = (
    only_registered_workers_are_listed,
    a_running_worker_is_listed,
    a_finished_worker_leaves_the_list,
    background_workers_wait_for_their_time,
    a_finished_worker_never_runs_again,
    no_background_worker_is_forgotten,
    a_crash_ends_every_restart_interval,
    every_registered_worker_runs_once,
)
