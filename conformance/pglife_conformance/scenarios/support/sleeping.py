"""Waiting until a process sleeps for an exact time, and stopping it in that sleep."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.hold.pin import Pin
from pglife_conformance.observation.processes import Child
from pglife_conformance.observation.signals import was_woken
from pglife_conformance.observation.sleeping import sleep_ms

SLEEP_COMES_WITHIN_S = 30.0


"""Fifty rounds of a walwriter, each of which a loaded machine may stretch."""


def expect_sleep(cluster: Cluster, who: str, pid: int, ms: int) -> None:
    """Somebody sleeps, sooner or later, for exactly so long."""
    cluster.expect_sleep(pid, ms)


@contextlib.contextmanager
def pinned_asleep(cluster: Cluster, child: Child, ms: int) -> Iterator[None]:
    """Hold a child in a sleep of exactly this length; nobody has woken it yet.

    One that wakes before it is stopped is tried again. A woken one is runnable from the moment
    that its latch is set, and so it is not taken for one that sleeps.
    """
    while True:
        cluster.expect_sleep(child, ms, SLEEP_COMES_WITHIN_S)
        with Pin(cluster, child):
            if sleep_ms(child.pid) == ms and not was_woken(child.pid):
                yield
                return
