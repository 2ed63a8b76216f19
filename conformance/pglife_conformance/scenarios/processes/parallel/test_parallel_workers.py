"""Parallel workers: how they are started, counted and limited, and how they end."""

import pytest

from pglife_conformance.base.needs import SQL, Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import ServerError, Session
from pglife_conformance.hold.parallel import run_in_parallel
from pglife_conformance.hold.pin import pin_smart_pending
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.support.parallel_workers import (
    PARALLEL,
    expect_a_worker,
    expect_one_and_no_other,
    launched,
    make_table,
    parallel_session,
    workers_launched,
)

FORGET = "bgworker.c: ForgetBackgroundWorker()"
ONE_WORKER = {"max_worker_processes": "2", "max_parallel_workers": "1"}
"""The other one is the logical replication launcher."""
ONE = "Workers Launched: 1"
NONE = "Workers Launched: 0"


def expect_asleep(cluster: Cluster, observer: Session, worker: Child) -> None:
    """A parallel worker has reached its pg_sleep().

    Its title is set long before. A worker signalled before pg_sleep() may log another message,
    since the leader removes the shared memory that the worker has yet to attach.
    """
    asked = f"select lower(wait_event) from pg_stat_activity where pid = {worker.pid}"
    observer.expect_rows(asked, [("pgsleep",)])


@claim("BG-02 BG-13", source=FORGET, needs=SQL)
@settings(**ONE_WORKER)
def test_parallel_workers_use_up_no_slots(cluster: Cluster) -> None:
    """Parallel workers run one after the other in a single slot; each exits 0."""
    with parallel_session(cluster) as session:
        before = cluster.since()
        for _ in range(6):
            expect_a_worker(cluster, session)
        before.expect_undisturbed()


@claim("BG-02", source="bgworker.c: RegisterDynamicBackgroundWorker()", needs=SQL)
@settings(max_parallel_workers="1")
def test_parallel_workers_are_limited_as_such(cluster: Cluster) -> None:
    """Beyond max_parallel_workers no worker is started, and the statement runs without it."""
    with parallel_session(cluster) as busy, parallel_session(cluster) as other:
        busy.send_query("select pg_sleep(60)")
        cluster.child(Kind.PARALLEL_WORKER)
        assert workers_launched(other) == NONE
        busy.cancel()
        with pytest.raises(ServerError):
            busy.result()
        expect_a_worker(cluster, other)


@claim("BG-15 BG-12 SG-43", source="bgworker.c: TerminateBackgroundWorker()", needs=SQL)
@settings(**ONE_WORKER)
def test_leader_that_is_cancelled_ends_its_worker(cluster: Cluster) -> None:
    """The worker of a cancelled statement exits 1 before the session continues: no crash."""
    with parallel_session(cluster) as session, cluster.session() as observer:
        before = cluster.since()
        session.send_query("select pg_sleep(60)")
        worker = cluster.child(Kind.PARALLEL_WORKER)
        expect_asleep(cluster, observer, worker)
        session.cancel()
        with pytest.raises(ServerError):
            session.result()
        cluster.expect_death(worker)
        line = before.expect_child_exit(worker, code=1).message
        record = before.expect_log("^terminating background worker ")
        assert (record.pid, record.level) == (worker.pid, "FATAL")
        expect_a_worker(cluster, session)
        before.expect_undisturbed(said=[line], gone=[worker])


@claim("BG-20 BG-02", source="bgworker.c: ResetBackgroundWorkerCrashTimes()", needs=SQL)
@settings(**ONE_WORKER)
def test_parallel_workers_start_after_a_crash(cluster: Cluster) -> None:
    """A crash during a parallel statement leaves no slot and no count behind."""
    session = parallel_session(cluster)
    session.send_query("select pg_sleep(60)")
    worker = cluster.child(Kind.PARALLEL_WORKER)
    then = cluster.since()
    cluster.crash(worker)
    then.expect_ready()
    cluster.expect_count(Kind.PARALLEL_WORKER, 0)
    with parallel_session(cluster) as again:
        for _ in range(3):
            expect_a_worker(cluster, again)


CONNECT = "bgworker.c: BackgroundWorkerInitializeConnectionByOid()"
SHUT_OUT = (
    "alter role guest nologin",
    "alter role guest connection limit 0",
    "alter database somewhere allow_connections false",
    "alter database somewhere connection limit 0",
    "revoke connect on database somewhere from public",
)
"""Each keeps a new session of this role out of this database."""


@claim("BG-12", source=CONNECT, needs=[*SQL, Need.ROLES])
@settings(**ONE_WORKER)
@pytest.mark.parametrize("how", SHUT_OUT)
def test_open_session_gets_its_parallel_workers(cluster: Cluster, how: str) -> None:
    """An open session gets its parallel workers, although a new connection would be refused."""
    with cluster.session() as boss:
        boss.query("create role guest login")
        boss.query("create database somewhere strategy file_copy")
        with cluster.session(user="guest", database="somewhere") as session:
            run_in_parallel(session)
            expect_a_worker(cluster, session)
            boss.query(how)
            assert cluster.attempt(user="guest", database="somewhere").refusal is not None
            then = cluster.since()
            for _ in range(2):
                expect_a_worker(cluster, session)
            worse = [r for r in then.log() if r.level in ("ERROR", "FATAL", "PANIC")]
            assert worse == []


@claim("BG-02 BG-26", source=FORGET, needs=SQL)
@settings(wal_retrieve_retry_interval="10ms", max_parallel_workers="1")
def test_parallel_workers_alone_are_counted_as_such(cluster: Cluster) -> None:
    """Apply workers that start and exit do not change the number of possible parallel workers."""
    with cluster.session() as session:
        then = cluster.since()
        session.query(
            "create subscription news connection 'host=/nowhere dbname=postgres' publication news "
            "with (connect = false, slot_name = 'news')"
        )
        session.query("alter subscription news enable")

        def ended() -> int:
            gone = 'unregistering background worker "logical replication'
            return sum(r.message.startswith(gone) for r in then.log())

        cluster.wait_for("three apply workers that have failed", lambda: ended() >= 3)
        session.query("alter subscription news disable")
    with parallel_session(cluster) as session:
        expect_one_and_no_other(cluster, session)


START = "postmaster.c: maybe_start_bgworkers()"
PLANNED = 4


@claim("BG-19 SM-22", source=START, needs=SQL)
@settings(**PARALLEL)
def test_parallel_statement_while_a_smart_shutdown_waits(cluster: Cluster) -> None:
    """A session that a smart shutdown waits for still gets its parallel workers."""
    with cluster.session() as session:
        make_table(session)
    with pin_smart_pending(cluster) as session:
        for _ in range(2):
            cluster.wait_for("all parallel workers", lambda: launched(session) == PLANNED)
    cluster.expect_exit(code=0)
