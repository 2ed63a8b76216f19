"""Random lives of a live server are explained by the model: a few always, many on request.

`PGLIFE_MINUTES=10 pytest tests/conformance/test_live_machine.py --target ...` lives on for ten
minutes, each life another one; without it the lives are always the same.
"""

from __future__ import annotations

import os
import time

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.template import Template
from pglife_conformance.monitor.judge import Impossible, Monitor
from pglife_conformance.pytest.state import SuiteState

from .live_machine import Life, Maker, live

MINUTES = float(os.environ.get("PGLIFE_MINUTES", "0"))
FEW = {"io_workers": "2"}
CONFIGURATIONS = [FEW, {**FEW, "restart_after_crash": "off", "autovacuum": "off"}]


@pytest.fixture(autouse=True)
def tells_states(pglife_state: SuiteState) -> None:
    """Skip where the monitor has little to go by."""
    if Need.PMSTATE_LOG not in pglife_state.target.capabilities:
        pytest.skip("the target does not log its states (PM-01)")


@pytest.mark.parametrize("settings", CONFIGURATIONS, ids=["restarts", "does not restart"])
def test_random_lives_are_explained(
    pglife_state: SuiteState, template: Template, settings: dict[str, str]
) -> None:
    """Whatever is done to a server in whatever order, the model explains what it does."""
    maker = Maker(pglife_state, template, settings)
    reasons = live(maker, lives=4, steps=12)
    until = time.monotonic() + 60 * MINUTES / len(CONFIGURATIONS)
    while time.monotonic() < until:
        reasons += live(maker, lives=2, steps=25, same=False)
    assert len(reasons) >= 4
    # A verdict may be open from where the model has no word for what was done.
    assert reasons.count(None) * 2 > len(reasons), reasons


def test_a_life_can_be_lived_again(pglife_state: SuiteState, template: Template) -> None:
    """The script of a life is a test that does the same."""
    maker = Maker(pglife_state, template, FEW)
    first = Life(maker)
    first.connect(0)
    first.stop("walwriter", 0)
    first.request_shutdown("smart")
    first.disconnect(0, politely=True)
    first.go_on(0)
    first.end()
    assert first.monitor.looks > 0
    assert first.monitor.open_because is None
    lived: list[Life] = []

    class Noted(Life):
        def __init__(self, maker: Maker) -> None:
            super().__init__(maker)
            lived.append(self)

    names: dict[str, object] = {"Life": Noted, "Maker": Maker}
    code = first.told().replace("from .live_machine import Life, Maker", "")
    exec(code, names)
    names["test_life"](pglife_state, template)  # type: ignore[operator]
    assert [life.script for life in lived] == [first.script]


class Unforgiving(Monitor):
    """One to whom any second look is one too many."""

    def judge(self) -> None:
        super().judge()
        if self.looks > 1:
            raise Impossible("a second look")


class UnforgivingMaker(Maker):
    """Clusters that are watched by it."""

    def monitor(self) -> Monitor:
        return Unforgiving()


def test_a_life_that_is_not_explained_tells_its_script(
    pglife_state: SuiteState, template: Template
) -> None:
    """A failure says what the monitor says, and how to do it again."""
    with pytest.raises(AssertionError, match="a second look") as told:
        live(UnforgivingMaker(pglife_state, template, FEW), lives=1, steps=2)
    assert "def test_life(pglife_state, template)" in str(told.value)
    assert "    life.end()" in str(told.value)
