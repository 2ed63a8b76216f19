"""What every background process does alike: obey a reload, answer others, sleep, and go with
the postmaster.

Source       rules SG-02, SG-11 to SG-22, PG-31, PG-32, PG-34, BW-01, BW-04, CR-41, CR-52;
             postmaster/interrupt.c, storage/ipc/procsignal.c, and each process's main loop.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from pglife_conformance.base.deadlines import CRASH_RESTART_LIMIT
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.expect.crash import Before, expect_undisturbed
from pglife_conformance.expect.reload import expect_each_to_reload
from pglife_conformance.hold.pin import Pin
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.leftovers import processes_in
from pglife_conformance.observation.rest import Rest
from pglife_conformance.pytest.claims import claim, settings

SIGNALS = [Need.OS_SIGNALS, Need.PROCESS_TITLES]
EVERYBODY = [*SIGNALS, Need.FULL_SQL, Need.ARCHIVER, Need.LOGGER]
OUT_OF_MODEL = pytest.mark.unmonitored("the model has no such process")

ARCHIVING = {"archive_mode": "on", "archive_command": "true"}

WINDOW_S = 0.5
MOST_WAKE_UPS = 12
MOST_TICKS = 10
"""A process that does not hibernate wakes 50 times in that window, one that spins uses it all."""

HIBERNATING_LONG = {"bgwriter_delay": "600ms"}
"""A background writer hibernates for fifty times its delay, so that is thirty seconds."""
WELL_BEFORE_IT_WAKES_BY_ITSELF_S = 10.0

WAIT_EVENTS = {
    Kind.ARCHIVER: "archivermain",
    Kind.AUTOVACUUM_LAUNCHER: "autovacuummain",
    Kind.BACKGROUND_WRITER: "bgwriterhibernate",
    Kind.CHECKPOINTER: "checkpointermain",
    Kind.IO_WORKER: "ioworkermain",
    Kind.LOGICAL_REPLICATION_LAUNCHER: "logicallaunchermain",
    Kind.WALSUMMARIZER: "walsummarizerwal",
    Kind.WALWRITER: "walwritermain",
}


def start_with_everybody(cluster: Cluster, **more: object) -> None:
    """A server with every background process that a primary may have."""
    cluster.configure(logging_collector="on", **ARCHIVING, **more)
    if Need.WALSUMMARIZER in cluster.target.capabilities:
        cluster.configure(summarize_wal="on")
    cluster.start()


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
        before = Before.of(cluster)
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
            records = cluster.log(before.mark)
            return sorted(
                record.pid
                for record in records
                if record.message == f"logging memory contexts of PID {record.pid}"
            )

        cluster.wait_for(
            "one answer of each", lambda: told() == sorted(pids), describe=lambda: str(told())
        )
        expect_undisturbed(cluster, before)


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
        rest = Rest(cluster.child(Kind.WALWRITER).pid)
        cluster.wait_for("a walwriter that sleeps", rest.has_come)
        mark = cluster.mark()
        with Pin(cluster, Kind.WALWRITER):
            session.send_query("drop database second")
            waits = "^waiting for all backends to process ProcSignalBarrier"
            cluster.expect_log(waits, mark, CRASH_RESTART_LIMIT)
            cluster.expect_still("the statement under way", session.is_silent, 0.3)
        session.result(limit_s)
        assert idle.query("select count(*) from pg_database where datname = 'second'") == [("0",)]


# Sleeping.


class Calm:
    """Whether everybody has slept for a while, hardly woken and without using the processor."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._began = self._at()
        self._then = self._counts()
        self.restless = "not looked yet"

    @staticmethod
    def _at() -> float:
        return os.times().elapsed

    def _counts(self) -> dict[int, tuple[str, int, int]]:
        return {kid.pid: (str(kid.kind), *_run_counts(kid.pid)) for kid in self._cluster.children()}

    def has_come(self) -> bool:
        """One whole window was calm."""
        if self._at() - self._began < WINDOW_S:
            return False
        now = self._counts()
        share = (self._at() - self._began) / WINDOW_S
        told = []
        for pid, (name, wakes, ticks) in now.items():
            _, wakes_then, ticks_then = self._then.get(pid, (name, 0, 0))
            if wakes - wakes_then > MOST_WAKE_UPS * share or ticks - ticks_then > MOST_TICKS:
                told.append(f"{name} {pid}: {wakes - wakes_then} wake-ups")
        self.restless = "; ".join(told)
        self._began, self._then = self._at(), now
        return not told


def _run_counts(pid: int) -> tuple[int, int]:
    """How often it has gone to sleep, and what processor time it has used (ticks)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0, 0
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(lines["voluntary_ctxt_switches"]), int(stat[11]) + int(stat[12])


@claim("PG-31", "PG-34", "BW-01", "BW-04", source="each process's main loop", needs=EVERYBODY)
@OUT_OF_MODEL
def test_nobody_works_where_there_is_no_work(stopped_cluster: Cluster) -> None:
    """In an idle server everybody sleeps, and the walwriter hibernates."""
    cluster = stopped_cluster
    start_with_everybody(cluster, wal_writer_delay="10ms")
    age = "log_rotation_age = '1d'\nlog_rotation_size = '1GB'\n"
    with (cluster.data / "postgresql.conf").open("a", encoding="utf-8") as conf:
        conf.write(age)
    cluster.reload()
    cluster.session()
    calm = Calm(cluster)
    cluster.wait_for(
        "a calm server", calm.has_come, CRASH_RESTART_LIMIT, describe=lambda: calm.restless
    )


@claim("PG-31", "BW-01", source="each process's main loop", needs=EVERYBODY)
@OUT_OF_MODEL
def test_what_everybody_waits_for_in_an_idle_server(stopped_cluster: Cluster) -> None:
    """pg_stat_activity shows each background process in the wait of its main loop."""
    cluster = stopped_cluster
    start_with_everybody(cluster, bgwriter_delay="10ms")
    if Need.WALSUMMARIZER in cluster.target.capabilities:
        wanted_kinds = set(WAIT_EVENTS)
    else:
        wanted_kinds = set(WAIT_EVENTS) - {Kind.WALSUMMARIZER, Kind.IO_WORKER}
    wanted = {kind.value: WAIT_EVENTS[kind] for kind in wanted_kinds}
    with cluster.session() as session:
        session.query("create table something as select generate_series(1, 1000)")

        def found() -> dict[str | None, str | None]:
            rows = session.query(
                "select backend_type, lower(wait_event) from pg_stat_activity "
                "where pid <> pg_backend_pid()"
            )
            return {row[0]: row[1] for row in rows}

        cluster.wait_for(
            "each in its wait", lambda: found() == wanted, describe=lambda: str(found())
        )


def _wakes_of(cluster: Cluster, kind: Kind) -> Callable[[], int]:
    pid = cluster.child(kind).pid
    return lambda: _run_counts(pid)[0]


@claim("PG-34", "BW-01", source="bgwriter.c: BackgroundWriterMain()", needs=[*SIGNALS, *EVERYBODY])
@settings(**HIBERNATING_LONG)
def test_hibernating_background_writer_is_woken_by_a_session(cluster: Cluster) -> None:
    """A background writer that hibernates is woken by whoever needs a buffer."""
    with cluster.session() as session:
        session.query("create table something as select generate_series(1, 1000)")
        asleep = (
            "select 1 from pg_stat_activity where lower(wait_event) = 'bgwriterhibernate' "
            "and backend_type = 'background writer'"
        )
        cluster.wait_for("hibernation", lambda: session.query(asleep) == [("1",)])
        wakes = _wakes_of(cluster, Kind.BACKGROUND_WRITER)
        then = wakes()
        session.query("create table more as select generate_series(1, 1000)")
        cluster.wait_for("a wake-up", lambda: wakes() > then, WELL_BEFORE_IT_WAKES_BY_ITSELF_S)


@claim("BW-04", source="walwriter.c: WalWriterMain()", needs=[*SIGNALS, Need.FULL_SQL])
def test_walwriter_flushes_what_is_committed_asynchronously(cluster: Cluster) -> None:
    """What a commit left unflushed the walwriter flushes soon, without anybody's help."""
    with cluster.session() as session:
        session.query("create table something(a int); set synchronous_commit = off")
        for _ in range(2):
            # Before the commit is written: after it, at the end of a page, the place would be that
            # of a record to come, behind the header of the next page.
            inserted = "insert into something values (1) returning pg_current_wal_insert_lsn()"
            where = session.query(inserted)[0][0]
            cluster.wait_for(
                "the flush",
                lambda where=where: (  # type: ignore[misc]
                    session.query(f"select pg_current_wal_flush_lsn() >= '{where}'") == [("t",)]
                ),
            )


# The postmaster goes.


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
        rest = Rest(session.backend_pid)
        cluster.wait_for("a session that waits", rest.has_come)
    cluster.signal_postmaster(signal.SIGKILL)
    cluster.wait_for("the postmaster's end", lambda: not cluster.is_running())
    cluster.wait_for(
        "the end of everybody",
        lambda: not processes_in(cluster.directory),
        CRASH_RESTART_LIMIT,
        describe=lambda: "; ".join(map(str, processes_in(cluster.directory))),
    )
