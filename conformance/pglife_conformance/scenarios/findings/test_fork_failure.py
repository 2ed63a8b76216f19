"""The defects of docs/findings.md that take a fork that fails, the ones before it having succeeded.

As in test_09_findings.py each scenario asserts what is right, and is expected to fail where the
release has the defect.

Source       docs/findings.md; postmaster.c: StartChildProcess(), PostmasterStateMachine().
"""

from __future__ import annotations

import contextlib
import os
import time
from functools import partial

from pglife_conformance.base import deadlines
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import FAST
from pglife_conformance.expect.children import children_when_running
from pglife_conformance.expect.lines import (
    ABNORMAL,
    READY_LINE,
    REINITIALIZING,
    SHUT_DOWN,
    SIGKILL_ROUND,
)
from pglife_conformance.expect.since import Since
from pglife_conformance.hold.fork_limit import limit_children, start_with_limit
from pglife_conformance.hold.pin import StoppedPostmaster
from pglife_conformance.hold.startup_barrier import StartupBarrier
from pglife_conformance.observation.idle import IdleProbe
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import children_of
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.findings.test_crash_restart import CRASH, REST_S, finding, is_busy
from pglife_spec import actions

STARTER = "postmaster.c: StartChildProcess()"
MACHINE = "postmaster.c: PostmasterStateMachine()"
COUNTED = [*CRASH, Need.COUNTED_PROCESSES]
GATED = [*COUNTED, Need.STARTUP_BARRIER]

NO_STARTUP = '^could not fork "?startup"? process: '
NO_CHECKPOINTER = '^could not fork "?checkpointer"? process: '

QUIET = settings(autovacuum=False, max_logical_replication_workers=0)
"""Nobody comes of his own accord, so that the counting has one meaning."""


def io_workers(cluster: Cluster) -> int:
    """How many of them are forked before any other child."""
    return children_when_running(cluster.target.version.major, cluster.settings)[Kind.IO_WORKER]


class Orphans:
    """Children whose postmaster has ended before it has reaped them: they become ours."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._others = set(children_of(os.getpid()))

    def expect_none(self) -> None:
        """Nobody was left behind; whoever was is waited for, and taken off the list."""
        left = set(children_of(os.getpid())) - self._others - self._cluster.watcher.postmaster_pids
        for pid in left:
            self._cluster.wait_for(f"the end of orphan {pid}", partial(_is_over, pid))
        if left:
            raise self._cluster.watcher.failure(
                "a postmaster that has waited for all its children", f"it has left {sorted(left)}"
            )


def _is_over(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    return True


# F09.


@claim(
    "INV-03",
    "INV-60",
    "INV-62",
    "ST-07",
    source=STARTER,
    needs=COUNTED,
    defects=[finding("F09", "startup_fork_failure_is_crash")],
    spec=actions.begin,
)
def test_the_startup_process_of_a_start_cannot_be_forked(counted_cluster: Cluster) -> None:
    """A postmaster that cannot fork its startup process ends with 1, after whoever it has forked
    before."""
    cluster = counted_cluster
    orphans = Orphans(cluster)
    start_with_limit(
        cluster, io_workers(cluster) + len({Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER})
    )
    cluster.expect_exit(1, within=deadlines.START_LIMIT)
    cluster.expect_log(NO_STARTUP)
    cluster.expect_log(f"^{SHUT_DOWN}$")
    assert cluster.pid_file() is None
    orphans.expect_none()


@claim(
    "INV-03",
    "INV-60",
    "INV-62",
    "ST-07",
    source=STARTER,
    needs=COUNTED,
    defects=[finding("F09", "startup_fork_failure_is_crash", since=18)],
    spec=actions.end_reaping,
)
def test_the_startup_process_after_a_crash_cannot_be_forked(counted_cluster: Cluster) -> None:
    """The same at the restart after a crash, when the io workers are there again."""
    cluster = counted_cluster
    cluster.start()
    orphans = Orphans(cluster)
    then = cluster.since()
    with StoppedPostmaster(cluster):
        limit_children(cluster, io_workers(cluster))
        cluster.crash(Kind.CHECKPOINTER)
    cluster.expect_exit(1, within=deadlines.CRASH_RESTART_LIMIT)
    then.expect_line(REINITIALIZING)
    then.expect_log(NO_STARTUP)
    then.expect_line(SHUT_DOWN)
    assert cluster.pid_file() is None
    orphans.expect_none()


# F05.


def open_without_checkpointer(cluster: Cluster) -> None:
    """PM_RUN after a crash, FatalError taken back, with nobody but io workers: no other fork since
    that of the startup process has succeeded.

    The crash is one of a first start, before anything was written: there is nothing to recover, so
    that the startup process needs no checkpointer at its end.
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
        "nobody but io workers",
        lambda: all(kid.kind is Kind.IO_WORKER for kid in cluster.watcher.kids),
    )
    # Not in the middle of its vain attempts: one of them would succeed where room is made now.
    cluster.wait_for("the postmaster to rest", IdleProbe(cluster.pid).is_idle)


def expect_end_alone(cluster: Cluster, then: Since) -> None:
    """The postmaster exits with 1; it is not waited for in vain.

    When its clock has run out and it has no child, nothing is left that could wake it.
    """
    rest = time.monotonic()

    def over() -> str | None:
        nonlocal rest
        seen = cluster.watcher.last
        assert seen is not None
        if seen.exit_code is not None:
            return "exit"
        is_over = then.find_log(f"^{SIGKILL_ROUND}$") is not None
        if seen.kids or not is_over or is_busy(cluster.pid):
            rest = time.monotonic()
        return "rest" if time.monotonic() - rest >= REST_S * cluster.scale else None

    if cluster.wait_for("the postmaster's exit", over, deadlines.SHUTDOWN_LIMIT) == "rest":
        raise cluster.watcher.failure(
            "the postmaster's exit with 1",
            "it has no child, its clock has run out, and it sleeps",
            hangs=True,
        )
    cluster.expect_exit(1)


@claim(
    "INV-91",
    "SM-06",
    "TR18-23",
    "TR17-20",
    source=MACHINE,
    needs=GATED,
    defects=[finding("F05", "checkpointer_fork_failure_advances", since=18)],
    spec=actions.process_shutdown_request,
)
@QUIET
def test_no_checkpointer_can_be_forked_and_nobody_is_left(counted_cluster: Cluster) -> None:
    """A fast shutdown that finds no checkpointer and can fork none ends with 1, also when no other
    child is left whose end would bring it on."""
    cluster = counted_cluster
    if cluster.target.version.major >= 18:
        cluster.configure(io_method="sync")
    open_without_checkpointer(cluster)
    then = cluster.since()
    cluster.request_shutdown(FAST)
    then.expect_log(NO_CHECKPOINTER)
    expect_end_alone(cluster, then)
    then.expect_line(ABNORMAL)
    assert cluster.pid_file() is None


@claim(
    "SM-06",
    "TR18-23",
    "SM-10",
    source=MACHINE,
    needs=[*GATED, Need.IO_WORKERS],
    since=18,
    why="the only children that outlast the others before are dead-end ones and walsenders",
)
@QUIET
def test_no_checkpointer_can_be_forked_and_io_workers_are_left(counted_cluster: Cluster) -> None:
    """A fast shutdown that finds no checkpointer and can fork none goes the way of a crash: the io
    workers are told to quit, and the postmaster ends with 1."""
    cluster = counted_cluster
    open_without_checkpointer(cluster)
    workers = cluster.children(Kind.IO_WORKER)
    assert len(workers) == io_workers(cluster)
    then = cluster.since()
    cluster.request_shutdown(FAST)
    then.expect_log(NO_CHECKPOINTER)
    cluster.expect_exit(1)
    then.expect_line(ABNORMAL)
    then.expect_no_log(f"^{SIGKILL_ROUND}$")
    assert cluster.pid_file() is None
