"""Wait until a process sleeps for an exact time, and stop it in that sleep."""

import contextlib
from collections.abc import Iterator

from pglife_conformance.base.ids import Pid
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.hold.pin import Pin
from pglife_conformance.observation.processes import Child
from pglife_conformance.observation.signals import was_woken
from pglife_conformance.observation.sleeping import sleep_ms

SLEEP_LIMIT_S = 30.0
"""Fifty iterations of a walwriter, each of which may take longer on a loaded machine."""


def expect_sleep(cluster: Cluster, who: str, pid: Pid, ms: int) -> None:
    """The process sleeps, sooner or later, for exactly this time."""
    cluster.expect_sleep(pid, ms)


@contextlib.contextmanager
def pinned_asleep(cluster: Cluster, child: Child, ms: int) -> Iterator[None]:
    """Stop a child in a sleep of exactly this length, before any process has woken it.

    If the child wakes before it is stopped, this tries again. A child whose latch is set is
    runnable, so it does not count as asleep.
    """
    while True:
        cluster.expect_sleep(child, ms, SLEEP_LIMIT_S)
        with Pin(cluster, child):
            if sleep_ms(child.pid) == ms and not was_woken(child.pid):
                yield
                return
