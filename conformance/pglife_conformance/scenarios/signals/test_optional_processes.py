"""Signals to and deaths of processes that not every server has: archiver, walsummarizer,
walsender, autovacuum worker, parallel worker.

Source       rules SG-14, SG-16, SG-17, SG-25, SG-31, RP-16, RP-18, RP-22, RP-24, RP-25,
             AR-01, AR-05, AR-06, WS-02, SM-21; pqsignal() in each process's main.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.base.refusals import (
    ADMIN_SHUTDOWN,
    QUERY_CANCELED,
    TERMINATED_BY_ADMINISTRATOR,
)
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import ServerError, Session
from pglife_conformance.events import IMMEDIATE
from pglife_conformance.expect.lines import (
    READY_LINE,
    SHUT_DOWN,
    STARTUP_FAILED,
    TERMINATING,
    exited_line,
    killed_line,
    quoted,
)
from pglife_conformance.hold.parallel import run_in_parallel
from pglife_conformance.hold.startup_barrier import StartupBarrier
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child
from pglife_conformance.pytest.claims import claim, settings

REAPER = "postmaster.c: process_pm_child_exit()"
SIGNALS = [Need.OS_SIGNALS, Need.PROCESS_TITLES]
OUT_OF_MODEL = pytest.mark.unmonitored("the model has no such process")


def outlives(cluster: Cluster, child: Child, names: str) -> None:
    """It takes these signals and nobody ends."""
    before = cluster.since()
    for name in names.split():
        cluster.signal_child(child, signal.Signals[f"SIG{name}"])
        cluster.expect_idle(child)
        before.expect_undisturbed()
    everybody = {kid.key for kid in before.kids}
    cluster.expect_still(
        "nobody ends", lambda: {kid.key for kid in cluster.children()} == everybody, 0.1
    )
    before.expect_undisturbed()


# Startup process, held at the barrier but not stopped. It has redo before it.


@contextlib.contextmanager
def waiting_startup(cluster: Cluster) -> Iterator[Child]:
    """A startup process that waits before redo."""
    cluster.start()
    with cluster.session() as session:
        session.query("create table something as select 1")
    cluster.request_shutdown(IMMEDIATE)
    cluster.expect_exit(code=0)
    barrier = StartupBarrier(cluster)
    then = cluster.since()
    cluster.start(wait=False)
    yield barrier.wait_for_startup(then)
    barrier.open()


@claim("SG-10", source="startup.c: StartupProcessMain()", needs=[*SIGNALS, Need.RESTORE_COMMAND])
@OUT_OF_MODEL
def test_signals_that_a_startup_process_outlives(stopped_cluster: Cluster) -> None:
    """The startup process takes HUP, INT, USR1, USR2, ALRM and PIPE, and recovery goes on."""
    cluster = stopped_cluster
    with waiting_startup(cluster) as child:
        then = cluster.since()
        for name in ("HUP", "INT", "USR1", "USR2", "ALRM", "PIPE"):
            cluster.signal_child(child, signal.Signals[f"SIG{name}"])
            cluster.expect_idle(child)
        assert [kid.key for kid in cluster.children(Kind.STARTUP)] == [child.key]
    then.expect_ready()
    then.expect_postmaster_lines([READY_LINE])


@claim(
    "SG-10",
    "PR-20",
    "RP-10",
    source="startup.c: ProcessStartupProcInterrupts()",
    needs=[*SIGNALS, Need.RESTORE_COMMAND],
)
@OUT_OF_MODEL
def test_term_ends_a_startup_process_and_with_it_the_server(stopped_cluster: Cluster) -> None:
    """TERM makes the startup process exit 1 in redo; unasked, that ends the postmaster with 1."""
    cluster = stopped_cluster
    with waiting_startup(cluster) as child:
        then = cluster.since()
        cluster.signal_child(child, signal.SIGTERM)
    cluster.expect_exit(code=1)
    line = exited_line(cluster, child, 1)
    then.expect_postmaster_lines([line, TERMINATING, STARTUP_FAILED, SHUT_DOWN])
    assert cluster.pid_file() is None


# Archiver. Its restart is throttled to once in ten seconds, so nobody waits for it here.

ARCHIVER_RESTART_S = 10.0
ARCHIVING = {"archive_mode": "on", "archive_command": "true"}
NO_RESTART = {**ARCHIVING, "restart_after_crash": "off"}


@claim(
    "SG-17",
    "AR-01",
    "AR-05",
    "TI-08",
    source="pgarch.c: PgArchiverMain()",
    needs=[*SIGNALS, Need.ARCHIVER],
)
@OUT_OF_MODEL
@settings(**ARCHIVING)
def test_signals_that_an_archiver_outlives(cluster: Cluster) -> None:
    """An archiver takes HUP, INT, USR1, ALRM, PIPE and even TERM, and is there as before."""
    cluster.expect_complete()
    child = cluster.child(Kind.ARCHIVER)
    assert child.title == "postgres: archiver "
    outlives(cluster, child, "HUP INT USR1 ALRM PIPE TERM")


@claim("SG-17", "RP-18", "AR-06", source=REAPER, needs=[*SIGNALS, Need.ARCHIVER])
@OUT_OF_MODEL
@settings(**ARCHIVING)
def test_archiver_ends_at_usr2_and_waits_to_come_again(stopped_cluster: Cluster) -> None:
    """USR2 makes an archiver exit 0: no crash; another comes no sooner than ten seconds later."""
    cluster = stopped_cluster
    began = time.monotonic()
    cluster.start()
    before = cluster.since()
    victim = cluster.signal_child(Kind.ARCHIVER, signal.SIGUSR2)
    cluster.expect_death(victim)
    cluster.signal_postmaster(signal.SIGUSR1)

    def is_late_or_away() -> bool:
        # Later than the last one was started, that is, and in whole seconds.
        is_late = time.monotonic() - began >= ARCHIVER_RESTART_S - 1
        return is_late or not cluster.children(Kind.ARCHIVER)

    cluster.expect_still("no archiver", is_late_or_away, 0.3)
    before.expect_undisturbed(gone=[victim])


@claim("RP-18", "CR-45", source=REAPER, needs=[*SIGNALS, Need.ARCHIVER, Need.CRASH_INJECTION])
@OUT_OF_MODEL
@settings(**NO_RESTART)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT], ids=lambda n: n.name)
def test_archiver_that_dies_is_a_crash(cluster: Cluster, number: signal.Signals) -> None:
    """An archiver that a signal ended, or that exits 2, is a crash and is named."""
    then = cluster.since()
    victim = cluster.signal_child(Kind.ARCHIVER, number)
    killed = number is signal.SIGKILL
    line = killed_line(cluster, victim) if killed else exited_line(cluster, victim, 2)
    cluster.expect_exit(code=1)
    reason = f"shutting down because {quoted('restart_after_crash', cluster)} is off"
    then.expect_postmaster_lines([line, TERMINATING, reason, SHUT_DOWN])


# Walsummarizer.

SUMMARIZING = {"summarize_wal": "on"}
SUMMARIZER = [*SIGNALS, Need.WALSUMMARIZER]


@claim(
    "WS-02",
    "PR-09",
    source="postmaster.c: LaunchMissingBackgroundProcesses()",
    needs=SUMMARIZER,
    since=17,
)
@OUT_OF_MODEL
def test_walsummarizer_comes_and_goes_by_reload(cluster: Cluster) -> None:
    """summarize_wal by reload brings a walsummarizer and sends it away again."""
    before = cluster.since()
    cluster.reload(summarize_wal="on")
    cluster.expect_complete()
    child = cluster.child(Kind.WALSUMMARIZER)
    assert child.title == "postgres: walsummarizer "
    before.expect_line("WAL summarizer started")
    cluster.reload(summarize_wal="off")
    cluster.expect_death(child)
    cluster.expect_complete()
    before.expect_line("WAL summarizer shutting down")
    assert {kid.key for kid in before.kids} == {kid.key for kid in cluster.children()}


@claim("SG-14", "RP-16", source=REAPER, needs=SUMMARIZER, since=17)
@OUT_OF_MODEL
@settings(**SUMMARIZING)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_walsummarizer_is_replaced(cluster: Cluster, number: signal.Signals) -> None:
    """A walsummarizer exits 0 at INT and TERM, and another comes at once."""
    before = cluster.since()
    victim = cluster.signal_child(Kind.WALSUMMARIZER, number)
    cluster.expect_death(victim)
    cluster.expect_complete()
    before.expect_undisturbed(gone=[victim])


@claim("SG-14", source="walsummarizer.c: WalSummarizerMain()", needs=SUMMARIZER, since=17)
@OUT_OF_MODEL
@settings(**SUMMARIZING)
def test_signals_that_a_walsummarizer_outlives(cluster: Cluster) -> None:
    """A walsummarizer takes HUP, USR1, USR2, ALRM and PIPE and is there as before."""
    outlives(cluster, cluster.child(Kind.WALSUMMARIZER), "HUP USR1 USR2 ALRM PIPE")


@claim("RP-16", "WS-05", source=REAPER, needs=[*SUMMARIZER, Need.CRASH_INJECTION], since=17)
@OUT_OF_MODEL
@settings(**SUMMARIZING)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT], ids=lambda n: n.name)
def test_walsummarizer_that_dies_is_a_crash(cluster: Cluster, number: signal.Signals) -> None:
    """A walsummarizer that a signal ended, or that exits 2, is a crash and is named."""
    before = cluster.since()
    victim = cluster.signal_child(Kind.WALSUMMARIZER, number)
    killed = number is signal.SIGKILL
    line = killed_line(cluster, victim) if killed else exited_line(cluster, victim, 2)
    before.expect_crash_restart(line)


# Walsender.

WALSENDER = [*SIGNALS, Need.WALSENDER]


def walsender(cluster: Cluster) -> Session:
    """A client that has asked for replication and is idle."""
    session = cluster.session(parameters={"replication": "true"})
    assert session.child.kind is Kind.WALSENDER
    return session


@claim("SG-31", "TI-21", source="walsender.c: WalSndSignals()", needs=WALSENDER)
@OUT_OF_MODEL
def test_signals_that_an_idle_walsender_outlives(cluster: Cluster) -> None:
    """An idle walsender takes HUP, INT, USR1, ALRM and PIPE and is there as before."""
    with walsender(cluster) as session:
        assert session.child.title == "postgres: walsender postgres [local] idle"
        outlives(cluster, session.child, "HUP INT USR1 ALRM PIPE")
        assert session.query("IDENTIFY_SYSTEM")


@claim("SG-31", "SE-20", source="walsender.c: WalSndSignals()", needs=WALSENDER)
@OUT_OF_MODEL
def test_term_ends_a_walsender(cluster: Cluster) -> None:
    """TERM ends a walsender with FATAL 57P01 and exit 1, and nobody else notices."""
    session = walsender(cluster)
    before = cluster.since()
    victim = cluster.signal_child(session.child, signal.SIGTERM)
    said = session.expect_end()
    assert [(m.severity, m.sqlstate, m.message) for m in said] == [
        ("FATAL", ADMIN_SHUTDOWN, TERMINATED_BY_ADMINISTRATOR)
    ]
    cluster.expect_death(victim)
    cluster.expect_complete()
    before.expect_undisturbed(gone=[victim])


@claim("SG-31", "SE-27", "RP-24", source="walsender.c: WalSndSignals()", needs=WALSENDER)
@OUT_OF_MODEL
def test_quit_ends_a_walsender_without_a_word(cluster: Cluster) -> None:
    """QUIT makes a walsender exit 2 without any message: a crash."""
    session = walsender(cluster)
    before = cluster.since()
    victim = cluster.signal_child(session.child, signal.SIGQUIT)
    assert session.expect_end() == []
    before.expect_crash_restart(exited_line(cluster, victim, 2))


@claim("RP-24", "SE-27", source=REAPER, needs=[*WALSENDER, Need.CRASH_INJECTION])
@OUT_OF_MODEL
def test_killed_walsender_is_a_crash(cluster: Cluster) -> None:
    """A killed walsender is named like a session, and another one hears nothing of the crash."""
    session, other = walsender(cluster), walsender(cluster)
    before = cluster.since()
    victim = cluster.crash(session.child)
    assert other.expect_end() == []
    before.expect_crash_restart(killed_line(cluster, victim))


# Autovacuum worker, held busy by costs that it must sleep off.

SLOW_TABLE = (
    "create table dead with (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0, "
    "autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1, "
    "autovacuum_analyze_threshold = 1000000000) as select generate_series(1, 20000) as a"
)
WORKER = [*SIGNALS, Need.AUTOVACUUM_WORKER, Need.FULL_SQL]
VACUUMED = "autovacuum: VACUUM public.dead"


@contextlib.contextmanager
def autovacuum_worker(cluster: Cluster) -> Iterator[Child]:
    """A worker that is busy with a table for a long time."""
    with cluster.session() as session:
        session.query(SLOW_TABLE)
        session.query("delete from dead")
        session.query("select pg_stat_force_next_flush()")
        yield _busy_worker(cluster, session)


def _busy_worker(cluster: Cluster, session: Session, other_than: Child | None = None) -> Child:
    left_out = other_than.key if other_than is not None else None

    def found() -> Child | None:
        rows = session.query(
            "select pid from pg_stat_activity where backend_type = 'autovacuum worker' "
            f"and query = '{VACUUMED}'"
        )
        pids = {int(row[0]) for row in rows if row[0] is not None}
        kids = cluster.children(Kind.AUTOVACUUM_WORKER)
        return next((kid for kid in kids if kid.pid in pids and kid.key != left_out), None)

    return cluster.wait_for("an autovacuum worker at the table", found, 30.0)


@claim(
    "RP-25",
    "RP-02",
    "TI-07",
    source="postmaster.c: CleanupBackend()",
    needs=[*WORKER, Need.CRASH_INJECTION],
)
@OUT_OF_MODEL
@settings(autovacuum_naptime="1s")
def test_killed_autovacuum_worker_is_a_crash(cluster: Cluster) -> None:
    """A killed autovacuum worker is named, with what it did as DETAIL."""
    with autovacuum_worker(cluster) as child:
        assert child.title == "postgres: autovacuum worker postgres"
        then = cluster.since()
        victim = cluster.crash(child)
    told = then.expect_log(f"PID {victim.pid}[)] was terminated")
    assert told.message == killed_line(cluster, victim)
    assert told.detail == f"Failed process was running: {VACUUMED}"
    then.expect_log(f"^{TERMINATING}$")
    then.expect_ready()


@claim("SG-16", source="autovacuum.c: AutoVacWorkerMain()", needs=WORKER)
@OUT_OF_MODEL
@settings(autovacuum_naptime="1s")
def test_term_ends_an_autovacuum_worker(cluster: Cluster) -> None:
    """INT cancels an autovacuum worker's table, TERM ends it with FATAL: no crash either way."""
    with autovacuum_worker(cluster) as child:
        before = cluster.since()
        cluster.signal_child(child, signal.SIGINT)
        told = before.expect_line("canceling autovacuum task")
        assert (told.pid, told.level) == (child.pid, "ERROR")
        with cluster.session() as session:
            # The first one may go on for a while, and tell of the table until it ends.
            victim = _busy_worker(cluster, session, other_than=child)
        cluster.signal_child(victim, signal.SIGTERM)
        told = before.expect_line("terminating autovacuum process due to administrator command")
        assert (told.pid, told.level) == (victim.pid, "FATAL")
        cluster.expect_death(victim)
        workers = [kid for kid in before.kids if kid.kind is Kind.AUTOVACUUM_WORKER]
        before.expect_undisturbed(gone=[*workers, victim])


# Parallel worker.


@contextlib.contextmanager
def parallel_worker(cluster: Cluster) -> Iterator[tuple[Session, Child]]:
    """A session whose statement one parallel worker runs, and that worker, in the midst of it."""
    session = run_in_parallel(cluster.session())
    session.send_query("select pg_sleep(60)")
    child = cluster.child(Kind.PARALLEL_WORKER)
    # Its title comes first. One that still starts cannot tell its leader what ended it.
    observer = cluster.session()
    cluster.wait_for(
        "the parallel worker to sleep",
        lambda: observer.query(
            f"select from pg_stat_activity where pid = {child.pid} and wait_event = 'PgSleep'"
        ),
    )
    backend = observer.child
    observer.close()
    cluster.expect_death(backend)
    yield session, child


PARALLEL = [*SIGNALS, Need.FULL_SQL, Need.SQL_FUNCTIONS]


@claim(
    "RP-22",
    "BG-14",
    "TI-18",
    source="postmaster.c: CleanupBackend()",
    needs=[*PARALLEL, Need.CRASH_INJECTION],
)
@OUT_OF_MODEL
def test_killed_parallel_worker_is_a_crash(cluster: Cluster) -> None:
    """A killed parallel worker is named as the background worker that it is."""
    with parallel_worker(cluster) as (session, child):
        assert child.title == f"postgres: parallel worker for PID {session.backend_pid} "
        before = cluster.since()
        victim = cluster.crash(child)
        before.expect_crash_restart(killed_line(cluster, victim))


@claim("SG-25", "BG-12", source="parallel.c: ParallelWorkerMain()", needs=PARALLEL)
@OUT_OF_MODEL
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_parallel_worker_that_ends_fails_its_leader(
    cluster: Cluster, number: signal.Signals
) -> None:
    """The leader fails with the worker's error; TERM: 57P01, INT: 57014. No crash."""
    with parallel_worker(cluster) as (session, child):
        before = cluster.since()
        cluster.signal_child(child, number)
        with pytest.raises(ServerError) as told:
            session.result()
        if number is signal.SIGTERM:
            text = 'terminating background worker "parallel worker" due to administrator command'
            assert (told.value.sqlstate, told.value.answer.message) == (ADMIN_SHUTDOWN, text)
        else:
            assert told.value.sqlstate == QUERY_CANCELED
        cluster.expect_death(child)
        assert session.query("select 1") == [("1",)]
        line = exited_line(cluster, child, 1)
        cluster.wait_for("its line", lambda: cluster.find_log(f"PID {child.pid}[)] exited"))
        before.expect_undisturbed(said=[line], gone=[child])
