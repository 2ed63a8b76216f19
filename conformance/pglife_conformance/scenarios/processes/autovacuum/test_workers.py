"""Autovacuum workers: how the launcher requests them, how they exit, and what they obey."""

import signal

import pytest

from pglife_conformance.base.deadlines import START_LIMIT
from pglife_conformance.base.needs import SQL, Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import SMART
from pglife_conformance.hold.ptrace import CaughtFork, HeldZombie
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.signals.test_optional_processes import (
    WORKER,
    _busy_worker,
    autovacuum_worker,
)


@claim("AV-01 AV-02 AV-16", source="autovacuum.c: AutoVacLauncherMain()", needs=SQL)
def test_autovacuum_workers_run_one_after_the_other(cluster: Cluster) -> None:
    """After a reload of autovacuum_naptime workers run one after the other; each exits 0."""
    launcher = cluster.child(Kind.AUTOVACUUM_LAUNCHER)
    with cluster.session() as session:
        session.query("create table something as select 1; analyze something")
        session.query("select pg_stat_force_next_flush()")
    then = cluster.since()
    processed = '^autovacuum: processing database "postgres"$'
    cluster.expect_still("no worker", lambda: then.find_log(processed) is None, 0.2)
    cluster.reload(autovacuum_naptime="1s")

    def workers() -> list[int | None]:
        text = 'autovacuum: processing database "'
        return [r.pid for r in then.log() if r.message.startswith(text)]

    cluster.wait_for("two workers", lambda: len(workers()) >= 2, START_LIMIT)
    for pid in workers()[:2]:
        then.expect_log(f"[(]PID {pid}[)] exited with exit code 0$")
    assert len(set(workers())) == len(workers())
    assert cluster.child(Kind.AUTOVACUUM_LAUNCHER).key == launcher.key
    worse = [r for r in then.log() if r.level in ("ERROR", "FATAL", "PANIC")]
    assert worse == []


@claim("AV-01 AV-16", source="autovacuum.c: do_start_worker()", needs=SQL)
@settings(autovacuum_naptime="1s")
def test_autovacuum_looks_after_each_database(cluster: Cluster) -> None:
    """Autovacuum visits each database that a client has used, repeatedly."""
    names = ["postgres", "one", "two"]
    with cluster.session() as session:
        session.query("create database one")
        session.query("create database two")
    for name in names:
        with cluster.session(parameters={"database": name}) as session:
            session.query("create table something as select 1; analyze something")
            session.query("select pg_stat_force_next_flush()")
    then = cluster.since()
    text = 'autovacuum: processing database "'

    def visits() -> list[str]:
        found = (r.message for r in then.log() if r.message.startswith(text))
        return [message.split('"')[1] for message in found]

    def all_visited_twice() -> bool:
        return all(visits().count(name) >= 2 for name in names)

    cluster.wait_for("two visits of each", all_visited_twice, 60.0, describe=lambda: str(visits()))


@claim("SM-22 AV-16", source="postmaster.c: process_pm_pmsignal()", needs=SQL)
@settings(autovacuum_naptime="1s")
def test_autovacuum_goes_on_while_a_smart_shutdown_waits(cluster: Cluster) -> None:
    """While a smart shutdown waits for a session, autovacuum workers are still started."""
    with cluster.session() as session:
        session.query("create table something as select 1; analyze something")
        session.query("select pg_stat_force_next_flush()")
        then = cluster.since()
        cluster.request_shutdown(SMART, logged=True)
        # One may have been on its way already.
        for _ in range(3):
            then = cluster.since()
            then.expect_log("^autovacuum: processing database ", within=START_LIMIT)
    cluster.expect_exit(code=0)


@claim(
    "AV-11",
    source="autovacuum.c: check_av_worker_gucs()",
    needs=SQL,
    since=18,
    why="there are no autovacuum_worker_slots before",
)
@settings(autovacuum_worker_slots="4")
def test_launcher_warns_of_more_workers_than_slots(cluster: Cluster) -> None:
    """The launcher warns when a reload sets autovacuum_max_workers beyond the slots."""
    launcher = cluster.child(Kind.AUTOVACUUM_LAUNCHER)
    then = cluster.since()
    text = '"autovacuum_max_workers" (5) should be less than or equal to '

    def warnings() -> list[tuple[int | None, str]]:
        return [(r.pid, r.level) for r in then.log() if r.message.startswith(text)]

    cluster.reload(autovacuum_max_workers=4)
    cluster.expect_still("no warning", lambda: not warnings(), 0.2)
    cluster.reload(autovacuum_max_workers=5)
    one = [(launcher.pid, "WARNING")]
    cluster.wait_for("a warning", lambda: warnings() == one)
    cluster.reload(work_mem="5MB")
    cluster.expect_still("no other warning", lambda: warnings() == one, 0.2)


@claim(
    "SV-40 AV-01 PG-07 AV-12",
    source="postmaster.c: StartChildProcess()",
    needs=[*SQL, Need.AUTOVACUUM_WORKER],
    since=18,
    why="autovacuum workers have no slots of their own before",
)
@settings(autovacuum_worker_slots="1", autovacuum_max_workers="1", autovacuum_naptime="1s")
def test_no_slot_for_an_autovacuum_worker(cluster: Cluster) -> None:
    """While a zombie worker holds the only slot, no other worker is started: the postmaster
    notifies the launcher, which asks again and gets its worker once a slot is free."""
    launcher = cluster.child(Kind.AUTOVACUUM_LAUNCHER)
    with autovacuum_worker(cluster) as worker, HeldZombie(cluster, worker) as held:
        then = cluster.since()
        cluster.signal_child(worker, signal.SIGTERM)
        held.expect_zombie()
        line = then.expect_log("^no slot available for")
        assert line.message == "no slot available for new autovacuum worker process"
        assert (line.pid, line.level) == (cluster.pid, "LOG")
        then.expect_no_log("^no postmaster child slot available")
        then = cluster.since()
        held.release()
        then.expect_log('^autovacuum: processing database "')
    assert cluster.child(Kind.AUTOVACUUM_LAUNCHER).key == launcher.key


MAIN = "autovacuum.c: AutoVacWorkerMain()"
COMPLAINT = "contains errors; no changes were applied"
TOO_LONG = "^autovacuum worker took too long to start; canceled$"
CRASH = "^terminating any other active server processes$"


@claim("SG-16 SG-02", source=MAIN, needs=WORKER, since=16, why="between tables alone before")
@settings(autovacuum_naptime="1s")
def test_autovacuum_worker_obeys_a_reload_amid_a_table(cluster: Cluster) -> None:
    """A worker that is processing a table reads the configuration as soon as it receives SIGHUP."""
    with autovacuum_worker(cluster) as child:
        with (cluster.data / "postgresql.conf").open("a", encoding="utf-8") as conf:
            conf.write("does_not_exist = 'but is complained of by each who reads this'\n")
        then = cluster.since()
        cluster.signal_child(child, signal.SIGHUP)
        line = then.expect_log(f"{COMPLAINT}$")
        assert line.pid == child.pid
        assert child.key in {kid.key for kid in cluster.children(Kind.AUTOVACUUM_WORKER)}


@claim("AV-11 AV-16", source="autovacuum.c: FreeWorkerInfo()", needs=WORKER)
@settings(autovacuum_naptime="1s", autovacuum_max_workers="1")
@pytest.mark.parametrize("order", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
def test_slot_of_an_autovacuum_worker_is_free_again(
    cluster: Cluster, order: signal.Signals
) -> None:
    """With one worker slot, another worker is started after the first exits, however it exits."""
    with autovacuum_worker(cluster) as child:
        cluster.end_child(child, order)
        with cluster.session() as session:
            other = _busy_worker(cluster, session)
        assert other.key != child.key


@claim("SG-16 AV-16", source=MAIN, needs=WORKER)
@settings(autovacuum_naptime="1s")
def test_autovacuum_worker_that_fails_ends_with_0(cluster: Cluster) -> None:
    """A worker logs an error outside of any table and exits 0."""
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
        then = cluster.since()
        cluster.signal_child(child, signal.SIGINT)
        line = then.expect_line("canceling autovacuum task")
        assert (line.pid, line.level) == (child.pid, "ERROR")
        then.expect_log(rf"[(]PID {child.pid}[)] exited with exit code 0$")
        session.query("rollback")
        then.expect_no_log(CRASH)


@claim("AV-10 AV-03", source="autovacuum.c: AutoVacLauncherMain()", needs=WORKER)
@settings(autovacuum_naptime="1s", autovacuum_max_workers="1")
def test_autovacuum_worker_that_does_not_begin_is_given_up(cluster: Cluster) -> None:
    """The launcher gives up a worker that has not started within a naptime: it logs a WARNING and
    requests another."""
    launcher = cluster.child(Kind.AUTOVACUUM_LAUNCHER)
    then = cluster.since()
    with CaughtFork(cluster) as caught:
        caught.wait_for_fork()
        line = then.expect_log(TOO_LONG)
        assert (line.pid, line.level) == (launcher.pid, "WARNING")
    cluster.after(line).expect_log("^autovacuum: processing database ")
    assert cluster.child(Kind.AUTOVACUUM_LAUNCHER).key == launcher.key
