"""The monitors of a pytest run: each cluster has one, which judges it when the scenario has run.

Begin with Monitoring. The marker `unmonitored` says why the model cannot follow a scenario.
"""

from pathlib import Path

import pytest

from pglife_conformance.events import Recorder
from pglife_conformance.expect.symptom import Symptom
from pglife_conformance.monitor.judge import Impossible, Monitor
from pglife_conformance.monitor.steps import TooManyCandidates
from pglife_conformance.pytest.claims import Defect, claim_of
from pglife_conformance.pytest.state import suite_state
from pglife_conformance.targets.base import Target
from pglife_spec import REPAIR_NAMES, view_of

_AS_DECLARED: pytest.StashKey[list[Monitor]] = pytest.StashKey()
"""The monitors whose model has the repairs that the target declares, and no other."""
_REPAIRED: pytest.StashKey[list[Monitor]] = pytest.StashKey()
"""The same for a scenario of a finding that the target may show: its repair is on."""


def enlist(config: pytest.Config) -> None:
    """Have every cluster of this session watched."""
    state = suite_state(config)
    if state.monitoring is None:
        state.monitoring = Monitoring(state.target, _place_for_code(config))


class Monitoring:
    """Makes the monitors of each scenario and asks them for their verdict."""

    def __init__(self, target: Target, place_for_code: Path | None) -> None:
        self._target = target
        self._place = place_for_code

    def recorders_for(self, item: pytest.Item) -> list[Recorder]:
        """The monitors of a new cluster of this scenario."""
        if item.get_closest_marker("unmonitored") is not None:
            return []
        made = self._monitor(frozenset())
        item.stash.setdefault(_AS_DECLARED, []).append(made)
        claim = claim_of(item)
        defects = claim.defects_of(self._target) if claim is not None else ()
        repairs = frozenset(d.finding.repair for d in defects if d.finding.repair is not None)
        if not repairs:
            return [made]
        repaired = self._monitor(repairs)
        item.stash.setdefault(_REPAIRED, []).append(repaired)
        return [made, repaired]

    def _monitor(self, more: frozenset[str]) -> Monitor:
        def repairs() -> list[str]:
            return [name for name in REPAIR_NAMES if name in more or self._target.has_repair(name)]

        return Monitor(repairs, self._place)

    def judge(self, item: pytest.Item, shown: Defect | None) -> None:
        """Judge what the scenario's clusters have done.

        Args:
            item: the scenario, which has passed or failed with a defect's symptom.
            shown: that defect. Its model must explain everything, and the symptom's pmState at the
                end. Without a symptom the model with the repair must explain everything.

        Raises:
            Impossible: if the model does not explain it.
        """
        # A monitor keeps many states: it lives no longer than its scenario.
        as_declared = item.stash.get(_AS_DECLARED, [])
        repaired = item.stash.get(_REPAIRED, [])
        item.stash[_AS_DECLARED], item.stash[_REPAIRED] = [], []
        for monitor in as_declared if shown is not None or not repaired else repaired:
            monitor.judge()
            if monitor.open_because is not None:
                item.user_properties.append(("monitor", f"open: {monitor.open_because}"))
                continue
            if shown is not None:
                _expect_state(monitor, shown)
            item.user_properties.append(("monitor", f"explained: {monitor.looks} looks"))


def _expect_state(monitor: Monitor, shown: Defect) -> None:
    """One of the states that explain everything has the symptom's pmState."""
    symptom = shown.symptom
    if not isinstance(symptom, Symptom) or symptom.exit_code is not None:
        return
    try:
        program, states = monitor.explanations()
    except TooManyCandidates:
        return
    view = view_of(program)
    found = {view.pm_state(state) for state in states}
    if symptom.state not in found:
        names = ", ".join(sorted(pm.name for pm in found))
        raise Impossible(
            f"{shown.finding}: the model explains it in {names}, "
            f"the symptom is of {symptom.state.name}"
        )


def _place_for_code(config: pytest.Config) -> Path | None:
    """Below .pytest_cache, where all workers find it; None if pytest keeps none or may not."""
    pytest_cache = getattr(config, "cache", None)
    if pytest_cache is None:
        return None
    try:
        return Path(pytest_cache.mkdir("pglife-monitor"))
    except OSError:
        return None
