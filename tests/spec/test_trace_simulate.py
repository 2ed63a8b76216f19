"""Random walks: the same for the same seed, and each one a run of the machine."""

import pytest
from toy import SMALL, TOY, Pm, pm

from pglife_spec.lang.expr import LanguageError
from pglife_spec.traces.simulate import simulate
from pglife_spec.traces.trace import replay


def walk(seed, **more):
    return simulate(TOY, SMALL, steps=60, seed=seed, **more)


def test_a_seed_decides_the_walk():
    assert walk(1) == walk(1)
    assert len({walk(seed).actions for seed in range(5)}) > 1


@pytest.mark.parametrize("seed", range(5))
def test_a_walk_is_a_run_of_the_machine(seed):
    assert replay(TOY, SMALL, walk(seed)).explained


def test_weight_nought_forbids_and_weights_prefer():
    calm = walk(3, weights={"writer_ends[crash]": 0, "shut_down": 0})
    assert len(calm) == 60
    assert set(calm.actions) == {"start_up", "connect", "disconnect"}
    busy = walk(3, weights={"writer_ends": 50, "shut_down": 0})
    assert busy.actions.count("writer_ends[crash]") > 10


def test_a_walk_ends_at_its_until_condition():
    ended = walk(5, until=pm == Pm.RUN)
    assert ended.actions == ("start_up",)


def test_a_walk_ends_where_nothing_is_enabled():
    assert walk(2, weights={"shut_down": 5}).moments[-1].state["pm.state"] is Pm.GONE


@pytest.mark.parametrize("weights", [{"nothing": 1}, {"connect": -1}])
def test_wrong_weights_are_refused(weights):
    with pytest.raises(LanguageError, match=next(iter(weights))):
        walk(1, weights=weights)
