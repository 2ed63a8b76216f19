"""What every background process does alike: obey a reload, answer others, sleep, and go with
the postmaster.

Source       rules SG-02, SG-11 to SG-22, PG-31, PG-32, PG-34, BW-01, BW-04, CR-41, CR-52;
             postmaster/interrupt.c, storage/ipc/procsignal.c, and each process's main loop.
"""

from __future__ import annotations

import signal

import pytest

from pglife_conformance.base.deadlines import CRASH_RESTART_LIMIT
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.hold.pin import Pin
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim
from pglife_conformance.scenarios.support.all_processes import (
    start_with_everybody,
)
from pglife_conformance.scenarios.support.reload import expect_each_to_reload

SIGNALS = [Need.OS_SIGNALS, Need.PROCESS_TITLES]


EVERYBODY = [*SIGNALS, Need.FULL_SQL, Need.ARCHIVER, Need.LOGGER]


OUT_OF_MODEL = pytest.mark.unmonitored("the model has no such process")


ARCHIVING = {"archive_mode": "on", "archive_command": "true"}


def in_shared_memory(cluster: Cluster) -> list[int]:
    """Their pids; the logger has no part in shared memory."""
    return [kid.pid for kid in cluster.children() if kid.kind is not Kind.LOGGER]


@claim("SG-02", "SG-11", "SG-12", "SG-13", source="each process's main loop", needs=EVERYBODY)
@OUT_OF_MODEL
def test_every_background_process_obeys_a_reload(stopped_cluster: Cluster) -> None:
    """At each reload each background process itself reads the file, at once and one time."""
    cluster = stopped_cluster
    start_with_everybody(cluster)
    # What the logger says goes to its own stderr too, and so it is read twice.
    expect_each_to_reload(cluster, twice=[cluster.child(Kind.LOGGER).pid])


@claim(
    "PG-32",
    source="procsignal.c: procsignal_sigusr1_handler()",
    needs=EVERYBODY,
    since=16,
    why="only sessions may be asked before",
)
@OUT_OF_MODEL
def test_every_background_process_answers_by_procsignal(stopped_cluster: Cluster) -> None:
    """Asked to log its memory contexts, each process does so once, and goes on."""
    cluster = stopped_cluster
    start_with_everybody(cluster, max_wal_senders=2)
    walsender = cluster.session(parameters={"replication": "true"})
    with cluster.session() as session:
        before = cluster.since()
        pids = in_shared_memory(cluster)
        assert walsender.backend_pid in pids
        # A process has its title a moment before it has its place in shared memory.
        asked = "select pid from pg_stat_activity"
        cluster.wait_for(
            "everybody in their place",
            lambda: {str(pid) for pid in pids} <= {row[0] for row in session.query(asked)},
        )
        for pid in pids:
            assert session.query(f"select pg_log_backend_memory_contexts({pid})") == [("t",)]

        def told() -> list[int]:
            records = before.log()
            return sorted(
                record.pid
                for record in records
                if record.pid is not None
                and record.message == f"logging memory contexts of PID {record.pid}"
            )

        cluster.wait_for(
            "one answer of each", lambda: told() == sorted(pids), describe=lambda: str(told())
        )
        before.expect_undisturbed()


@claim("PG-32", source="procsignal.c: ProcessProcSignalBarrier()", needs=EVERYBODY, since=15)
@OUT_OF_MODEL
def test_every_background_process_takes_part_in_a_barrier(stopped_cluster: Cluster) -> None:
    """DROP DATABASE waits for everybody in shared memory; who has been stopped holds it up."""
    cluster = stopped_cluster
    start_with_everybody(cluster)
    cluster.session(parameters={"replication": "true"})
    with cluster.session() as session, cluster.session() as idle:
        limit_s = CRASH_RESTART_LIMIT * cluster.scale
        for sql in ("create database first", "create database second", "drop database first"):
            session.query(sql, limit_s)
        # One that writes holds a lock; what is dropped must not be waited for because of that.
        cluster.expect_idle(cluster.child(Kind.WALWRITER))
        then = cluster.since()
        with Pin(cluster, Kind.WALWRITER):
            session.send_query("drop database second")
            waits = "^waiting for all backends to process ProcSignalBarrier"
            then.expect_log(waits, CRASH_RESTART_LIMIT)
            session.expect_silence(0.3)
        session.result(limit_s)
        assert idle.query("select count(*) from pg_database where datname = 'second'") == [("0",)]


@claim("CR-41", "CR-52", "PG-31", source="waiteventset.c: WaitEventSetWait()", needs=EVERYBODY)
@pytest.mark.unmonitored("the model ends with its postmaster")
def test_everybody_follows_a_postmaster_that_dies(stopped_cluster: Cluster) -> None:
    """Whoever waits goes when the postmaster dies, whatever it waits for, without work to do."""
    cluster = stopped_cluster
    start_with_everybody(cluster)
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
