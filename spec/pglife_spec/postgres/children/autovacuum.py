"""The autovacuum launcher and its workers.

Begin with launcher_asks_for_worker. The launcher fills the entry of the worker to come and sends a
message; the postmaster forks; the worker takes the entry, and gives it back when it exits.

Source: postmaster/autovacuum.c: AutoVacLauncherMain(), do_start_worker(), AutoVacWorkerMain(),
FreeWorkerInfo().
"""

from pglife_spec.lang.declare import Step, action
from pglife_spec.lang.expr import ite, total
from pglife_spec.lang.machine import Actor, Effect, when
from pglife_spec.postgres.state.autovacuum import (
    FORK_FAILED,
    LOST,
    NEEDS_SIGNAL,
    START_AUTOVAC_LAUNCHER,
    START_AUTOVAC_WORKER,
    STARTING,
    WORKING,
)
from pglife_spec.postgres.state.children import COUNT, LIFE
from pglife_spec.postgres.state.postmaster import state_is
from pglife_spec.postgres.words import PM, Kind, Life
from pglife_spec.postgres.words.parameters import AUTOVAC_WORKERS, AUTOVACUUM, WRAPAROUND
from pglife_spec.postgres.words.repairs import REPAIR_AUTOVAC_ENTRY

LAUNCHER = LIFE[Kind.AUTOVAC_LAUNCHER]
_LIVES = {
    life: COUNT[Kind.AUTOVAC_WORKER, life]
    for life in (Life.RUNNING, Life.TERMINATING, Life.QUITTING)
}
_RUNNING, _EXITED = _LIVES[Life.RUNNING], COUNT[Kind.AUTOVAC_WORKER, Life.EXITED_0]
#: Some live worker has taken no entry.
_IS_NEW = WORKING < total(_LIVES.values())


@action(Actor.CLIENT, "autovacuum.c: do_start_worker()", "AV-01", "AV-02", "AV-11", "PG-07")
def launcher_asks_for_worker() -> Step:
    """Some table needs vacuuming: the launcher fills the entry of the worker to come and asks the
    postmaster for it, unless one is to come already or no entry is free."""
    return Step(
        when=[AUTOVACUUM, LAUNCHER == Life.RUNNING, ~STARTING, WORKING + LOST < AUTOVAC_WORKERS],
        then=[STARTING.becomes(True), START_AUTOVAC_WORKER.becomes(True)],
    )


@action(Actor.CHILD, "autovacuum.c: AutoVacLauncherMain()", "AV-14", "AV-02", "PG-07")
def emergency_launcher_exits() -> Step:
    """With autovacuum off the launcher asks for one worker, if an entry is free, and exits. It does
    not look whether a worker is to come already, whose entry is then lost."""
    is_free = WORKING + LOST + ite(STARTING, 1, 0) < AUTOVAC_WORKERS
    asks = [
        when(STARTING & ~REPAIR_AUTOVAC_ENTRY, LOST.becomes(LOST + 1)),
        STARTING.becomes(True),
        START_AUTOVAC_WORKER.becomes(True),
    ]
    return Step(
        when=[~AUTOVACUUM, LAUNCHER == Life.RUNNING],
        then=[
            when(is_free | (STARTING & REPAIR_AUTOVAC_ENTRY), asks),
            LAUNCHER.becomes(Life.EXITED_0),
        ],
    )


@action(Actor.CHILD, "autovacuum.c: AutoVacLauncherMain()", "AV-10")
def launcher_asks_again() -> Step:
    """The launcher has received SIGUSR2 and finds that a worker could not be started: it waits a
    second and asks again."""
    return Step(
        when=[AUTOVACUUM, LAUNCHER == Life.RUNNING, FORK_FAILED, ~NEEDS_SIGNAL],
        then=[FORK_FAILED.becomes(False), START_AUTOVAC_WORKER.becomes(True)],
    )


@action(Actor.FAULT, "autovacuum.c: AutoVacLauncherMain()", "AV-03")
def launcher_cancels_request() -> Step:
    """The worker has not taken its entry in time: the launcher frees it."""
    return Step(
        when=[AUTOVACUUM, LAUNCHER == Life.RUNNING, STARTING], then=[STARTING.becomes(False)]
    )


@action(Actor.CHILD, "autovacuum.c: AutoVacWorkerMain()", "AV-02", "INV-51")
def autovacuum_worker_takes_its_entry() -> Step:
    """A new worker takes the entry that the launcher has filled."""
    return Step(
        when=[_RUNNING >= 1, _IS_NEW, STARTING],
        then=[STARTING.becomes(False), WORKING.becomes(WORKING + 1)],
    )


def _exits(life: Life, *, frees: bool) -> list[Effect]:
    alive = _LIVES[life]
    gone: list[Effect] = [alive.becomes(alive - 1), _EXITED.becomes(_EXITED + 1)]
    return [*gone, WORKING.becomes(WORKING - 1)] if frees else gone


@action(
    Actor.CHILD,
    "autovacuum.c: FreeWorkerInfo()",
    "AV-03",
    "AV-16",
    "SG-28",
    life=(Life.RUNNING, Life.TERMINATING),
)
def autovacuum_worker_frees_its_entry(life: Life) -> Step:
    """A worker is done, or was sent SIGTERM: it frees its entry and exits with 0 or 1."""
    return Step(when=[_LIVES[life] >= 1, WORKING >= 1], then=_exits(life, frees=True))


@action(
    Actor.CHILD,
    "autovacuum.c: AutoVacWorkerMain()",
    "AV-03",
    life=(Life.RUNNING, Life.TERMINATING),
)
def autovacuum_worker_exits_without_entry(life: Life) -> Step:
    """A worker that finds no entry exits with 0; one that was sent SIGTERM before it has taken its
    entry exits with 1 and leaves it."""
    found_none = ~STARTING if life is Life.RUNNING else _IS_NEW
    return Step(when=[_LIVES[life] >= 1, _IS_NEW, found_none], then=_exits(life, frees=False))


@action(Actor.CLIENT, "varsup.c: GetNewTransactionId()", "AV-14", "PG-06")
def launcher_is_asked_for() -> Step:
    """With autovacuum off and a database near wraparound a process asks for a launcher."""
    return Step(
        when=[WRAPAROUND, state_is(PM.PM_RUN), ~START_AUTOVAC_LAUNCHER],
        then=[START_AUTOVAC_LAUNCHER.becomes(True)],
    )


ACTIONS = [
    *launcher_asks_for_worker,
    *emergency_launcher_exits,
    *launcher_asks_again,
    *launcher_cancels_request,
    *autovacuum_worker_takes_its_entry,
    *autovacuum_worker_frees_its_entry,
    *autovacuum_worker_exits_without_entry,
    *launcher_is_asked_for,
]
