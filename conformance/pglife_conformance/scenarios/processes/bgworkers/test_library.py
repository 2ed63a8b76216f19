"""Background workers of a library: pg_prewarm's leader and its workers.

The leader is a static worker that starts when the server is consistent and restarts at once.
Sessions may start it. It starts a worker for each database and waits until that worker exits.

Source: postmaster/bgworker.c, postmaster.c: CleanupBackend(), bgworker_should_start_now(),
contrib/pg_prewarm/autoprewarm.c.
"""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pglife_conformance.base import deadlines
from pglife_conformance.base.ids import Pid
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import READY_LINE, Cluster, MakeCluster
from pglife_conformance.cluster.session import ServerError, Session
from pglife_conformance.cluster.standby import ALONE, READ_ONLY_LINE, stop
from pglife_conformance.expect.lines import REINITIALIZING, TERMINATING, death_line, exited_line
from pglife_conformance.hold.pin import StoppedPostmaster
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child
from pglife_conformance.observation.sleeping import sleep_ms, sleeps_without_end
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.support.signals import KILL_QUIT

CLEANUP = "postmaster.c: CleanupBackend()"
WAITS = "bgworker.c: WaitForBackgroundWorkerStartup()"
NEEDS = [Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.FULL_SQL, Need.PG_PREWARM]
PRELOADED: dict[str, Any] = {"shared_preload_libraries": "pg_prewarm"}
START_ONE = "select autoprewarm_start_worker()"
NO_RESOURCES = "53000"
FORGOTTEN = '^unregistering background worker "autoprewarm leader"$'


def leader(cluster: Cluster) -> Child:
    """The one leader."""
    return cluster.child(Kind.AUTOPREWARM_LEADER)


def expect_no_leader(cluster: Cluster) -> None:
    """There is no leader, and the postmaster's next look starts none."""
    cluster.signal_postmaster(signal.SIGUSR1)
    cluster.expect_no_child(Kind.AUTOPREWARM_LEADER, 0.3)


def end_leader(cluster: Cluster) -> Child:
    """End the leader, and wait until the postmaster has handled its exit."""
    then = cluster.since()
    victim = cluster.end_child(leader(cluster), signal.SIGTERM)
    then.expect_log(FORGOTTEN)
    return victim


def expect_a_sleeper(cluster: Cluster, how: Callable[[Pid], object]) -> None:
    """A leader sleeps: a leader that is still starting ignores a reload."""
    cluster.wait_for(
        "a leader that sleeps",
        lambda: any(how(kid.pid) for kid in cluster.children(Kind.AUTOPREWARM_LEADER)),
    )


@claim("PR-13 TI-19 BG-13", source=CLEANUP, needs=NEEDS)
@settings(**PRELOADED)
def test_worker_that_exits_0_is_forgotten(cluster: Cluster) -> None:
    """A static worker's title is its name; after exit 0 it is not restarted until the next start of
    the server registers it again."""
    child = leader(cluster)
    assert child.title == "postgres: autoprewarm leader "
    before = cluster.since()
    victim = end_leader(cluster)
    expect_no_leader(cluster)
    before.expect_undisturbed(gone=[victim])
    cluster.restart()
    assert leader(cluster).key != victim.key


@claim("BG-12 BG-04", source=CLEANUP, needs=NEEDS, since=16, why="15 may sleep its minute")
@settings(**PRELOADED)
def test_worker_without_an_interval_restarts_at_once(cluster: Cluster) -> None:
    """A worker whose restart time is 0 is restarted at once after each exit 1, and keeps running
    once it can."""
    blocked: Path = cluster.data / "autoprewarm.blocks.tmp"
    line = exited_line(cluster, leader(cluster), 1).split("(PID ")[0]
    blocked.mkdir()
    then = cluster.since()
    expect_a_sleeper(cluster, sleep_ms)
    cluster.reload(**{"pg_prewarm.autoprewarm_interval": "1s"})

    def exits() -> list[str]:
        return [text for text in then.postmaster_lines() if text.startswith(line)]

    cluster.wait_for("three ends", lambda: len(exits()) >= 3, describe=lambda: str(exits()))
    assert all(text.endswith(" exited with exit code 1") for text in exits())
    blocked.rmdir()
    expect_a_sleeper(cluster, sleep_ms)
    cluster.reload(**{"pg_prewarm.autoprewarm_interval": "0"})
    expect_a_sleeper(cluster, sleeps_without_end)
    blocks = cluster.data / "autoprewarm.blocks"
    blocks.unlink(missing_ok=True)
    end_leader(cluster)
    assert blocks.exists()
    then.expect_no_log(f"^{TERMINATING}$")


@claim("BG-14 BG-20", source=CLEANUP, needs=[*NEEDS, Need.CRASH_INJECTION])
@settings(**PRELOADED)
@KILL_QUIT
def test_worker_that_dies_is_a_crash(cluster: Cluster, number: signal.Signals) -> None:
    """A worker that is killed by a signal, or exits 2, is named in the log; after the restart it
    runs again."""
    victim = leader(cluster)
    then = cluster.since()
    cluster.signal_child(victim, number)
    then.expect_ready()
    ended = death_line(cluster, victim, number)
    then.expect_postmaster_lines([ended, TERMINATING, REINITIALIZING, READY_LINE])
    assert leader(cluster).key != victim.key


# When.


@claim(
    "BG-05 RC-19", source="postmaster.c: bgworker_should_start_now()", needs=[*NEEDS, Need.STANDBY]
)
@pytest.mark.parametrize("hot", [True, False], ids=["hot", "not hot"])
def test_worker_of_a_standby(make_cluster: MakeCluster, hot: bool) -> None:
    """A worker for a consistent server starts on a hot standby and survives the promotion; on a
    standby that is not hot it starts only after the promotion."""
    standby = make_cluster(**ALONE, **PRELOADED, hot_standby=hot)
    standby.write_file("standby.signal")
    standby.start(wait=False)
    line = READ_ONLY_LINE if hot else "entering standby mode"
    first = standby.expect_log(f"^{line}$", within=deadlines.START_LIMIT)
    then = standby.since(first)
    if hot:
        child = leader(standby)
    else:
        standby.child(Kind.BACKGROUND_WRITER)
        expect_no_leader(standby)
    standby.write_file("promote")
    standby.signal_postmaster(signal.SIGUSR1)
    then.expect_log(f"^{READY_LINE}$")
    if hot:
        standby.child(Kind.LOGICAL_REPLICATION_LAUNCHER)
        assert leader(standby).key == child.key
    else:
        leader(standby)
    stop(standby)


# Started by sessions.


def with_extension(cluster: Cluster) -> Session:
    """A session that can start a leader and is otherwise unused.

    Only messages to the session wake it: after a query the timer of unreported statistics would,
    after ten seconds.
    """
    with cluster.session() as session:
        session.query("create extension if not exists pg_prewarm")
        child = session.child
    cluster.expect_death(child)
    return cluster.session()


@claim("BG-10 BG-11 INV-100", source=WAITS, needs=NEEDS)
@settings(**PRELOADED)
def test_session_waits_until_its_worker_has_started(cluster: Cluster) -> None:
    """A session that requests a worker is notified when it has been forked, not sooner; the worker
    outlives the session, and restarts as a static worker does."""
    session = with_extension(cluster)
    end_leader(cluster)
    before = cluster.since()
    cluster.expect_idle()
    with StoppedPostmaster(cluster):
        session.send_query(START_ONE)
        session.expect_silence(0.3)
        assert cluster.children(Kind.AUTOPREWARM_LEADER) == []
    session.result()
    child = leader(cluster)
    cluster.expect_idle(child)
    with pytest.raises(ServerError) as error:
        session.query(START_ONE)
    running = f"autoprewarm worker is already running under PID {child.pid}"
    assert error.value.answer.message == running
    gone = session.child
    session.close()
    cluster.expect_death(gone)
    victim = end_leader(cluster)
    assert victim.key == child.key
    expect_no_leader(cluster)
    before.expect_undisturbed(gone=[gone])


@claim("BG-23", source="bgworker.c: BackgroundWorkerStateChange()", needs=NEEDS)
@settings(**PRELOADED)
@pytest.mark.parametrize("how", ["cancel", "term"])
def test_worker_whose_session_stops_waiting_is_started(cluster: Cluster, how: str) -> None:
    """If the session cancels its wait or exits, the postmaster still starts the worker."""
    session = with_extension(cluster)
    end_leader(cluster)
    before = cluster.since()
    child = session.child
    cluster.expect_idle()
    with StoppedPostmaster(cluster):
        session.send_query(START_ONE)
        session.expect_silence(0.2)
        cluster.signal_child(child, signal.SIGINT if how == "cancel" else signal.SIGTERM)
        if how == "cancel":
            with pytest.raises(ServerError):
                session.result()
        else:
            session.expect_end()
            cluster.expect_death(child)
    leader(cluster)
    before.expect_undisturbed(gone=[child] if how == "term" else [])
    end_leader(cluster)
    expect_no_leader(cluster)


@claim("BG-01", source="bgworker.c: RegisterBackgroundWorker()", needs=NEEDS)
@settings(**PRELOADED, max_worker_processes="1")
def test_worker_beyond_the_limit_is_refused(cluster: Cluster) -> None:
    """A static worker beyond max_worker_processes is left out with a log line; a session that
    requests one gets an error."""
    line = cluster.expect_log("^too many background workers$")
    assert (line.pid, line.level) == (cluster.pid, "LOG")
    assert line.detail == "Up to 1 background worker can be registered with the current settings."
    hint = 'Consider increasing the configuration parameter "max_worker_processes".'
    assert line.hint == hint
    expect_no_leader(cluster)
    with with_extension(cluster) as session:
        before = cluster.since()
        with pytest.raises(ServerError) as refused:
            session.query(START_ONE)
        assert refused.value.sqlstate == NO_RESOURCES
        assert refused.value.answer.message == "could not register background process"
        expect_no_leader(cluster)
        before.expect_undisturbed()


# Workers of a worker.


@claim("BG-10 BG-12", source="bgworker.c: WaitForBackgroundWorkerShutdown()", needs=NEEDS)
@settings(**PRELOADED)
def test_worker_that_waits_for_its_workers(cluster: Cluster) -> None:
    """The leader starts a worker for one database after the other, each after the exit of the last,
    and is notified of each exit."""
    databases = ("first", "second", "third")
    with cluster.session() as session:
        for database in databases:
            session.query(f"create database {database}")
    for database in databases:
        with cluster.session(database=database) as session:
            session.query("create table something as select generate_series(1, 1000)")
    cluster.restart()
    line = cluster.expect_log(
        "^autoprewarm successfully prewarmed ", within=deadlines.CRASH_RESTART_LIMIT
    )
    assert line.pid == leader(cluster).pid
    begun, gone = (
        [record for record in cluster.log() if record.message == f'{what} "autoprewarm worker"']
        for what in ("starting background worker process", "unregistering background worker")
    )
    assert len(begun) >= len(databases)
    assert len(gone) == len(begun)
    places = [record.index for pair in zip(begun, gone, strict=True) for record in pair]
    assert places == sorted(places)
    assert cluster.children(Kind.AUTOPREWARM_WORKER) == []
