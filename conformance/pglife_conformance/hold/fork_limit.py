"""A limit of processes that makes the postmaster's forks fail from a chosen one on.

Begin with limit_children(). A fork fails if it would make one process more than RLIMIT_NPROC. A
child counts from its fork until it is reaped, and so do its own children, which inherit the limit.
The cluster is a `counted_cluster`. Making every fork fail needs no counting: pin_fork_failure().

Source: OB-13; setrlimit(2).
"""

from dataclasses import replace

from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import LimitForks


def limit_children(cluster: Cluster, children: int) -> None:
    """Let the postmaster fork only while it has fewer children than this."""
    assert cluster.target.user.is_counted, "a counted_cluster"
    cluster.watcher.stimulus(LimitForks(children))
    if not cluster.target.user.limit_processes(cluster.pid, 1 + children):
        raise Inconclusive("a limit of processes for the postmaster", "it could not be set")


def lift_limit(cluster: Cluster) -> None:
    """Let the postmaster fork again."""
    cluster.watcher.stimulus(LimitForks(None))
    cluster.target.user.limit_processes(cluster.pid, None)


def start_with_limit(cluster: Cluster, children: int) -> None:
    """Start a server that can have so many children, without waiting until it is ready."""
    user = cluster.target.user
    assert user.is_counted, "a counted_cluster"
    cluster.watcher.stimulus(LimitForks(children, since_start=True))
    cluster.target.user = replace(user, limit_at_start=1 + children)
    try:
        cluster.start(wait=False)
    finally:
        cluster.target.user = user
