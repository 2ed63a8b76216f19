"""The effect of signals on processes that not every server has.

Startup process, archiver, walsummarizer, walsender, autovacuum worker, parallel worker.
Source: pqsignal() in each process's main function.
"""

import contextlib
import signal
import time
from collections.abc import Iterator

import pytest

from pglife_conformance.base.needs import SIGNALS, Need
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
    death_line,
    exited_line,
    killed_line,
    quoted,
)
from pglife_conformance.hold.parallel import run_in_parallel
from pglife_conformance.hold.startup_barrier import StartupBarrier
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.support.signals import KILL_QUIT, each_signal, expect_survives

REAPER = "postmaster.c: process_pm_child_exit()"


# Startup process: it waits at the barrier before redo, and is not stopped.


@contextlib.contextmanager
def waiting_startup(cluster: Cluster) -> Iterator[Child]:
    """A startup process that waits at the barrier before redo."""
    cluster.start()
    with cluster.session() as session:
        session.query("create table something as select 1")
    cluster.stop(IMMEDIATE)
    barrier = StartupBarrier(cluster)
    then = cluster.since()
    cluster.start(wait=False)
    yield barrier.wait_for_startup(then)
    barrier.open()


@claim("SG-10", source="startup.c: StartupProcessMain()", needs=[*SIGNALS, Need.RESTORE_COMMAND])
def test_startup_process_survives_its_harmless_signals(stopped_cluster: Cluster) -> None:
    """The startup process survives HUP, INT, USR1, USR2, ALRM and PIPE, and finishes recovery."""
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
    "SG-10 PR-20 RP-10",
    source="startup.c: ProcessStartupProcInterrupts()",
    needs=[*SIGNALS, Need.RESTORE_COMMAND],
)
def test_term_to_the_startup_process_ends_the_server(stopped_cluster: Cluster) -> None:
    """The startup process exits 1 at TERM; without a shutdown the postmaster then exits 1 too."""
    cluster = stopped_cluster
    with waiting_startup(cluster) as child:
        then = cluster.since()
        cluster.signal_child(child, signal.SIGTERM)
    cluster.expect_exit(code=1)
    line = exited_line(cluster, child, 1)
    then.expect_postmaster_lines([line, TERMINATING, STARTUP_FAILED, SHUT_DOWN])
    assert cluster.pid_file() is None


# Archiver. It restarts at most once in ten seconds, so no scenario here waits for that.

ARCHIVER_RESTART_S = 10.0
ARCHIVING = {"archive_mode": "on", "archive_command": "true"}
NO_RESTART = {**ARCHIVING, "restart_after_crash": "off"}


@claim(
    "SG-17 AR-01 AR-05 TI-08", source="pgarch.c: PgArchiverMain()", needs=[*SIGNALS, Need.ARCHIVER]
)
@settings(**ARCHIVING)
def test_archiver_survives_its_harmless_signals(cluster: Cluster) -> None:
    """An archiver survives HUP, INT, USR1, ALRM, PIPE and TERM."""
    cluster.expect_complete()
    child = cluster.child(Kind.ARCHIVER)
    assert child.title == "postgres: archiver "
    expect_survives(cluster, child, "HUP INT USR1 ALRM PIPE TERM")


@claim("SG-17 RP-18 AR-06", source=REAPER, needs=[*SIGNALS, Need.ARCHIVER])
@settings(**ARCHIVING)
def test_archiver_exits_at_usr2_and_its_restart_is_delayed(stopped_cluster: Cluster) -> None:
    """An archiver exits 0 at USR2: no crash, and no restart for ten seconds after its start."""
    cluster = stopped_cluster
    began = time.monotonic()
    cluster.start()
    before = cluster.since()
    victim = cluster.end_child(Kind.ARCHIVER, signal.SIGUSR2)
    cluster.signal_postmaster(signal.SIGUSR1)

    def is_late_or_absent() -> bool:
        # The ten seconds begin at the last start, and the postmaster counts whole seconds.
        is_late = time.monotonic() - began >= ARCHIVER_RESTART_S - 1
        return is_late or not cluster.children(Kind.ARCHIVER)

    cluster.expect_still("no archiver", is_late_or_absent, 0.3)
    before.expect_undisturbed(gone=[victim])


@claim("RP-18 CR-45", source=REAPER, needs=[*SIGNALS, Need.ARCHIVER, Need.CRASH_INJECTION])
@settings(**NO_RESTART)
@KILL_QUIT
def test_killed_archiver_is_a_crash(cluster: Cluster, number: signal.Signals) -> None:
    """An archiver that is killed, or exits 2, is a crash, and the log line names it."""
    then = cluster.since()
    victim = cluster.signal_child(Kind.ARCHIVER, number)
    line = death_line(cluster, victim, number)
    cluster.expect_exit(code=1)
    reason = f"shutting down because {quoted('restart_after_crash', cluster)} is off"
    then.expect_postmaster_lines([line, TERMINATING, reason, SHUT_DOWN])


# Walsummarizer.

SUMMARIZING = {"summarize_wal": "on"}
SUMMARIZER = [*SIGNALS, Need.WALSUMMARIZER]


@claim(
    "WS-02 PR-09",
    source="postmaster.c: LaunchMissingBackgroundProcesses()",
    needs=SUMMARIZER,
    since=17,
)
def test_reload_starts_and_stops_the_walsummarizer(cluster: Cluster) -> None:
    """A reload with summarize_wal on starts a walsummarizer; one with off ends it."""
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
    cluster.expect_only(*before.kids)


@claim("SG-14 RP-16", source=REAPER, needs=SUMMARIZER, since=17)
@settings(**SUMMARIZING)
@each_signal(signal.SIGINT, signal.SIGTERM)
def test_walsummarizer_is_replaced(cluster: Cluster, number: signal.Signals) -> None:
    """A walsummarizer exits 0 at INT and TERM, and is replaced at once."""
    before = cluster.since()
    victim = cluster.end_child(Kind.WALSUMMARIZER, number)
    cluster.expect_complete()
    before.expect_undisturbed(gone=[victim])


@claim("SG-14", source="walsummarizer.c: WalSummarizerMain()", needs=SUMMARIZER, since=17)
@settings(**SUMMARIZING)
def test_walsummarizer_survives_its_harmless_signals(cluster: Cluster) -> None:
    """A walsummarizer survives HUP, USR1, USR2, ALRM and PIPE."""
    expect_survives(cluster, cluster.child(Kind.WALSUMMARIZER), "HUP USR1 USR2 ALRM PIPE")


@claim("RP-16 WS-05", source=REAPER, needs=[*SUMMARIZER, Need.CRASH_INJECTION], since=17)
@settings(**SUMMARIZING)
@KILL_QUIT
def test_killed_walsummarizer_is_a_crash(cluster: Cluster, number: signal.Signals) -> None:
    """A walsummarizer that is killed, or exits 2, is a crash, and the log line names it."""
    before = cluster.since()
    victim = cluster.signal_child(Kind.WALSUMMARIZER, number)
    before.expect_crash_restart(death_line(cluster, victim, number))


# Walsender.

WALSENDER = [*SIGNALS, Need.WALSENDER]


def walsender(cluster: Cluster) -> Session:
    """An idle replication session."""
    session = cluster.session(parameters={"replication": "true"})
    assert session.child.kind is Kind.WALSENDER
    return session


@claim("SG-31 TI-21", source="walsender.c: WalSndSignals()", needs=WALSENDER)
def test_idle_walsender_survives_its_harmless_signals(cluster: Cluster) -> None:
    """An idle walsender survives HUP, INT, USR1, ALRM and PIPE, and answers a command."""
    with walsender(cluster) as session:
        assert session.child.title == "postgres: walsender postgres [local] idle"
        expect_survives(cluster, session.child, "HUP INT USR1 ALRM PIPE")
        assert session.query("IDENTIFY_SYSTEM")


@claim("SG-31 SE-20", source="walsender.c: WalSndSignals()", needs=WALSENDER)
def test_term_ends_a_walsender(cluster: Cluster) -> None:
    """A walsender ends at TERM after FATAL 57P01, and no other process is disturbed."""
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


@claim("SG-31 SE-27 RP-24", source="walsender.c: WalSndSignals()", needs=WALSENDER)
def test_quit_ends_a_walsender_without_a_message(cluster: Cluster) -> None:
    """A walsender exits 2 at QUIT without a message, and that is a crash."""
    session = walsender(cluster)
    before = cluster.since()
    victim = cluster.signal_child(session.child, signal.SIGQUIT)
    assert session.expect_end() == []
    before.expect_crash_restart(exited_line(cluster, victim, 2))


@claim("RP-24 SE-27", source=REAPER, needs=[*WALSENDER, Need.CRASH_INJECTION])
def test_killed_walsender_is_a_crash(cluster: Cluster) -> None:
    """A killed walsender is a crash, and another walsender exits without a message."""
    session, other = walsender(cluster), walsender(cluster)
    before = cluster.since()
    victim = cluster.crash(session.child)
    assert other.expect_end() == []
    before.expect_crash_restart(killed_line(cluster, victim))


# Autovacuum worker: a cost delay keeps it busy.

SLOW_TABLE = (
    "create table dead with (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0, "
    "autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1, "
    "autovacuum_analyze_threshold = 1000000000) as select generate_series(1, 20000) as a"
)
WORKER = [*SIGNALS, Need.AUTOVACUUM_WORKER, Need.FULL_SQL]
VACUUMED = "autovacuum: VACUUM public.dead"


@contextlib.contextmanager
def autovacuum_worker(cluster: Cluster) -> Iterator[Child]:
    """An autovacuum worker that vacuums one table for a long time."""
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

    return cluster.wait_for("an autovacuum worker on the table", found, 30.0)


@claim(
    "RP-25 RP-02 TI-07",
    source="postmaster.c: CleanupBackend()",
    needs=[*WORKER, Need.CRASH_INJECTION],
)
@settings(autovacuum_naptime="1s")
def test_killed_autovacuum_worker_is_a_crash(cluster: Cluster) -> None:
    """A killed autovacuum worker is a crash, and the DETAIL shows what it was running."""
    with autovacuum_worker(cluster) as child:
        assert child.title == "postgres: autovacuum worker postgres"
        then = cluster.since()
        victim = cluster.crash(child)
    record = then.expect_log(f"PID {victim.pid}[)] was terminated")
    assert record.message == killed_line(cluster, victim)
    assert record.detail == f"Failed process was running: {VACUUMED}"
    then.expect_log(f"^{TERMINATING}$")
    then.expect_ready()


@claim("SG-16", source="autovacuum.c: AutoVacWorkerMain()", needs=WORKER)
@settings(autovacuum_naptime="1s")
def test_term_ends_an_autovacuum_worker(cluster: Cluster) -> None:
    """INT cancels a worker's table, TERM ends the worker with FATAL, and neither is a crash."""
    with autovacuum_worker(cluster) as child:
        before = cluster.since()
        cluster.signal_child(child, signal.SIGINT)
        record = before.expect_line("canceling autovacuum task")
        assert (record.pid, record.level) == (child.pid, "ERROR")
        with cluster.session() as session:
            # The first worker may still run, and shows the table until it exits.
            victim = _busy_worker(cluster, session, other_than=child)
        cluster.signal_child(victim, signal.SIGTERM)
        record = before.expect_line("terminating autovacuum process due to administrator command")
        assert (record.pid, record.level) == (victim.pid, "FATAL")
        cluster.expect_death(victim)
        workers = [kid for kid in before.kids if kid.kind is Kind.AUTOVACUUM_WORKER]
        before.expect_undisturbed(gone=[*workers, victim])


# Parallel worker.


@contextlib.contextmanager
def parallel_worker(cluster: Cluster) -> Iterator[tuple[Session, Child]]:
    """A session whose statement a parallel worker runs, and that worker while it sleeps."""
    session = run_in_parallel(cluster.session())
    session.send_query("select pg_sleep(60)")
    child = cluster.child(Kind.PARALLEL_WORKER)
    # It has its title before it can send an error to its leader, so wait until it sleeps.
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
    "RP-22 BG-14 TI-18",
    source="postmaster.c: CleanupBackend()",
    needs=[*PARALLEL, Need.CRASH_INJECTION],
)
def test_killed_parallel_worker_is_a_crash(cluster: Cluster) -> None:
    """A killed parallel worker is a crash, and the log line names it as a background worker."""
    with parallel_worker(cluster) as (session, child):
        assert child.title == f"postgres: parallel worker for PID {session.backend_pid} "
        before = cluster.since()
        victim = cluster.crash(child)
        before.expect_crash_restart(killed_line(cluster, victim))


@claim("SG-25 BG-12", source="parallel.c: ParallelWorkerMain()", needs=PARALLEL)
@each_signal(signal.SIGTERM, signal.SIGINT)
def test_parallel_worker_that_ends_fails_its_leader(
    cluster: Cluster, number: signal.Signals
) -> None:
    """The leader's statement fails with 57P01 after TERM, 57014 after INT; neither is a crash."""
    with parallel_worker(cluster) as (session, child):
        before = cluster.since()
        cluster.signal_child(child, number)
        with pytest.raises(ServerError) as error:
            session.result()
        if number is signal.SIGTERM:
            text = 'terminating background worker "parallel worker" due to administrator command'
            assert (error.value.sqlstate, error.value.answer.message) == (ADMIN_SHUTDOWN, text)
        else:
            assert error.value.sqlstate == QUERY_CANCELED
        cluster.expect_death(child)
        assert session.query("select 1") == [("1",)]
        line = before.expect_child_exit(child, code=1).message
        before.expect_undisturbed(said=[line], gone=[child])
