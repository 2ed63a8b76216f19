"""Signals to one child: cases, and what a child survives."""

from signal import SIGKILL, SIGQUIT, Signals

import pytest

from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.observation.processes import Child


def each_signal(*numbers: Signals) -> pytest.MarkDecorator:
    """A case with each of these signals as `number`."""
    return pytest.mark.parametrize("number", numbers, ids=lambda number: number.name)


KILL_QUIT = each_signal(SIGKILL, SIGQUIT)


def expect_survives(cluster: Cluster, child: Child, names: str) -> None:
    """The child handles these signals one after the other, and no process exits or starts."""
    before = cluster.since()
    for name in names.split():
        cluster.signal_child(child, Signals[f"SIG{name}"])
        cluster.expect_idle(child)
        before.expect_undisturbed()
    cluster.expect_only(*before.kids)
    cluster.expect_same_children()
    before.expect_undisturbed()
