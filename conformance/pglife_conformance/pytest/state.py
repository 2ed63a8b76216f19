"""What one pytest session knows: target, run, options, clusters of the running scenario.

Begin with   SuiteState, suite_state().
Owns         the one object hung on pytest's config.
Leaves out   hooks (plugin.py).
Source       -
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

import pytest

from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import Recorder
from pglife_conformance.system.run import Run, sweep
from pglife_conformance.targets import resolve_target
from pglife_conformance.targets.base import Target

USAGE_ERROR = 4
UNFIT = "self-test of target"

RecorderFactory = Callable[[pytest.Item, Cluster], Recorder | None]


@dataclass
class SuiteState:
    """Target, run and options."""

    target: Target
    run: Run
    scale: float
    seed: int
    keep_clusters: bool
    recorder_factories: list[RecorderFactory] = field(default_factory=list)
    """The monitor puts itself here: called for each new cluster of a scenario."""
    _clusters: dict[str, list[Cluster]] = field(default_factory=dict)

    def random_for(self, item: pytest.Item) -> random.Random:
        """Randomness that the seed and the scenario's name fix."""
        return random.Random(f"{self.seed}:{item.nodeid}")

    def recorders_for(self, item: pytest.Item, cluster: Cluster) -> list[Recorder]:
        """Who wants to hear of this cluster."""
        made = (factory(item, cluster) for factory in self.recorder_factories)
        return [recorder for recorder in made if recorder is not None]

    def clusters_of(self, item: pytest.Item) -> list[Cluster]:
        """The clusters that a scenario has made so far."""
        return self._clusters.setdefault(item.nodeid, [])

    def fail_selftest(self, problem: BaseException, *, is_worker: bool) -> NoReturn:
        """The target cannot be judged: one clear line, then the end of the run.

        An xdist worker cannot end the run; it fails its scenario with this line, and the
        controller ends the run when it hears of that (plugin.py).
        """
        line = " ".join(str(problem).split("\nprocesses\n")[0].split())
        told = f"{UNFIT} {self.target.name} ({self.target.version}) failed: {line}"
        if is_worker:
            pytest.fail(told, pytrace=False)
        pytest.exit(told, returncode=USAGE_ERROR)


STATE_KEY = pytest.StashKey[SuiteState]()


def begin(config: pytest.Config, target: Target) -> SuiteState:
    """Sweep what dead runs have left, and begin this one."""
    sweep()
    state = SuiteState(
        target=target,
        run=Run.begin(),
        scale=config.option.deadline_scale,
        seed=config.option.pglife_seed,
        keep_clusters=config.option.keep_clusters,
    )
    config.stash[STATE_KEY] = state
    return state


def suite_state(config: pytest.Config) -> SuiteState:
    """The state of this session; begun when first asked for."""
    state = config.stash.get(STATE_KEY, None)
    return state if state is not None else begin(config, resolve_target(config.option.target))
