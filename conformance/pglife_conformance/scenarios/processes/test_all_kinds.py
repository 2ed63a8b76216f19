"""Every background process reloads, answers procsignals, and exits when the postmaster dies.

Source: postmaster/interrupt.c, storage/ipc/procsignal.c, and each process's main loop.
"""

import signal

import pytest

from pglife_conformance.base.deadlines import CRASH_RESTART_LIMIT
from pglife_conformance.base.needs import SIGNALS, Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.hold.pin import Pin
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim
from pglife_conformance.scenarios.support.all_processes import start_with_all_processes
from pglife_conformance.scenarios.support.reload import expect_each_to_reload

ALL_PROCESSES = [*SIGNALS, Need.FULL_SQL, Need.ARCHIVER, Need.LOGGER]
ARCHIVING = {"archive_mode": "on", "archive_command": "true"}


def in_shared_memory(cluster: Cluster) -> list[int]:
    """The pids of all children but the logger, which has no shared memory."""
    return [kid.pid for kid in cluster.children() if kid.kind is not Kind.LOGGER]


@claim("SG-02 SG-11 SG-12 SG-13", source="each process's main loop", needs=ALL_PROCESSES)
def test_every_background_process_reloads(stopped_cluster: Cluster) -> None:
    """At each reload each background process reads the file once, and at once."""
    cluster = stopped_cluster
    start_with_all_processes(cluster)
    # The logger also writes its messages to its own stderr, so each appears twice.
    expect_each_to_reload(cluster, twice=[cluster.child(Kind.LOGGER).pid])


@claim(
    "PG-32",
    source="procsignal.c: procsignal_sigusr1_handler()",
    needs=ALL_PROCESSES,
    since=16,
    why="before, only sessions answer this request",
)
def test_every_background_process_answers_by_procsignal(stopped_cluster: Cluster) -> None:
    """On request each process logs its memory contexts once, and no process is disturbed."""
    cluster = stopped_cluster
    start_with_all_processes(cluster, max_wal_senders=2)
    walsender = cluster.session(parameters={"replication": "true"})
    with cluster.session() as session:
        before = cluster.since()
        pids = in_shared_memory(cluster)
        assert walsender.backend_pid in pids
        # A process has its title a moment before its entry in shared memory.
        sql = "select pid from pg_stat_activity"
        cluster.wait_for(
            "an entry for each process",
            lambda: {str(pid) for pid in pids} <= {row[0] for row in session.query(sql)},
        )
        for pid in pids:
            assert session.query(f"select pg_log_backend_memory_contexts({pid})") == [("t",)]

        def answers() -> list[int]:
            records = before.log()
            return sorted(
                record.pid
                for record in records
                if record.pid is not None
                and record.message == f"logging memory contexts of PID {record.pid}"
            )

        cluster.wait_for(
            "one answer from each process",
            lambda: answers() == sorted(pids),
            describe=lambda: str(answers()),
        )
        before.expect_undisturbed()


@claim("PG-32", source="procsignal.c: ProcessProcSignalBarrier()", needs=ALL_PROCESSES, since=15)
def test_every_background_process_takes_part_in_a_barrier(stopped_cluster: Cluster) -> None:
    """DROP DATABASE waits for a stopped walwriter, and ends when the walwriter continues."""
    cluster = stopped_cluster
    start_with_all_processes(cluster)
    cluster.session(parameters={"replication": "true"})
    with cluster.session() as session, cluster.session() as idle:
        limit_s = CRASH_RESTART_LIMIT * cluster.scale
        for sql in ("create database first", "create database second", "drop database first"):
            session.query(sql, limit_s)
        # A walwriter that writes holds a lock, and DROP DATABASE would wait for that lock instead.
        cluster.expect_idle(cluster.child(Kind.WALWRITER))
        then = cluster.since()
        with Pin(cluster, Kind.WALWRITER):
            session.send_query("drop database second")
            waits = "^waiting for all backends to process ProcSignalBarrier"
            then.expect_log(waits, CRASH_RESTART_LIMIT)
            session.expect_silence(0.3)
        session.result(limit_s)
        assert idle.query("select count(*) from pg_database where datname = 'second'") == [("0",)]


@claim("CR-41 CR-52 PG-31", source="waiteventset.c: WaitEventSetWait()", needs=ALL_PROCESSES)
@pytest.mark.unmonitored("the model ends with its postmaster")
def test_every_waiting_process_exits_when_the_postmaster_dies(stopped_cluster: Cluster) -> None:
    """When the postmaster dies every process exits, whatever it waits for."""
    cluster = stopped_cluster
    start_with_all_processes(cluster)
    cluster.session(parameters={"replication": "true"})
    holder, waiter, sleeper, copier = (cluster.session() for _ in range(4))
    holder.query("create table held(a text); begin; lock table held")
    waiter.send_query("select count(*) from held")
    sleeper.send_query("select pg_sleep(60)")
    copier.query("create table copied(a text)")
    copier.send_query("copy copied from stdin")
    for session in (waiter, sleeper, copier):
        cluster.expect_idle(session)
    cluster.signal_postmaster(signal.SIGKILL)
    cluster.expect_exit(code=None)
    cluster.expect_no_process(within=CRASH_RESTART_LIMIT)
