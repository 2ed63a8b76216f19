"""Random lives of a live server are explained by the model: a few always, many on request.

`PGLIFE_MINUTES=10 pytest tests/conformance/test_walk.py --target ...` continues for ten minutes,
each life another one; without it the lives are always the same.
"""

import os
import time

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.template import Template
from pglife_conformance.monitor.judge import Impossible, Monitor
from pglife_conformance.pytest.state import SuiteState
from pglife_conformance.walk import Life, Maker, walk

MINUTES = float(os.environ.get("PGLIFE_MINUTES", "0"))
FEW = {"io_workers": "2"}
CONFIGURATIONS = [FEW, {**FEW, "restart_after_crash": "off", "autovacuum": "off"}]


@pytest.fixture(autouse=True)
def logs_states(pglife_state: SuiteState) -> None:
    """Skip where the monitor would see little."""
    if Need.PMSTATE_LOG not in pglife_state.target.capabilities:
        pytest.skip("the target does not log its states (PM-01)")


@pytest.mark.parametrize("settings", CONFIGURATIONS, ids=["restarts", "does not restart"])
def test_random_lives_are_explained(
    pglife_state: SuiteState, template: Template, settings: dict[str, str]
) -> None:
    """The model explains what a server does under any stimuli in any order."""
    maker = Maker(pglife_state, template, settings)
    reasons = walk(maker, lives=2, steps=8)
    until = time.monotonic() + 60 * MINUTES / len(CONFIGURATIONS)
    while time.monotonic() < until:
        reasons += walk(maker, lives=2, steps=25, same=False)
    assert len(reasons) >= 2
    # A verdict is open after a stimulus that the model does not have.
    assert reasons.count(None) * 2 > len(reasons), reasons


def test_the_script_of_a_life_repeats_it(pglife_state: SuiteState, template: Template) -> None:
    """The script of a life is a test that does the same."""
    maker = Maker(pglife_state, template, FEW)
    first = Life(maker)
    first.connect(0)
    first.stop("walwriter", 0)
    first.request_shutdown("smart")
    first.disconnect(0, politely=True)
    first.resume(0)
    first.end()
    assert first.monitor.looks > 0
    assert first.monitor.open_because is None
    repeated: list[Life] = []

    class Noted(Life):
        def __init__(self, maker: Maker) -> None:
            super().__init__(maker)
            repeated.append(self)

    names: dict[str, object] = {"Life": Noted, "Maker": Maker}
    code = first.as_test().replace("from pglife_conformance.walk import Life, Maker", "")
    exec(code, names)
    names["test_life"](pglife_state, template)  # type: ignore[operator]
    assert [life.script for life in repeated] == [first.script]


class Refusing(Monitor):
    """A monitor that refuses a second look."""

    def judge(self) -> None:
        super().judge()
        if self.looks > 1:
            raise Impossible("a second look")


class RefusingMaker(Maker):
    """Makes clusters that this monitor watches."""

    def monitor(self) -> Monitor:
        return Refusing()


def test_a_life_that_is_not_explained_prints_its_script(
    pglife_state: SuiteState, template: Template
) -> None:
    """A failure says what the monitor says, and how to do it again."""
    with pytest.raises(AssertionError, match="a second look") as failure:
        walk(RefusingMaker(pglife_state, template, FEW), lives=1, steps=2)
    assert "def test_life(pglife_state, template)" in str(failure.value)
    assert "    life.end()" in str(failure.value)
