"""Apply workers of subscriptions: when they start, how many run, and what replaces them."""

import re
import signal

import pytest

from pglife_conformance.base.needs import SQL, Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import Session
from pglife_conformance.expect.since import Since
from pglife_conformance.observation.idle import IdleProbe
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.support.parallel_workers import expect_a_worker, parallel_session

FORGET = "bgworker.c: ForgetBackgroundWorker()"
ONE = "Workers Launched: 1"
LOGICAL = {"wal_level": "logical", "wal_retrieve_retry_interval": "100ms"}


def subscribe(cluster: Cluster, session: Session) -> Child:
    """Subscribe the server to itself; return the apply worker."""
    cluster.let_others_connect()
    session.query("create publication news")
    session.query("select pg_create_logical_replication_slot('news', 'pgoutput')")
    session.query(
        f"create subscription news connection 'host={cluster.socket_directory} user=postgres "
        "dbname=postgres' publication news with (create_slot = false, copy_data = false)"
    )
    worker = cluster.child(Kind.LOGICAL_REPLICATION_WORKER)
    expect_launched(cluster, session)
    return worker


def expect_launched(cluster: Cluster, session: Session) -> None:
    """Wait until an apply worker streams and the launcher is idle.

    A launcher that has read the subscriptions and is delayed before it launches workers would
    launch one for a subscription that has been disabled meanwhile.
    """
    asked = "select active from pg_replication_slots where slot_name = 'news'"
    session.expect_rows(asked, [("t",)])
    cluster.expect_idle(cluster.child(Kind.LOGICAL_REPLICATION_LAUNCHER))


def expect_no_apply_worker(cluster: Cluster) -> None:
    """Wait until no apply worker runs; then none may start.

    The exit of one wakes the launcher, which may launch another while it still sees the
    subscription. That worker exits by itself when it reads the committed change.
    """
    rest = IdleProbe(cluster.child(Kind.LOGICAL_REPLICATION_LAUNCHER).pid)

    def is_without_worker() -> bool:
        return not cluster.children(Kind.LOGICAL_REPLICATION_WORKER)

    cluster.wait_for("no apply worker", lambda: rest.is_idle() and is_without_worker())
    cluster.expect_still("no apply worker", is_without_worker, 0.3)


def expect_slot_free(cluster: Cluster, session: Session) -> None:
    """Wait until the walsender of an exited apply worker has released its slot."""
    asked = "select active from pg_replication_slots where slot_name = 'news'"
    session.expect_rows(asked, [("f",)])


@claim("BG-26 SG-23 PR-15", source="launcher.c: ApplyLauncherMain()", needs=[*SQL, Need.WALSENDER])
@settings(**LOGICAL)
def test_apply_worker_that_exits_is_replaced(cluster: Cluster) -> None:
    """A subscription starts an apply worker; when TERM ends it, another is launched."""
    with cluster.session() as session:
        first = subscribe(cluster, session)
        then = cluster.since()
        launcher = cluster.child(Kind.LOGICAL_REPLICATION_LAUNCHER)
        cluster.end_child(first, signal.SIGTERM)
        record = then.expect_log("^terminating logical replication worker due to")
        assert (record.pid, record.level) == (first.pid, "FATAL")
        cluster.child(Kind.LOGICAL_REPLICATION_WORKER, other_than=first)
        assert cluster.child(Kind.LOGICAL_REPLICATION_LAUNCHER).key == launcher.key
        then.expect_no_log("^terminating any other active server processes$")
    cluster.stop()


@claim("BG-26", source="launcher.c: AtEOXact_ApplyLauncher()", needs=[*SQL, Need.WALSENDER])
@settings(**LOGICAL)
def test_apply_worker_runs_while_its_subscription_is_enabled(cluster: Cluster) -> None:
    """A disabled subscription has no apply worker; enabled again it has one at once."""
    with cluster.session() as session:
        first = subscribe(cluster, session)
        session.query("alter subscription news disable")
        cluster.expect_death(first)
        expect_no_apply_worker(cluster)
        # Otherwise the next worker might find its slot in use and exit.
        expect_slot_free(cluster, session)
        session.query("alter subscription news enable")
        second = cluster.child(Kind.LOGICAL_REPLICATION_WORKER)
        assert second.key != first.key
        expect_launched(cluster, session)
        session.query("drop subscription news")
        cluster.expect_death(second)
        expect_no_apply_worker(cluster)


@claim("BG-20", source=FORGET, needs=[*SQL, Need.WALSENDER])
@settings(**LOGICAL)
def test_worker_that_is_not_parallel_is_not_counted_as_one(cluster: Cluster) -> None:
    """The exit of an apply worker does not change the number of free parallel workers."""
    with cluster.session() as session:
        worker = subscribe(cluster, session)
        session.query("drop subscription news")
        cluster.expect_death(worker)
    with parallel_session(cluster) as session:
        expect_a_worker(cluster, session)


CONNECT = "bgworker.c: BackgroundWorkerInitializeConnectionByOid()"
_WORKER_ENDED = re.compile(
    r'background worker "logical replication (?:apply )?worker" \(PID (\d+)\) '
    r"exited with exit code 1"
)


def ended_with_1(cluster: Cluster, since: Since) -> set[int]:
    """The pids of background workers that the postmaster has logged as exited with 1."""
    found = (_WORKER_ENDED.fullmatch(record.message) for record in since.log())
    return {int(match[1]) for match in found if match is not None}


@claim("BG-26", source=CONNECT, needs=[*SQL, Need.ROLES, Need.WALSENDER])
@settings(**LOGICAL)
@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("alter role boss nologin", 'role "boss" is not permitted to log in'),
        (
            "alter database postgres allow_connections false",
            'database "postgres" is not currently accepting connections',
        ),
    ],
)
def test_apply_worker_connects_only_where_its_owner_may(
    cluster: Cluster, how: str, text: str
) -> None:
    """An apply worker is refused where a session of its subscription's owner would be refused."""
    with cluster.session(database="template1") as session:
        session.query("create role boss superuser login")
        with cluster.session(user="boss") as owner:
            worker = subscribe(cluster, owner)
            session.query(how)
            then = cluster.since()
            cluster.end_child(worker, signal.SIGTERM)

            def refused() -> bool:
                # Its walsender may be refused, too, but is no background worker.
                pids = {r.pid for r in then.log() if (r.level, r.message) == ("FATAL", text)}
                return bool(pids & ended_with_1(cluster, then))

            # The launcher retries at each interval.
            cluster.wait_for("an apply worker that is refused", refused)
            owner.query("alter subscription news disable")


CRASH = "^terminating any other active server processes$"
STREAMED = {**LOGICAL, "logical_decoding_work_mem": "64kB"}


@claim(
    "BG-26",
    source="launcher.c: logicalrep_pa_worker_count()",
    needs=[*SQL, Need.WALSENDER],
    since=16,
    why="there are no parallel apply workers before",
)
@pytest.mark.parametrize("limit", [0, 1, 2])
@settings(**STREAMED)
def test_parallel_apply_workers_are_limited_per_subscription(cluster: Cluster, limit: int) -> None:
    """A subscription applies at most as many transactions in parallel as it may have workers."""
    cluster.reload(max_parallel_apply_workers_per_subscription=limit)
    with cluster.session() as session:
        session.query("create table news(a text)")
        subscribe(cluster, session)
        session.query("alter publication news add table news")
        session.query("alter subscription news set (streaming = parallel, origin = none)")
        session.query("alter subscription news refresh publication with (copy_data = false)")
        before = cluster.since()
        writers = [cluster.session() for _ in range(3)]
        for writer in writers:
            writer.query("begin")
            writer.query("insert into news select repeat('x', 100) from generate_series(1, 3000)")
        # What is not committed is sent when it has been flushed.
        session.query("create table something()")
        streamed = "select stream_txns >= 3 from pg_stat_replication_slots where slot_name = 'news'"
        session.expect_rows(streamed, [("t",)])
        count = "select count(*) from pg_stat_subscription where leader_pid is not null"
        wanted = [(str(limit),)]
        session.expect_rows(count, wanted)
        cluster.expect_still("no more workers", lambda: session.query(count) == wanted, 0.3)
        for writer in writers:
            writer.query("rollback")
        before.expect_no_log(CRASH)
        session.query("drop subscription news")


@claim("BG-26", source="launcher.c: logicalrep_sync_worker_count()", needs=[*SQL, Need.WALSENDER])
@pytest.mark.parametrize("limit", [1, 2])
@settings(**LOGICAL)
def test_table_copies_are_limited_per_subscription(cluster: Cluster, limit: int) -> None:
    """A subscription copies as many tables at once as it may have synchronization workers."""
    cluster.reload(max_sync_workers_per_subscription=limit)
    with cluster.session() as session, cluster.session() as holder:
        names = ("one", "two", "three")
        for name in names:
            session.query(f"create table {name}(a int)")
        subscribe(cluster, session)
        session.query(f"alter publication news add table {', '.join(names)}")
        then = cluster.since()
        # The lock lets readers in, but a copy writes.
        holder.query(f"begin; lock table {', '.join(names)} in share mode")
        session.query("alter subscription news refresh publication")
        count = "select count(*) from pg_stat_subscription where relid is not null"
        wanted = [(str(limit),)]
        session.expect_rows(count, wanted)
        cluster.expect_still("no more workers", lambda: session.query(count) == wanted, 0.4)
        holder.query("rollback")
        ready = "select count(*) from pg_subscription_rel where srsubstate = 'r'"
        session.expect_rows(ready, [(str(len(names)),)], 30.0)
        then.expect_no_log(CRASH)
        session.query("drop subscription news")
