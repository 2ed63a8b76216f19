"""The kinds of children that the small configurations leave out: one configuration for each.

Begin with FAMILIES: for each the reviewed size, the actions that must be taken in it, and the
properties that it is for.
"""

from dataclasses import dataclass

import pytest

from pglife_spec.explore.liveness import check_property
from pglife_spec.explore.search import Exploration, explore
from pglife_spec.postgres.build import build
from pglife_spec.postgres.configurations import CONFIGS
from pglife_spec.postgres.state.postmaster import EXITED

MACHINE = build()
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
FAMILIES = {
    "archiver-15": Family((190_380, 28, 1_122_086), "archiver", holds=ARCHIVER),
    "archiver-18": Family((345_924, 33, 1_945_711), "archiver", IN_REAPER, ARCHIVER),
    "walsender-15": Family((390_188, 28, 2_684_785), "walsender", holds=(ENDS,)),
    "walsender-18": Family((345_228, 33, 2_227_620), "walsender", holds=(ENDS,)),
    "summarizer-18": Family(
        (43_189, 25, 207_319), "wal_summarizer", holds=("a_missing_summarizer_is_replaced",)
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
    assert {name for name, times in taken.items() if not times} == family.never


def test_its_properties_hold(explored: Exploration) -> None:
    for name in FAMILIES[explored.program.config.name].holds:
        prop = next(p for p in MACHINE.properties if p.name == name)
        verdict = check_property(explored, prop)
        assert verdict.holds, name
        assert verdict.states > 0, name
