"""A server without a checkpointer because forks fail, and children that were not reaped."""

import contextlib
import os
from functools import partial

from pglife_conformance.base.ids import Pid
from pglife_conformance.base.needs import CRASH, Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.expect.children import children_when_running
from pglife_conformance.expect.lines import READY_LINE, REINITIALIZING
from pglife_conformance.hold.fork_limit import limit_children
from pglife_conformance.hold.pin import StoppedPostmaster
from pglife_conformance.hold.startup_barrier import StartupBarrier
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import children_of
from pglife_conformance.pytest.claims import settings

COUNTED = [*CRASH, Need.COUNTED_PROCESSES]
AT_BARRIER = [*COUNTED, Need.STARTUP_BARRIER]

NO_STARTUP = 'could not fork "?startup"? process: '
NO_CHECKPOINTER = 'could not fork "?checkpointer"? process: '

QUIET = settings(autovacuum=False, max_logical_replication_workers=0)
"""The launchers do not run, so the number of children is known."""


def io_workers(cluster: Cluster) -> int:
    """How many io workers the postmaster forks before any other child."""
    return children_when_running(cluster.major, cluster.settings)[Kind.IO_WORKER]


class Orphans:
    """Children whose postmaster exited without reaping them; this process adopts them."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._others = set(children_of(Pid(os.getpid())))
        self.found: list[Pid] = []

    def expect_none(self) -> None:
        """The postmaster has reaped all its children; any orphan is waited for and reaped here."""
        left = (
            set(children_of(Pid(os.getpid())))
            - self._others
            - self._cluster.watcher.postmaster_pids
        )
        self.found[:] = sorted(left)
        for pid in self.found:
            self._cluster.wait_for(f"the end of orphan {pid}", partial(_is_reaped, pid))
        if left:
            raise self._cluster.watcher.failure(
                "a postmaster that has waited for all its children", f"orphans {self.found}"
            )


def _is_reaped(pid: Pid) -> bool:
    with contextlib.suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    return True


def open_without_checkpointer(cluster: Cluster) -> None:
    """Bring the server into PM_RUN after a crash with io workers only, and FatalError false.

    Every fork after that of the startup process has failed. The crash is in a first start, before
    any write: there is nothing to recover, so the startup process needs no checkpointer.
    """
    barrier = StartupBarrier(cluster)
    cluster.start(wait=False)
    barrier.wait_for_startup()
    cluster.child(Kind.CHECKPOINTER)
    cluster.child(Kind.BACKGROUND_WRITER)
    then = cluster.since()
    with StoppedPostmaster(cluster):
        limit_children(cluster, io_workers(cluster) + 1)
        cluster.crash(Kind.CHECKPOINTER)
    then.expect_line(REINITIALIZING)
    startup = barrier.wait_for_startup(then)
    limit_children(cluster, 0)
    barrier.open()
    then.expect_line(READY_LINE)
    cluster.expect_death(startup)
    cluster.wait_for(
        "no child but io workers",
        lambda: all(kid.kind is Kind.IO_WORKER for kid in cluster.watcher.kids),
    )
    # While the postmaster still tries to fork, a raised limit would let a fork succeed.
    cluster.expect_idle(cluster)
