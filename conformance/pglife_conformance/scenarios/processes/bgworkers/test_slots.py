"""The counts and slots of background workers, for each way in which a worker ends.

Source: bgworker.c: BackgroundWorkerStateChange(), ForgetBackgroundWorker(),
BackgroundWorkerStopNotifications().
"""

import signal

import pytest

from pglife_conformance.base.needs import SQL
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import ServerError, Session
from pglife_conformance.events import FAST
from pglife_conformance.hold.parallel import parallel_setting
from pglife_conformance.hold.pin import Pin, StoppedPostmaster
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.processes.parallel.test_parallel_workers import (
    ONE_WORKER,
    expect_asleep,
)
from pglife_conformance.scenarios.support.parallel_workers import (
    expect_a_worker,
    expect_one_and_no_other,
    expect_slot_released,
    parallel_session,
)

CHANGE = "bgworker.c: BackgroundWorkerStateChange()"


def leader_without_timer(cluster: Cluster) -> Session:
    """A parallel session that is unused, so that only messages to it wake it.

    In any other session the timer of unreported statistics would, after ten seconds.
    """
    with cluster.session() as session:
        session.query(f"alter role postgres set {parallel_setting(cluster)} = on")
    return cluster.session()


@claim("BG-02 BG-15", source=CHANGE, needs=SQL)
@settings(**ONE_WORKER)
def test_worker_of_a_cancelled_leader_is_not_started(cluster: Cluster) -> None:
    """A worker whose leader is cancelled before the postmaster reads the request is not started;
    the leader continues, and the slot is free again."""
    with leader_without_timer(cluster) as session:
        cluster.expect_idle()
        child = session.child
        then = cluster.since()
        with StoppedPostmaster(cluster):
            session.send_query("select pg_sleep(60)")
            cluster.expect_idle(child)
            cluster.signal_child(child, signal.SIGINT)
            then.expect_line("canceling statement due to user request")
            cluster.expect_idle(child)
        with pytest.raises(ServerError):
            session.result()
        then.expect_no_log("^starting background worker process")
        for _ in range(3):
            expect_a_worker(cluster, session)
        expect_one_and_no_other(cluster, session)


@claim("BG-16 SH-03 INV-100", source=CHANGE, needs=SQL)
def test_worker_requested_after_a_fast_shutdown_is_not_started(cluster: Cluster) -> None:
    """A worker whose request the postmaster reads after a fast shutdown request is not started. The
    waiting session is notified, and the shutdown ends."""
    with leader_without_timer(cluster) as session:
        cluster.expect_idle()
        child = session.child
        then = cluster.since()
        with StoppedPostmaster(cluster):
            session.send_query("select pg_sleep(60)")
            cluster.expect_idle(child)
            cluster.request_shutdown(FAST)
        session.expect_end()
    cluster.expect_exit(code=0)
    then.expect_no_log("^starting background worker process")


@claim("BG-12 BG-10", source="bgworker.c: BackgroundWorkerStopNotifications()", needs=SQL)
def test_leader_that_exits_keeps_other_notifications(cluster: Cluster) -> None:
    """A leader is notified of its worker's exit, although another leader has exited meanwhile."""
    with leader_without_timer(cluster) as leader, cluster.session() as observer:
        other = parallel_session(cluster)
        expect_a_worker(cluster, other)
        expect_slot_released(cluster)
        leader.send_query("select pg_sleep(60)")
        child, worker = leader.child, cluster.child(Kind.PARALLEL_WORKER)
        expect_asleep(cluster, observer, worker)
        with Pin(cluster, worker):
            then = cluster.since()
            cluster.signal_child(child, signal.SIGINT)
            then.expect_line("canceling statement due to user request")
            cluster.expect_idle(child)
            leaves = other.child
            other.close()
            cluster.expect_death(leaves)
            cluster.expect_idle()
        with pytest.raises(ServerError):
            leader.result()
        cluster.expect_death(worker)
        expect_a_worker(cluster, leader)
