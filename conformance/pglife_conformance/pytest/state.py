"""What one pytest session knows: target, run, options, clusters of the running scenario."""

from dataclasses import dataclass, field
from typing import NoReturn, Protocol

import pytest

from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import Recorder
from pglife_conformance.pytest.claims import Defect
from pglife_conformance.system.run import Run, sweep
from pglife_conformance.targets import resolve_target
from pglife_conformance.targets.base import Target

UNFIT = "self-test of target"
_LONGEST_REASON = 500


class Monitors(Protocol):
    """What watches the clusters of each scenario (monitored.py)."""

    def recorders_for(self, item: pytest.Item) -> list[Recorder]:
        """The recorders of a new cluster of this scenario."""

    def judge(self, item: pytest.Item, shown: Defect | None) -> None:
        """Judge them when the scenario has passed, or has shown this defect's symptom."""


@dataclass
class SuiteState:
    """Target, run and options."""

    target: Target
    run: Run
    scale: float
    keep_clusters: bool
    monitoring: Monitors | None = None
    """Set by the scenarios' own fixture; other users of the fixtures have no monitor."""
    _clusters: dict[str, list[Cluster]] = field(default_factory=dict)

    def recorders_for(self, item: pytest.Item) -> list[Recorder]:
        """The recorders of a new cluster of this scenario."""
        return self.monitoring.recorders_for(item) if self.monitoring is not None else []

    def clusters_of(self, item: pytest.Item) -> list[Cluster]:
        """The clusters that a scenario has made so far."""
        return self._clusters.setdefault(item.nodeid, [])

    def fail_selftest(self, problem: BaseException, *, is_worker: bool) -> NoReturn:
        """The target cannot be judged: one line says why, and the run ends.

        An xdist worker cannot end the run: it fails its scenario with this line, and the
        controller then ends the run (plugin.py).
        """
        reason = first_line(problem)[:_LONGEST_REASON]
        line = f"{UNFIT} {self.target.name} ({self.target.version}) failed: {reason}"
        if is_worker:
            pytest.fail(line, pytrace=False)
        pytest.exit(line, returncode=pytest.ExitCode.USAGE_ERROR)


STATE_KEY = pytest.StashKey[SuiteState]()


def first_line(problem: BaseException) -> str:
    """The failure without its evidence, on one line."""
    return " ".join(str(problem).split("\nprocesses\n")[0].split())


def begin(config: pytest.Config, target: Target) -> SuiteState:
    """Remove what dead runs have left, and begin this run."""
    sweep()
    state = SuiteState(
        target=target,
        run=Run.begin(),
        scale=config.option.pglife_deadline_scale,
        keep_clusters=config.option.pglife_keep_clusters,
    )
    config.stash[STATE_KEY] = state
    return state


def suite_state(config: pytest.Config) -> SuiteState:
    """The state of this session; the first call begins it."""
    state = config.stash.get(STATE_KEY, None)
    return state if state is not None else begin(config, chosen_target(config))


def chosen_target(config: pytest.Config) -> Target:
    """The target of --target, with the repairs of --repaired.

    Raises:
        UnusableTarget: if it is of no use; the message is one line.
    """
    target = resolve_target(config.option.pglife_target)
    words = [word for text in config.option.pglife_repaired for word in text.split(",") if word]
    target.declare_repaired(words, "--repaired")
    return target
