"""Background workers: registered at the start, started when their time comes, restarted or not.

Begin with start_workers(), which one pass over the list does; then the actions.

Source: postmaster.c: maybe_start_bgworkers(), bgworker_should_start_now(), CleanupBackend();
bgworker.c: ResetBackgroundWorkerCrashTimes(); 15: postmaster.c: CleanupBackgroundWorker().
"""

from collections.abc import Sequence

from pglife_spec.lang.declare import Step, action
from pglife_spec.lang.expr import FALSE, any_of, ite
from pglife_spec.lang.machine import Actor, Effect, emit, flatten, when
from pglife_spec.postgres.actions.effects import Effects, crash, forget, fork
from pglife_spec.postgres.state.children import LIFE
from pglife_spec.postgres.state.history import WORKER_RAN
from pglife_spec.postgres.state.postmaster import (
    ALIVE,
    BETWEEN_EVENTS,
    FATAL_ERROR,
    FORK_FAILS,
    REAPING,
)
from pglife_spec.postgres.state.workers import (
    HAVE_CRASHED_WORKER,
    LISTED,
    START_WORKER_NEEDED,
    is_due,
    its_time_has_come,
    restarts,
    waits,
)
from pglife_spec.postgres.words import Kind, Life
from pglife_spec.postgres.words.kinds import KINDS, WORKERS
from pglife_spec.postgres.words.releases import Feature, has
from pglife_spec.postgres.words.repairs import REPAIR_UNSTARTED_WORKER
from pglife_spec.postgres.words.workers import Registration

#: Some worker is registered at the start.
WORKERS_EXIST = any_of(*(KINDS[kind].wanted for kind in WORKERS))


def _pass(kinds: Sequence[Kind], over: Kind | None) -> Effects:
    """The rest of a pass over the list: a fork that fails ends it."""
    if not kinds:
        return ()
    kind, rest = kinds[0], _pass(kinds[1:], over)
    listed = LISTED[kind]
    is_over = waits(kind) if over is kind else FALSE
    start = is_due(kind) | (is_over & restarts(kind) & its_time_has_come(kind))
    noted = WORKER_RAN.becomes(True) if kind is Kind.STATIC_WORKER else ()
    forked = fork(kind, its_time_has_come(kind))
    started = [listed.becomes(Registration.LISTED), noted, forked, rest]
    failed = [listed.becomes(Registration.WAITS), START_WORKER_NEEDED.becomes(True)]
    remembered = () if over is kind else HAVE_CRASHED_WORKER.becomes(True)
    return flatten(
        [
            when(
                waits(kind),
                when(restarts(kind), remembered, listed.becomes(Registration.UNLISTED)),
            ),
            when(start, when(FORK_FAILS, failed, started), rest),
        ]
    )


def start_workers(over: Kind | None = None) -> Effects:
    """One pass over the list of workers, the newest first: start each whose time has come.

    While FatalError is set the pass forgets that anything was to be done.

    Args:
        over: the worker whose restart interval is over; any time may pass before a step.

    Source: postmaster.c: maybe_start_bgworkers().
    """
    return flatten(
        [
            START_WORKER_NEEDED.becomes(False),
            HAVE_CRASHED_WORKER.becomes(False),
            when(~FATAL_ERROR, _pass(WORKERS, over)),
        ]
    )


def register_workers() -> Effects:
    """The workers of shared_preload_libraries and the logical replication launcher are registered,
    and those that start with the postmaster are started."""
    return flatten(
        [
            *(
                LISTED[kind].becomes(
                    ite(KINDS[kind].wanted, Registration.LISTED, Registration.UNLISTED)
                )
                for kind in WORKERS
            ),
            when(WORKERS_EXIST & ALIVE, start_workers()),
        ]
    )


def open_for_workers() -> Effects:
    """The server opens: 18 makes the main loop look at the list, 15 looks itself."""
    return (
        when(
            WORKERS_EXIST,
            when(
                has(Feature.REAPER_FORKS_CHILDREN),
                start_workers(),
                START_WORKER_NEEDED.becomes(True),
            ),
        ),
    )


def look_at_workers() -> Effects:
    """15: with each message the postmaster looks at the list if a flag says so."""
    flags = START_WORKER_NEEDED | HAVE_CRASHED_WORKER
    return (when(has(Feature.REAPER_FORKS_CHILDREN) & flags, start_workers()),)


def reset_crash_times() -> Effects:
    """New shared memory: forget workers that are never restarted, even one that has not run yet;
    let the others start at once.

    Source: bgworker.c: ResetBackgroundWorkerCrashTimes().
    """
    made: list[Effect] = []
    for kind in WORKERS:
        listed = LISTED[kind]
        has_not_run = REPAIR_UNSTARTED_WORKER & (listed == Registration.LISTED)
        stays = ite(restarts(kind) | has_not_run, Registration.LISTED, Registration.UNLISTED)
        made.append(when(listed != Registration.UNLISTED, listed.becomes(stays)))
    return tuple(made)


@action(Actor.POSTMASTER, "postmaster.c: maybe_start_bgworkers()", "BG-05", "BG-06", "BG-08")
def start_background_workers() -> Step:
    """The postmaster starts every listed worker whose time has come; after a crash, until the end
    of recovery, it only resets the flags that made it look."""
    some_wait = any_of(*(waits(kind) for kind in WORKERS))
    some_due = any_of(*(is_due(kind) for kind in WORKERS))
    worth = START_WORKER_NEEDED | (HAVE_CRASHED_WORKER & (FATAL_ERROR | some_due | ~some_wait))
    return Step(when=[BETWEEN_EVENTS, worth], then=start_workers())


@action(
    Actor.POSTMASTER,
    "postmaster.c: maybe_start_bgworkers()",
    "BG-05",
    "BG-12",
    "BG-25",
    "PR-14",
    kind=WORKERS,
)
def restart_background_worker(kind: Kind) -> Step:
    """The restart interval of a worker is over, and the postmaster starts it again.

    It is 5 s for the logical replication launcher, which the model need not say: any time may pass
    before a step.
    """
    return Step(
        when=[
            BETWEEN_EVENTS,
            ~FATAL_ERROR,
            HAVE_CRASHED_WORKER,
            waits(kind),
            restarts(kind),
            its_time_has_come(kind),
        ],
        then=start_workers(over=kind),
    )


@action(
    Actor.POSTMASTER,
    "postmaster.c: CleanupBackend()",
    "RP-22",
    "BG-12",
    "BG-14",
    "SH-27",
    kind=WORKERS,
    life=(Life.EXITED_1, Life.CRASHED),
)
def reap_background_worker(kind: Kind, life: Life) -> Step:
    """The postmaster reaps a background worker: exit code 1 is logged, and the worker waits for its
    restart interval or is forgotten; any other status is a crash."""
    listed = LISTED[kind]
    if life is Life.CRASHED:
        then = flatten(
            [
                when(
                    has(Feature.HANDLE_FATAL_ERROR),
                    listed.becomes(Registration.STALE),
                    [listed.becomes(Registration.WAITS), HAVE_CRASHED_WORKER.becomes(True)],
                ),
                crash(kind),
            ]
        )
    else:
        then = flatten(
            [
                listed.becomes(ite(restarts(kind), Registration.WAITS, Registration.UNLISTED)),
                HAVE_CRASHED_WORKER.becomes(True),
                emit("log", "bgworker exited", kind.name),
            ]
        )
    return Step(
        when=[ALIVE, LIFE[kind] == life],
        then=[REAPING.becomes(True), forget(kind, life), then],
    )


@action(Actor.POSTMASTER, "postmaster.c: CleanupBackend()", "BG-13", "RP-22")
def reap_finished_background_worker() -> Step:
    """The postmaster reaps a background worker with exit code 0 and forgets it, whatever its
    restart interval is."""
    kind = Kind.STATIC_WORKER
    return Step(
        when=[ALIVE, LIFE[kind] == Life.EXITED_0],
        then=[
            REAPING.becomes(True),
            forget(kind, Life.EXITED_0),
            LISTED[kind].becomes(Registration.UNLISTED),
            HAVE_CRASHED_WORKER.becomes(True),
        ],
    )


ACTIONS = [
    *start_background_workers,
    *restart_background_worker,
    *reap_background_worker,
    *reap_finished_background_worker,
]
