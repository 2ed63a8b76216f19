"""The monitor's place in a pytest run: one for each cluster, judged when the scenario has run.

Begin with   watch(), judge().
Owns         the marker `unmonitored`, by which a scenario says why the model cannot follow it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.monitor.judge import Monitor
from pglife_conformance.pytest.state import suite_state
from pglife_spec.postgres.state import REPAIRS

_MONITORS: pytest.StashKey[list[Monitor]] = pytest.StashKey()
_NAMES = tuple(param.name.removeprefix("repair.") for param in REPAIRS)


def watch(item: pytest.Item, cluster: Cluster) -> Monitor | None:
    """The monitor of a new cluster, or None where the scenario has none."""
    if item.get_closest_marker("unmonitored") is not None:
        return None
    target = cluster.target
    monitor = Monitor(
        lambda: [name for name in _NAMES if target.has_repair(name)], _place_for_code(item.config)
    )
    item.stash.setdefault(_MONITORS, []).append(monitor)
    return monitor


def _place_for_code(config: pytest.Config) -> Path | None:
    """Below .pytest_cache, where all workers find it; None if pytest keeps none or may not."""
    pytest_cache = getattr(config, "cache", None)
    if pytest_cache is None:
        return None
    try:
        return Path(pytest_cache.mkdir("pglife-monitor"))
    except OSError:
        return None


def enlist(config: pytest.Config) -> None:
    """Have every cluster of this session watched."""
    factories = suite_state(config).recorder_factories
    if watch not in factories:
        factories.append(watch)


def judge(item: pytest.Item) -> None:
    """Judge what the scenario's clusters have done.

    Raises:
        Impossible: if the model does not explain it.
    """
    monitors = item.stash.get(_MONITORS, [])
    # A monitor holds many states: it is let go with the scenario.
    item.stash[_MONITORS] = []
    for monitor in monitors:
        monitor.judge()
        if monitor.open_because is not None:
            item.user_properties.append(("monitor", f"open: {monitor.open_because}"))
        else:
            item.user_properties.append(("monitor", f"explained: {monitor.looks} looks"))
