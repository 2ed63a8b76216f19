"""The defects of docs/findings.md that lie beyond the model: standbys, walsenders, delays.

As in test_09_findings.py each scenario asserts what is right, and is expected to fail where the
release has the defect.

Source       docs/findings.md; postmaster.c: process_pm_child_exit(), PostmasterStateMachine(),
             pmdie().
"""

from __future__ import annotations

import os
import signal

import pytest

from pglife_conformance.base import deadlines
from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import Outcome
from pglife_conformance.events import FAST, SMART
from pglife_conformance.expect.lines import ABNORMAL, REINITIALIZING
from pglife_conformance.hold.fork_limit import limit_children
from pglife_conformance.hold.pin import Pin, StoppedPostmaster
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim
from pglife_conformance.scenarios.findings.test_crash_restart import (
    ANOTHER_ROUND_S,
    CRASH,
    HELPERS,
    REAPER,
    expect_end,
    expect_reaped,
    finding,
)
from pglife_conformance.scenarios.findings.test_fork_failure import (
    GATED,
    MACHINE,
    NO_CHECKPOINTER,
    QUIET,
    open_without_checkpointer,
)

READ_ONLY = "database system is ready to accept read-only connections"
AS_AT_INITDB = 100
"""max_connections: a hot standby may not have fewer than its primary had."""


# W1.


@claim(
    "INV-91",
    "INV-92",
    "MM-03",
    source=REAPER,
    needs=[*CRASH, Need.STANDBY],
    defects=[finding("W1", "startup_exit_signals_others")],
)
@pytest.mark.unmonitored("standbys are beyond the model")
@pytest.mark.parametrize("how", ["promotion", "failure"])
def test_the_startup_process_ends_during_a_smart_shutdown(
    stopped_cluster: Cluster, how: str
) -> None:
    """A smart shutdown of a hot standby whose startup process ends meanwhile ends when the last
    session has left."""
    cluster = stopped_cluster
    cluster.configure(max_connections=AS_AT_INITDB)
    cluster.write_file("standby.signal")
    cluster.start(wait=False)
    cluster.expect_log(f"^{READ_ONLY}$", within=deadlines.START_LIMIT)
    startup = cluster.child(Kind.STARTUP)
    with cluster.session():
        then = cluster.since()
        cluster.request_shutdown(SMART)
        then.expect_log("^received smart shutdown request$")
        if how == "promotion":
            cluster.write_file("promote")
            cluster.signal_postmaster(signal.SIGUSR1)
        else:
            cluster.signal_child(startup, signal.SIGTERM)
        expect_reaped(cluster, startup)
    expect_end(cluster, 0, but_for=HELPERS)


# W2.


@claim(
    "INV-91",
    "INV-97",
    "SM-06",
    "TR17-20",
    "TR18-23",
    source=MACHINE,
    needs=[*GATED, Need.WALSENDER],
    defects=[finding("W2", "", until=17)],
)
@QUIET
def test_no_checkpointer_can_be_forked_and_a_walsender_is_stuck(counted_cluster: Cluster) -> None:
    """A fast shutdown that finds no checkpointer and can fork none kills a walsender that cannot
    take QUIT after five seconds, and ends with 1."""
    cluster = counted_cluster
    if cluster.target.version.major >= 18:
        cluster.configure(io_method="sync")
    open_without_checkpointer(cluster)
    with StoppedPostmaster(cluster):
        # Served before the missing checkpointer is looked for, in the same turn of the loop.
        client = cluster.silent_client(wait_for_child=False)
        limit_children(cluster, 1)
    packet = {"user": "postgres", "database": "postgres", "replication": "true"}
    limit_s = deadlines.ANSWER_LIMIT * cluster.scale
    if client.send_startup_packet(packet, limit_s=limit_s) is not Outcome.ADMITTED:
        raise Inconclusive("a walsender and no checkpointer", f"{client.outcome}")
    with Pin(cluster, Kind.WALSENDER) as walsender:
        limit_children(cluster, 0)
        then = cluster.since()
        cluster.request_shutdown(FAST)
        then.expect_log(NO_CHECKPOINTER)
        cluster.expect_death(walsender.child, ANOTHER_ROUND_S)
    cluster.expect_exit(1)
    then.expect_line(ABNORMAL)


# W3.


class ReinitialisationBarrier:
    """Holds a postmaster in the middle of making shared memory anew: it reads the control file
    there, and in place of that is a FIFO without a writer."""

    def __init__(self, cluster: Cluster) -> None:
        self._path = cluster.data / "global" / "pg_control"
        self._kept = self._path.with_name("pg_control.kept")
        self._path.rename(self._kept)
        os.mkfifo(self._path, 0o600)
        cluster.target.user.chown(self._path)
        cluster.at_end.append(self.open)

    def open(self) -> None:
        """The control file is there again, and whoever waits for it gets its content."""
        if not self._path.is_fifo():
            return
        barrier = os.open(self._path, os.O_RDWR | os.O_NONBLOCK)
        self._kept.rename(self._path)
        os.write(barrier, self._path.read_bytes())
        os.close(barrier)


@claim(
    "INV-91",
    "SH-06",
    "MM-08",
    source="postmaster.c: pmdie(), reaper()",
    needs=CRASH,
    until=17,
    why="since 16 a request is looked at between two turns of the loop (and then meets F01)",
    defects=[finding("W3", "", until=17)],
)
@pytest.mark.unmonitored("a delay, and the model has no clock of a minute")
def test_fast_shutdown_right_behind_the_reinitialisation(cluster: Cluster) -> None:
    """A fast shutdown requested while shared memory is made anew ends without waiting for a
    checkpointer that nobody forks any more."""
    # The first start has logged its settings. Without anything to redo the startup process does not
    # look whether it has been told to end.
    cluster.restart()
    then = cluster.since()
    with StoppedPostmaster(cluster):
        barrier = ReinitialisationBarrier(cluster)
        cluster.crash(Kind.WALWRITER)
    then.expect_line(REINITIALIZING)
    # Not taken before the handler of the deaths has returned, and that waits at the barrier.
    cluster.request_shutdown(FAST)
    barrier.open()
    then.expect_log("^received fast shutdown request$")
    redo = then.expect_log("^redo (starts at|is not required)")
    if redo.message != "redo is not required":
        raise Inconclusive("nothing to redo", redo.message)
    expect_end(cluster, 1, but_for=frozenset({Kind.STARTUP}))
