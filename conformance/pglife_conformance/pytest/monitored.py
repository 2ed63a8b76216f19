"""The monitor in a pytest run: one for each cluster, which judges when the scenario has ended.

Begin with watch() and judge(). A scenario that the model cannot follow has the marker `unmonitored`
with the reason.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.monitor.judge import Monitor
from pglife_conformance.pytest.state import suite_state
from pglife_spec import REPAIR_NAMES

_MONITORS: pytest.StashKey[list[Monitor]] = pytest.StashKey()


def watch(item: pytest.Item, cluster: Cluster) -> Monitor | None:
    """The monitor of a new cluster, or None where the scenario has none."""
    if item.get_closest_marker("unmonitored") is not None:
        return None
    target = cluster.target
    monitor = Monitor(
        lambda: [name for name in REPAIR_NAMES if target.has_repair(name)],
        _code_directory(item.config),
    )
    item.stash.setdefault(_MONITORS, []).append(monitor)
    return monitor


def _code_directory(config: pytest.Config) -> Path | None:
    """Below .pytest_cache, where all workers find it; None if pytest keeps none or may not."""
    pytest_cache = getattr(config, "cache", None)
    if pytest_cache is None:
        return None
    try:
        return Path(pytest_cache.mkdir("pglife-monitor"))
    except OSError:
        return None


def enlist(config: pytest.Config) -> None:
    """Give every cluster of this session a monitor."""
    factories = suite_state(config).recorder_factories
    if watch not in factories:
        factories.append(watch)


def judge(item: pytest.Item) -> None:
    """Judge what the servers of a scenario have done.

    Raises:
        Impossible: if the model does not explain it.
    """
    monitors = item.stash.get(_MONITORS, [])
    # A monitor holds many states, so it must not outlive its scenario.
    item.stash[_MONITORS] = []
    for monitor in monitors:
        monitor.judge()
        if monitor.open_because is not None:
            item.user_properties.append(("monitor", f"open: {monitor.open_because}"))
        else:
            item.user_properties.append(("monitor", f"explained: {monitor.looks} looks"))
