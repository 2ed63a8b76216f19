"""Forks that fail from the one that we choose on: a limit that counts one server's processes.

Begin with   room_for().
Owns         the arithmetic of RLIMIT_NPROC for a `counted_cluster`.
Leaves out   making every fork fail, which needs no counting (pins.py: pin_fork_failure).
Source       OB-13; setrlimit(2).

A fork fails if it would make one process more than the limit. A child counts from its fork to its
reaping, and so do its own children. Whoever is forked inherits the limit.
"""

from __future__ import annotations

from dataclasses import replace

from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import LimitForks


def room_for(cluster: Cluster, children: int) -> None:
    """From now on the postmaster can fork while it has fewer children than this."""
    assert cluster.target.user.is_counted, "a counted_cluster"
    cluster.watcher.stimulus(LimitForks(children))
    if not cluster.target.user.limit_processes(cluster.pid, 1 + children):
        raise Inconclusive("a limit of processes for the postmaster", "it could not be set")


def room_for_all(cluster: Cluster) -> None:
    """The limit is taken away."""
    cluster.watcher.stimulus(LimitForks(None))
    cluster.target.user.limit_processes(cluster.pid, None)


def start_with_room(cluster: Cluster, children: int) -> None:
    """Start a server that can have so many children; does not wait."""
    user = cluster.target.user
    assert user.is_counted, "a counted_cluster"
    cluster.watcher.stimulus(LimitForks(children, since_start=True))
    cluster.target.user = replace(user, limit_at_start=1 + children)
    try:
        cluster.start(wait=False)
    finally:
        cluster.target.user = user
