"""Workers that are told something, or come to an end in a way of their own.

Source       rules AV-02, AV-11, AV-16, SG-16, BG-26; postmaster/autovacuum.c: AutoVacWorkerMain(),
             FreeWorkerInfo(), replication/logical/launcher.c: logicalrep_pa_worker_count(),
             logicalrep_sync_worker_count().
"""

from __future__ import annotations

import signal

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.expect.crash import Before
from pglife_conformance.hold.fork_point import CaughtFork
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.processes.bgworkers.test_lifecycle import LOGICAL, SQL, subscribe
from pglife_conformance.scenarios.signals.test_optional_processes import (
    WORKER,
    _busy_worker,
    autovacuum_worker,
)

MAIN = "autovacuum.c: AutoVacWorkerMain()"
OUT_OF_MODEL = pytest.mark.unmonitored("the model has no such process")
COMPLAINT = "contains errors; no changes were applied"
TOO_LONG = "^autovacuum worker took too long to start; canceled$"
CRASH = "^terminating any other active server processes$"


@claim("SG-16", "SG-02", source=MAIN, needs=WORKER, since=16, why="between tables alone before")
@OUT_OF_MODEL
@settings(autovacuum_naptime="1s")
def test_autovacuum_worker_obeys_a_reload_amid_a_table(cluster: Cluster) -> None:
    """A worker that is busy with a table reads the configuration as soon as it is told to."""
    with autovacuum_worker(cluster) as child:
        with (cluster.data / "postgresql.conf").open("a", encoding="utf-8") as conf:
            conf.write("does_not_exist = 'but is complained of by each who reads this'\n")
        mark = cluster.mark()
        cluster.signal_child(child, signal.SIGHUP)
        told = cluster.expect_log(f"{COMPLAINT}$", since=mark)
        assert told.pid == child.pid
        assert child.key in {kid.key for kid in cluster.children(Kind.AUTOVACUUM_WORKER)}


@claim("AV-11", "AV-16", source="autovacuum.c: FreeWorkerInfo()", needs=WORKER)
@OUT_OF_MODEL
@settings(autovacuum_naptime="1s", autovacuum_max_workers="1")
@pytest.mark.parametrize("order", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
def test_place_of_an_autovacuum_worker_is_free_again(
    cluster: Cluster, order: signal.Signals
) -> None:
    """With room for one worker another one comes when it has gone, however it went."""
    with autovacuum_worker(cluster) as child:
        cluster.signal_child(child, order)
        cluster.expect_death(child)
        with cluster.session() as session:
            other = _busy_worker(cluster, session)
        assert other.key != child.key


@claim("SG-16", "AV-16", source=MAIN, needs=WORKER)
@OUT_OF_MODEL
@settings(autovacuum_naptime="1s")
def test_autovacuum_worker_that_fails_ends_with_0(cluster: Cluster) -> None:
    """An error outside of any table is told in the log, and the worker exits 0."""
    with cluster.session() as session:
        session.query("create table something as select 1; analyze something")
        session.query("select pg_stat_force_next_flush()")
        session.query("begin; lock table pg_class in access exclusive mode")
        blocked = "select pid from pg_locks where not granted and relation = 'pg_class'::regclass"

        def held_up() -> Child | None:
            pids = {int(row[0] or "0") for row in session.query(blocked)}
            kids = cluster.children(Kind.AUTOVACUUM_WORKER)
            return next((kid for kid in kids if kid.pid in pids), None)

        child = cluster.wait_for("a worker that is held up", held_up, 30.0)
        mark = cluster.mark()
        cluster.signal_child(child, signal.SIGINT)
        told = cluster.expect_log("^canceling autovacuum task$", since=mark)
        assert (told.pid, told.level) == (child.pid, "ERROR")
        cluster.expect_log(rf"[(]PID {child.pid}[)] exited with exit code 0$", since=mark)
        session.query("rollback")
        cluster.expect_no_log(CRASH, since=mark)


@claim("AV-10", source="autovacuum.c: AutoVacLauncherMain()", needs=WORKER)
@OUT_OF_MODEL
@settings(autovacuum_naptime="1s", autovacuum_max_workers="1")
def test_autovacuum_worker_that_does_not_begin_is_given_up(cluster: Cluster) -> None:
    """A worker that has not begun after a nap is taken for lost by the launcher, which tells of
    it and asks for another."""
    launcher = cluster.child(Kind.AUTOVACUUM_LAUNCHER)
    mark = cluster.mark()
    with CaughtFork(cluster) as caught:
        caught.wait_for_fork()
        told = cluster.expect_log(TOO_LONG, since=mark)
        assert (told.pid, told.level) == (launcher.pid, "WARNING")
    cluster.expect_log("^autovacuum: processing database ", since=told.index + 1)
    assert cluster.child(Kind.AUTOVACUUM_LAUNCHER).key == launcher.key


# Workers of a subscription.

STREAMED = {**LOGICAL, "logical_decoding_work_mem": "64kB"}


@claim(
    "BG-26",
    source="launcher.c: logicalrep_pa_worker_count()",
    needs=[*SQL, Need.WALSENDER],
    since=16,
    why="there are no parallel apply workers before",
)
@OUT_OF_MODEL
@pytest.mark.parametrize("limit", [0, 1, 2])
@settings(**STREAMED)
def test_parallel_apply_workers_are_limited_per_subscription(cluster: Cluster, limit: int) -> None:
    """As many large transactions are applied in parallel as a subscription may have workers."""
    cluster.reload(max_parallel_apply_workers_per_subscription=limit)
    with cluster.session() as session:
        session.query("create table news(a text)")
        subscribe(cluster, session)
        session.query("alter publication news add table news")
        session.query("alter subscription news set (streaming = parallel, origin = none)")
        session.query("alter subscription news refresh publication with (copy_data = false)")
        before = Before.of(cluster)
        writers = [cluster.session() for _ in range(3)]
        for writer in writers:
            writer.query("begin")
            writer.query("insert into news select repeat('x', 100) from generate_series(1, 3000)")
        # What is not committed is sent when it has been flushed.
        session.query("create table something()")
        streamed = "select stream_txns >= 3 from pg_stat_replication_slots where slot_name = 'news'"
        cluster.wait_for("all streamed", lambda: session.query(streamed) == [("t",)])
        count = "select count(*) from pg_stat_subscription where leader_pid is not null"
        wanted = [(str(limit),)]
        cluster.wait_for(
            "so many workers",
            lambda: session.query(count) == wanted,
            describe=lambda: str(session.query(count)),
        )
        cluster.expect_still("no more workers", lambda: session.query(count) == wanted, 0.3)
        for writer in writers:
            writer.query("rollback")
        cluster.expect_no_log(CRASH, since=before.mark)
        session.query("drop subscription news")


@claim("BG-26", source="launcher.c: logicalrep_sync_worker_count()", needs=[*SQL, Need.WALSENDER])
@OUT_OF_MODEL
@pytest.mark.parametrize("limit", [1, 2])
@settings(**LOGICAL)
def test_tables_are_copied_by_so_many_workers_at_once(cluster: Cluster, limit: int) -> None:
    """Of the tables that a subscription has to copy as many are under way as it has workers."""
    cluster.reload(max_sync_workers_per_subscription=limit)
    with cluster.session() as session, cluster.session() as holder:
        names = ("one", "two", "three")
        for name in names:
            session.query(f"create table {name}(a int)")
        subscribe(cluster, session)
        session.query(f"alter publication news add table {', '.join(names)}")
        mark = cluster.mark()
        # Whoever wants to read may do so, but a copy writes.
        holder.query(f"begin; lock table {', '.join(names)} in share mode")
        session.query("alter subscription news refresh publication")
        count = "select count(*) from pg_stat_subscription where relid is not null"
        wanted = [(str(limit),)]
        cluster.wait_for(
            "so many workers",
            lambda: session.query(count) == wanted,
            describe=lambda: str(session.query(count)),
        )
        cluster.expect_still("no more workers", lambda: session.query(count) == wanted, 0.4)
        holder.query("rollback")
        ready = "select count(*) from pg_subscription_rel where srsubstate = 'r'"
        cluster.wait_for("all copied", lambda: session.query(ready) == [(str(len(names)),)], 30.0)
        cluster.expect_no_log(CRASH, since=mark)
        session.query("drop subscription news")
