"""Apply workers: what wakes the launcher, what pg_stat_subscription shows, and that an exited
worker leaves nothing behind.

Source: rule BG-26; replication/logical/launcher.c: ApplyLauncherMain(),
pg_stat_get_subscription(), AtEOXact_ApplyLauncher(), logicalrep_worker_onexit().
"""

import signal
import time
from pathlib import Path

import pytest

from pglife_conformance.base.ids import Pid
from pglife_conformance.base.needs import SQL, Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import Session
from pglife_conformance.hold.pin import Pin
from pglife_conformance.observation.idle import IdleProbe
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child
from pglife_conformance.observation.signals import has_pending
from pglife_conformance.observation.sleeping import sleep_ms
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.replication.test_apply_workers import LOGICAL, subscribe

NEEDS = [*SQL, Need.WALSENDER]
AGAIN_S = 100
STREAMED = {**LOGICAL, "logical_decoding_work_mem": "64kB"}


@claim(
    "BG-26",
    source="launcher.c: ApplyLauncherMain()",
    needs=NEEDS,
    since=16,
    why="before, one interval counts for all subscriptions",
)
@settings(wal_level="logical", wal_retrieve_retry_interval=f"{AGAIN_S}s")
def test_launcher_sleeps_for_the_rest_of_the_interval(cluster: Cluster) -> None:
    """The launcher sleeps until an interval after the last start of an exited apply worker."""
    with cluster.session() as session:
        worker = subscribe(cluster, session)
        began = time.monotonic()
        cluster.expect_still(
            "the worker",
            lambda: [kid.key for kid in cluster.children(worker.kind)] == [worker.key],
            1.0,
        )
        elapsed_ms = (time.monotonic() - began) * 1000
        cluster.end_child(worker, signal.SIGTERM)
        launcher = cluster.child(Kind.LOGICAL_REPLICATION_LAUNCHER)
        cluster.wait_for(
            "a sleep for the rest",
            lambda: 0 < (sleep_ms(launcher.pid) or 0) <= AGAIN_S * 1000 - elapsed_ms + 1,
            describe=lambda: f"{sleep_ms(launcher.pid)} ms",
        )


@claim("BG-26", source="launcher.c: AtEOXact_ApplyLauncher()", needs=NEEDS)
@settings(**LOGICAL)
def test_commit_that_enables_a_subscription_wakes_the_launcher(cluster: Cluster) -> None:
    """A commit wakes the launcher if and only if its transaction has enabled a subscription."""
    kind = Kind.LOGICAL_REPLICATION_LAUNCHER
    with cluster.session() as session:
        made = (
            "create subscription idle connection 'dbname=nowhere' publication news "
            "with (connect = false, slot_name = none)"
        )
        for statement, wakes in (
            ("create table news(a int)", False),
            (made, False),
            ("alter subscription idle set (slot_name = 'idle')", False),
            ("begin; alter subscription idle enable; rollback", False),
            ("create table other(a int)", False),
            # Disabled at once: otherwise a worker would start, and its exit wake the launcher.
            (
                "begin; alter subscription idle enable; alter subscription idle disable; commit",
                True,
            ),
            ("create table more(a int)", False),
        ):
            with Pin(cluster, kind) as pin:
                assert not has_pending(pin.child.pid, signal.SIGUSR1)
                session.query(statement)
                assert has_pending(pin.child.pid, signal.SIGUSR1) == wakes, statement
        session.query("alter subscription idle set (slot_name = none)")
        session.query("drop subscription idle")


STATISTICS = """
    select
        subname,
        relid is null,
        received_lsn > '0/0' and received_lsn <= pg_current_wal_lsn(),
        latest_end_lsn > '0/0' and latest_end_lsn <= received_lsn,
        last_msg_send_time between pg_postmaster_start_time() and last_msg_receipt_time,
        last_msg_receipt_time between pg_postmaster_start_time() and clock_timestamp(),
        latest_end_time between pg_postmaster_start_time() and last_msg_send_time
    from pg_stat_subscription where pid = {pid}
"""


@claim("BG-26", source="launcher.c: pg_stat_get_subscription()", needs=NEEDS)
@settings(**LOGICAL)
def test_pg_stat_subscription_shows_an_apply_worker(cluster: Cluster) -> None:
    """pg_stat_subscription shows the worker's pid, WAL positions, and times in their order."""
    with cluster.session() as session:
        worker = subscribe(cluster, session)
        session.query("create table news(a int)")
        asked = STATISTICS.format(pid=worker.pid)
        session.expect_rows(asked, [("news", *["t"] * 6)])
        session.query(
            "create subscription idle connection 'dbname=nowhere' publication news "
            "with (connect = false, slot_name = none)"
        )
        one = "select count(*), min(subid) = {oid} from pg_stat_get_subscription({oid})"
        oid = session.query("select oid from pg_subscription where subname = 'news'")[0][0]
        assert session.query(one.format(oid=oid)) == [("1", "t")]
        idle = session.query("select oid from pg_subscription where subname = 'idle'")[0][0]
        assert session.query(one.format(oid=idle)) == [("0", None)]
        session.query("drop subscription idle")
        session.query("drop subscription news")


def stream(cluster: Cluster, session: Session, streaming: str) -> Child:
    """Subscribe to one table with this kind of streaming; return the apply worker."""
    session.query("create table news(a text)")
    first = subscribe(cluster, session)
    session.query("alter publication news add table news")
    session.query(f"alter subscription news set (streaming = {streaming}, origin = none)")
    # Another starts and reads the new options; it may find its slot in use, and exit.
    cluster.expect_death(first)
    session.query("alter subscription news refresh publication with (copy_data = false)")
    asked = (
        "select pid from pg_stat_subscription "
        f"where last_msg_receipt_time is not null and pid <> {first.pid}"
    )
    found = cluster.wait_for("an apply worker that streams", lambda: session.query(asked) or None)
    return cluster.child_with_pid(Pid(int(found[0][0] or "")))


def begin_much(session: Session, writer: Session) -> None:
    """Begin a transaction so large that it is streamed before its commit."""
    writer.query("begin")
    writer.query("insert into news select repeat('x', 100) from generate_series(1, 3000)")
    # Uncommitted changes are sent when they have been flushed.
    session.query("create table something()")


@claim(
    "BG-26",
    source="launcher.c: pg_stat_get_subscription()",
    needs=NEEDS,
    since=17,
    why="there is no worker_type before",
)
@settings(**STREAMED)
def test_pg_stat_subscription_shows_the_type_of_each_worker(cluster: Cluster) -> None:
    """Each worker has its type; a parallel one its leader's pid, a synchronizing one its table."""
    asked = (
        "select worker_type, relid::regclass::text, leader_pid from pg_stat_subscription "
        "where worker_type {} order by 1"
    )
    with cluster.session() as session, cluster.session() as writer:
        session.query("create table copied(a int)")
        leader = stream(cluster, session, "parallel")
        begin_much(session, writer)
        apply = ("apply", None, None)
        session.expect_rows(
            asked.format("is not null"), [apply, ("parallel apply", None, str(leader.pid))]
        )
        writer.query("rollback")
        session.query("alter publication news add table copied")
        # The lock lets readers in, but a copy writes.
        writer.query("begin; lock table copied in share mode")
        session.query("alter subscription news refresh publication")
        session.expect_rows(
            asked.format("<> 'parallel apply'"), [apply, ("table synchronization", "copied", None)]
        )
        writer.query("rollback")
        # Creating its slot waits for older transactions, and so would dropping it.
        copied = "select srsubstate from pg_subscription_rel where srrelid = 'copied'::regclass"
        session.expect_rows(copied, [("r",)])
        session.query("drop subscription news")


@claim(
    "BG-26",
    source="launcher.c: logicalrep_worker_onexit()",
    needs=NEEDS,
    since=16,
    why="there are no parallel apply workers before",
)
@pytest.mark.parametrize("streaming", ["on", "parallel"])
@settings(**STREAMED)
def test_apply_worker_leaves_nothing_behind(cluster: Cluster, streaming: str) -> None:
    """An apply worker that exits amid a streamed transaction leaves neither files nor locks. The
    next one applies that transaction from its beginning."""

    def has_begun() -> bool:
        return bool(session.query(held) if streaming == "parallel" else files(first.pid))

    def files(pid: Pid) -> list[Path]:
        return list((cluster.data / "base/pgsql_tmp").glob(f"pgsql_tmp{pid}.*"))

    with cluster.session() as session, cluster.session() as writer:
        first = stream(cluster, session, streaming)
        held = (
            f"select mode from pg_locks where locktype = 'applytransaction' and pid = {first.pid}"
        )
        begin_much(session, writer)
        cluster.wait_for("a transaction that is streamed", has_begun)
        # All of it: between two parts another process may hold the locks, or none.
        rests = [IdleProbe(first.pid), IdleProbe(cluster.child(Kind.WALSENDER).pid)]
        cluster.wait_for(
            "idle apply worker and walsender", lambda: all(rest.is_idle() for rest in rests)
        )
        cluster.end_child(first, signal.SIGTERM)
        assert files(first.pid) == []
        writer.query("commit")
        # Its own rows, and the rows replicated back to the same table.
        session.expect_rows("select count(*) from news", [("6000",)])
        session.query("drop subscription news")
        cluster.expect_count(Kind.LOGICAL_REPLICATION_WORKER, 0)
        session.expect_rows(
            "select count(*) from pg_locks where locktype = 'applytransaction'", [("0",)]
        )


@claim(
    "BG-26 SG-24",
    source="launcher.c: logicalrep_pa_worker_stop()",
    needs=NEEDS,
    since=16,
    why="there are no parallel apply workers before",
)
@settings(**STREAMED, max_parallel_apply_workers_per_subscription="1")
def test_parallel_apply_worker_that_is_not_kept_ends_with_0(cluster: Cluster) -> None:
    """A subscription keeps half of its parallel workers for the next transaction. A single one is
    therefore stopped by its leader, and exits 0."""
    with cluster.session() as session, cluster.session() as writer:
        leader = stream(cluster, session, "parallel")
        asked = f"select pid from pg_stat_subscription where leader_pid = {leader.pid}"
        begin_much(session, writer)
        found = cluster.wait_for("a parallel one", lambda: session.query(asked) or None)
        worker = cluster.child_with_pid(Pid(int(found[0][0] or "")))
        then = cluster.since()
        writer.query("rollback")
        cluster.expect_death(worker)
        record = then.expect_log(rf"\(PID {worker.pid}\) exited with exit code")
        assert record.message.endswith(" 0")
        last = "^logical replication parallel apply worker for subscription .* has finished$"
        assert then.expect_log(last).pid == worker.pid
        then.expect_no_log("^canceling statement")
        session.query("drop subscription news")
