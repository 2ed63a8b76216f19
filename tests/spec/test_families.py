"""The kinds of children that the small configurations leave out: one configuration for each.

Begin with FAMILIES: for each the reviewed size, the actions that must be taken in it, and the
properties that it is for.
"""

import re
from dataclasses import dataclass

import pytest

from pglife_spec.explore.liveness import check_property
from pglife_spec.explore.search import Exploration, explore
from pglife_spec.postgres.build import build
from pglife_spec.postgres.configurations import CONFIGS, config
from pglife_spec.postgres.state.postmaster import EXITED
from pglife_spec.postgres.words.workers import WorkerStart

MACHINE = build()
#: Kinds whose names have the word "worker" and that no configuration here has.
OTHERS = re.compile(r"io_worker|bg_worker|autovac|slotsync_worker|launcher_asks")
ENDS = "the_wait_for_archiver_and_walsenders_ends"


@dataclass(frozen=True)
class Family:
    """What is expected of one configuration.

    Args:
        size: reachable states, their depth, and the steps between them.
        speaks_of: a part of the names of all actions of the family.
        never: those of them that cannot happen here.
        holds: properties.
    """

    size: tuple[int, int, int]
    speaks_of: str
    never: frozenset[str] = frozenset()
    holds: tuple[str, ...] = ()


IN_REAPER = frozenset(
    {
        "reap_and_replace_archiver(exited_0)",
        "reap_and_replace_archiver(exited_1)",
        "reap_startup_and_launch_archiver",
    }
)
ARCHIVER = ("a_missing_archiver_is_replaced", ENDS)
AUTOVACUUM = (
    "a_failed_start_of_an_autovacuum_worker_is_repeated",
    "every_request_for_an_autovacuum_worker_is_answered",
)
RESIZED = ("a_reload_changes_the_number_of_io_workers",)
WORKER = ("a_background_worker_whose_time_has_come_runs",)
FAMILIES = {
    "archiver-15": Family((449_361, 32, 2_407_429), "archiver", holds=ARCHIVER),
    "archiver-18": Family((1_106_509, 37, 5_851_336), "archiver", IN_REAPER, ARCHIVER),
    "walsender-15": Family((509_395, 29, 3_066_617), "walsender", holds=(ENDS,)),
    "walsender-18": Family((468_351, 31, 2_685_908), "walsender", holds=(ENDS,)),
    "autovacuum-15": Family((110_658, 30, 433_834), "autovacuum_worker", holds=AUTOVACUUM),
    "autovacuum-18": Family((84_746, 32, 319_166), "autovacuum_worker", holds=AUTOVACUUM),
    "emergency-18": Family((640_474, 52, 2_861_270), "emergency"),
    "io-pool-18": Family((2_190_310, 33, 13_481_982), "io_pool", holds=RESIZED),
    "workers-15": Family((422_672, 31, 1_974_182), "worker", holds=WORKER),
    "workers-18": Family((343_700, 30, 1_559_574), "worker", holds=WORKER),
    "summarizer-18": Family(
        (78_349, 28, 338_184), "wal_summarizer", holds=("a_missing_summarizer_is_replaced",)
    ),
}


@pytest.fixture(scope="module", params=FAMILIES)
def explored(request: pytest.FixtureRequest) -> Exploration:
    return explore(MACHINE, CONFIGS[request.param], final=EXITED)


def test_the_family_is_sound(explored: Exploration) -> None:
    """Every claim holds, no state is a deadlock, every action of the family is taken."""
    family = FAMILIES[explored.program.config.name]
    assert explored.complete
    assert explored.ok
    assert (explored.states, explored.depth, explored.transitions) == family.size
    taken = {name: times for name, times in explored.coverage().items() if family.speaks_of in name}
    never = {name for name, times in taken.items() if not times}
    # A family whose own actions have such a name leaves none out.
    if not OTHERS.search(family.speaks_of):
        never = {name for name in never if not OTHERS.search(name)}
    assert never == family.never


def test_its_properties_hold(explored: Exploration) -> None:
    for name in FAMILIES[explored.program.config.name].holds:
        prop = next(p for p in MACHINE.properties if p.name == name)
        verdict = check_property(explored, prop)
        assert verdict.holds, name
        assert verdict.states > 0, name


# Background workers of other start times.

NO_CLIENTS = {"backend": 0, "dead_end": 0}


@pytest.mark.parametrize("restarts", [True, False])
@pytest.mark.parametrize("start", [WorkerStart.CONSISTENT_STATE, WorkerStart.RECOVERY_FINISHED])
def test_claims_hold_for_a_worker_that_starts_later(start: WorkerStart, restarts: bool) -> None:
    small = config(
        "later",
        15,
        repaired=True,
        io_workers=0,
        bounds=NO_CLIENTS,
        worker_start=start,
        worker_restarts=restarts,
    )
    assert explore(MACHINE, small, final=EXITED).ok
