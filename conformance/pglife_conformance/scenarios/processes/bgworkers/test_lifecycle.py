"""Workers that come by request: parallel, logical replication, autovacuum, io; and the
walsummarizer's work.

Source       rules BG-02, BG-11 to BG-15, BG-20, BG-26, AV-01, AV-11, IO-10, WS-02;
             postmaster/bgworker.c, replication/logical/launcher.c, postmaster/autovacuum.c,
             storage/aio/method_worker.c, postmaster/walsummarizer.c.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from pglife_conformance.base.deadlines import START_LIMIT
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import ServerError, Session
from pglife_conformance.expect.crash import Before, exited_line, expect_undisturbed
from pglife_conformance.hold.parallel import run_in_parallel
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child
from pglife_conformance.observation.rest import Rest
from pglife_conformance.pytest.claims import claim, settings

FORGET = "bgworker.c: ForgetBackgroundWorker()"
SQL = [Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.FULL_SQL]
OUT_OF_MODEL = pytest.mark.unmonitored("the model has no such process")

ONE_WORKER = {"max_worker_processes": "2", "max_parallel_workers": "1"}
"""The other one is the logical replication launcher."""


def parallel_session(cluster: Cluster) -> Session:
    """A session whose statements are run by one parallel worker."""
    return run_in_parallel(cluster.session())


def workers_launched(session: Session) -> str:
    """How many workers the plan of a statement was run by."""
    rows = session.query("explain (analyze, costs off, timing off, summary off) select 1")
    lines = [(row[0] or "").strip() for row in rows]
    return next(line for line in lines if line.startswith("Workers Launched"))


ONE = "Workers Launched: 1"
NONE = "Workers Launched: 0"


def expect_a_worker(cluster: Cluster, session: Session) -> None:
    """A statement gets its worker.

    Perhaps not the first one: a leader may see that its worker has ended a moment before the
    postmaster gives its slot back (bgworker.c: ReportBackgroundWorkerExit()).
    """
    cluster.wait_for("a parallel worker", lambda: workers_launched(session) == ONE)


def expect_asleep(cluster: Cluster, observer: Session, worker: Child) -> None:
    """A parallel worker has come to its pg_sleep().

    Its title is there long before: who is told to end until then may do so in other words, for
    the leader takes the shared memory away that it has yet to find.
    """
    asked = f"select lower(wait_event) from pg_stat_activity where pid = {worker.pid}"
    cluster.wait_for("the worker to sleep", lambda: observer.query(asked) == [("pgsleep",)])


@claim("BG-02", "BG-13", source=FORGET, needs=SQL)
@OUT_OF_MODEL
@settings(**ONE_WORKER)
def test_parallel_workers_use_up_no_slots(cluster: Cluster) -> None:
    """One parallel worker after the other, with one slot for all of them; each exits 0."""
    with parallel_session(cluster) as session:
        before = Before.of(cluster)
        for _ in range(6):
            expect_a_worker(cluster, session)
        expect_undisturbed(cluster, before)


@claim("BG-02", source="bgworker.c: RegisterDynamicBackgroundWorker()", needs=SQL)
@OUT_OF_MODEL
@settings(max_parallel_workers="1")
def test_parallel_workers_are_limited_as_such(cluster: Cluster) -> None:
    """Beyond max_parallel_workers no worker comes, and the statement is run without it."""
    with parallel_session(cluster) as busy, parallel_session(cluster) as other:
        busy.send_query("select pg_sleep(60)")
        cluster.child(Kind.PARALLEL_WORKER)
        assert workers_launched(other) == NONE
        busy.cancel()
        with pytest.raises(ServerError):
            busy.result()
        expect_a_worker(cluster, other)


@claim("BG-15", "BG-12", source="bgworker.c: TerminateBackgroundWorker()", needs=SQL)
@OUT_OF_MODEL
@settings(**ONE_WORKER)
def test_leader_that_is_cancelled_ends_its_worker(cluster: Cluster) -> None:
    """The worker of a cancelled statement ends with 1 before the session goes on: no crash."""
    with parallel_session(cluster) as session, cluster.session() as observer:
        before = Before.of(cluster)
        session.send_query("select pg_sleep(60)")
        worker = cluster.child(Kind.PARALLEL_WORKER)
        expect_asleep(cluster, observer, worker)
        session.cancel()
        with pytest.raises(ServerError):
            session.result()
        cluster.expect_death(worker)
        line = exited_line(cluster, worker, 1)
        cluster.wait_for("its line", lambda: line in [r.message for r in cluster.log(before.mark)])
        told = cluster.expect_log("^terminating background worker ", since=before.mark)
        assert (told.pid, told.level) == (worker.pid, "FATAL")
        expect_a_worker(cluster, session)
        expect_undisturbed(cluster, before, said=[line], gone=[worker])


@claim("BG-20", "BG-02", source="bgworker.c: ResetBackgroundWorkerCrashTimes()", needs=SQL)
@OUT_OF_MODEL
@settings(**ONE_WORKER)
def test_parallel_workers_come_after_a_crash_too(cluster: Cluster) -> None:
    """A crash amid a parallel statement leaves no slot and no count behind."""
    session = parallel_session(cluster)
    session.send_query("select pg_sleep(60)")
    worker = cluster.child(Kind.PARALLEL_WORKER)
    mark = cluster.mark()
    cluster.crash(worker)
    cluster.expect_ready(since=mark)
    cluster.wait_for("its end", lambda: not cluster.children(Kind.PARALLEL_WORKER))
    with parallel_session(cluster) as again:
        for _ in range(3):
            expect_a_worker(cluster, again)


# Logical replication.

LOGICAL = {"wal_level": "logical", "wal_retrieve_retry_interval": "100ms"}


def subscribe(cluster: Cluster, session: Session) -> Child:
    """Subscribe the server to itself; gives the apply worker."""
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
    """An apply worker streams, and the launcher sleeps again.

    A launcher that has read which subscriptions there are, and is held up before it looks who is
    missing, would launch a worker for one that has been disabled meanwhile.
    """
    asked = "select active from pg_replication_slots where slot_name = 'news'"
    cluster.wait_for("an apply worker that streams", lambda: session.query(asked) == [("t",)])
    rest = Rest(cluster.child(Kind.LOGICAL_REPLICATION_LAUNCHER).pid)
    cluster.wait_for("a launcher that sleeps", rest.has_come)


def expect_no_apply_worker(cluster: Cluster) -> None:
    """Sooner or later there is none, and then none comes.

    The end of one wakes the launcher, which may launch another as long as the subscription is seen
    by it; that one goes by itself when it sees what has been committed meanwhile.
    """
    rest = Rest(cluster.child(Kind.LOGICAL_REPLICATION_LAUNCHER).pid)

    def there_is_none() -> bool:
        return not cluster.children(Kind.LOGICAL_REPLICATION_WORKER)

    cluster.wait_for("no apply worker", lambda: rest.has_come() and there_is_none())
    cluster.expect_still("no apply worker", there_is_none, 0.3)


def expect_slot_free(cluster: Cluster, session: Session) -> None:
    """The walsender of an apply worker that has ended is gone, too."""
    asked = "select active from pg_replication_slots where slot_name = 'news'"
    cluster.wait_for("a slot that nobody uses", lambda: session.query(asked) == [("f",)])


@claim(
    "BG-26",
    "SG-23",
    source="launcher.c: ApplyLauncherMain()",
    needs=[*SQL, Need.WALSENDER],
)
@OUT_OF_MODEL
@settings(**LOGICAL)
def test_apply_worker_that_ends_comes_again(cluster: Cluster) -> None:
    """An apply worker comes with its subscription; ended by TERM, another one is launched."""
    with cluster.session() as session:
        first = subscribe(cluster, session)
        mark = cluster.mark()
        launcher = cluster.child(Kind.LOGICAL_REPLICATION_LAUNCHER)
        cluster.signal_child(first, signal.SIGTERM)
        cluster.expect_death(first)
        told = cluster.expect_log("^terminating logical replication worker due to", since=mark)
        assert (told.pid, told.level) == (first.pid, "FATAL")
        cluster.wait_for(
            "another apply worker",
            lambda: (
                {kid.key for kid in cluster.children(Kind.LOGICAL_REPLICATION_WORKER)} - {first.key}
            ),
        )
        assert cluster.child(Kind.LOGICAL_REPLICATION_LAUNCHER).key == launcher.key
        cluster.expect_no_log("^terminating any other active server processes$", since=mark)
    cluster.request_shutdown("fast")
    cluster.expect_exit(code=0)


@claim("BG-26", source="launcher.c: AtEOXact_ApplyLauncher()", needs=[*SQL, Need.WALSENDER])
@OUT_OF_MODEL
@settings(**LOGICAL)
def test_apply_worker_comes_and_goes_with_its_subscription(cluster: Cluster) -> None:
    """Disabled, a subscription has no apply worker; enabled again it has one at once."""
    with cluster.session() as session:
        first = subscribe(cluster, session)
        session.query("alter subscription news disable")
        cluster.expect_death(first)
        expect_no_apply_worker(cluster)
        # Else the next worker might find its slot in use and give up.
        expect_slot_free(cluster, session)
        session.query("alter subscription news enable")
        second = cluster.child(Kind.LOGICAL_REPLICATION_WORKER)
        assert second.key != first.key
        expect_launched(cluster, session)
        session.query("drop subscription news")
        cluster.expect_death(second)
        expect_no_apply_worker(cluster)


@claim("BG-20", source=FORGET, needs=[*SQL, Need.WALSENDER])
@OUT_OF_MODEL
@settings(**LOGICAL)
def test_worker_that_is_not_parallel_is_not_counted_as_one(cluster: Cluster) -> None:
    """After the end of an apply worker there is as much room for parallel ones as before."""
    with cluster.session() as session:
        worker = subscribe(cluster, session)
        session.query("drop subscription news")
        cluster.expect_death(worker)
    with parallel_session(cluster) as session:
        expect_a_worker(cluster, session)


# Autovacuum.


@claim("AV-01", "AV-02", "AV-16", source="autovacuum.c: AutoVacLauncherMain()", needs=SQL)
@OUT_OF_MODEL
def test_autovacuum_workers_come_in_turn(cluster: Cluster) -> None:
    """From a reload of autovacuum_naptime on one worker comes after the other; each exits 0."""
    launcher = cluster.child(Kind.AUTOVACUUM_LAUNCHER)
    with cluster.session() as session:
        session.query("create table something as select 1; analyze something")
        session.query("select pg_stat_force_next_flush()")
    mark = cluster.mark()
    processed = '^autovacuum: processing database "postgres"$'
    cluster.expect_still("no worker", lambda: cluster.find_log(processed, mark) is None, 0.2)
    cluster.reload(autovacuum_naptime="1s")

    def workers() -> list[int]:
        text = 'autovacuum: processing database "'
        return [r.pid for r in cluster.log(mark) if r.message.startswith(text)]

    cluster.wait_for("two workers", lambda: len(workers()) >= 2, START_LIMIT)
    for pid in workers()[:2]:
        cluster.expect_log(f"[(]PID {pid}[)] exited with exit code 0$", since=mark)
    assert len(set(workers())) == len(workers())
    assert cluster.child(Kind.AUTOVACUUM_LAUNCHER).key == launcher.key
    worse = [r for r in cluster.log(mark) if r.level in ("ERROR", "FATAL", "PANIC")]
    assert worse == []


@claim("AV-01", "AV-16", source="autovacuum.c: do_start_worker()", needs=SQL)
@OUT_OF_MODEL
@settings(autovacuum_naptime="1s")
def test_autovacuum_looks_after_each_database(cluster: Cluster) -> None:
    """Each database that somebody has been in is visited, and visited again."""
    names = ["postgres", "one", "two"]
    with cluster.session() as session:
        session.query("create database one")
        session.query("create database two")
    for name in names:
        with cluster.session(parameters={"database": name}) as session:
            session.query("create table something as select 1; analyze something")
            session.query("select pg_stat_force_next_flush()")
    mark = cluster.mark()
    text = 'autovacuum: processing database "'

    def visits() -> list[str]:
        found = (r.message for r in cluster.log(mark) if r.message.startswith(text))
        return [message.split('"')[1] for message in found]

    def all_visited_twice() -> bool:
        return all(visits().count(name) >= 2 for name in names)

    cluster.wait_for("two visits of each", all_visited_twice, 60.0, describe=lambda: str(visits()))


@claim("SM-22", "AV-16", source="postmaster.c: process_pm_pmsignal()", needs=SQL)
@OUT_OF_MODEL
@settings(autovacuum_naptime="1s")
def test_autovacuum_goes_on_while_a_smart_shutdown_waits(cluster: Cluster) -> None:
    """While a session holds a smart shutdown autovacuum workers come as ever."""
    with cluster.session() as session:
        session.query("create table something as select 1; analyze something")
        session.query("select pg_stat_force_next_flush()")
        mark = cluster.mark()
        cluster.request_shutdown("smart")
        cluster.expect_log("^received smart shutdown request$", since=mark)
        # One may have been on its way already.
        for _ in range(3):
            mark = cluster.mark()
            cluster.expect_log("^autovacuum: processing database ", since=mark, within=START_LIMIT)
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
    """autovacuum_max_workers beyond the slots is warned of when it changes, by the launcher."""
    launcher = cluster.child(Kind.AUTOVACUUM_LAUNCHER)
    mark = cluster.mark()
    text = '"autovacuum_max_workers" (5) should be less than or equal to '

    def warnings() -> list[tuple[int, str]]:
        return [(r.pid, r.level) for r in cluster.log(mark) if r.message.startswith(text)]

    cluster.reload(autovacuum_max_workers=4)
    cluster.expect_still("no warning", lambda: not warnings(), 0.2)
    cluster.reload(autovacuum_max_workers=5)
    one = [(launcher.pid, "WARNING")]
    cluster.wait_for("a warning", lambda: warnings() == one)
    cluster.reload(work_mem="5MB")
    cluster.expect_still("no other warning", lambda: warnings() == one, 0.2)


# Io workers.


def wake_ups(cluster: Cluster) -> int:
    """How often the io workers have gone to sleep."""
    total = 0
    for kid in cluster.children(Kind.IO_WORKER):
        status = Path(f"/proc/{kid.pid}/status").read_text(encoding="utf-8")
        line = next(one for one in status.splitlines() if one.startswith("voluntary_ctxt"))
        total += int(line.split()[1])
    return total


@claim(
    "IO-10", "IO-05", source="method_worker.c: pgaio_worker_submit()", needs=[*SQL, Need.IO_WORKERS]
)
@settings(io_workers="4")
def test_io_workers_read_for_others(cluster: Cluster) -> None:
    """A table that is too big for the buffers is read by io workers, whoever of them is there."""
    with cluster.session() as session:
        session.query("create table big as select repeat('x', 500) from generate_series(1, 20000)")
        count = [("20000",)]
        before = wake_ups(cluster)
        assert session.query("select count(*) from big") == count
        # One that was woken is counted when it goes to sleep again.
        cluster.wait_for("io workers that were woken", lambda: wake_ups(cluster) > before)
        for kid in cluster.children(Kind.IO_WORKER)[:3]:
            cluster.signal_child(kid, signal.SIGINT)
            cluster.expect_death(kid)
            assert session.query("select count(*) from big") == count
        # One without its title yet would not be counted, and be the one that stays.
        cluster.wait_for("four io workers", lambda: len(cluster.children(Kind.IO_WORKER)) == 4)
        cluster.reload(io_workers=1)
        cluster.wait_for("one io worker", lambda: len(cluster.children(Kind.IO_WORKER)) == 1)
        before = wake_ups(cluster)
        assert session.query("select count(*) from big") == count
        cluster.wait_for("the one to be woken", lambda: wake_ups(cluster) > before)


# Walsummarizer.


@claim("WS-02", source="walsummarizer.c: WalSummarizerMain()", needs=[*SQL, Need.WALSUMMARIZER])
@OUT_OF_MODEL
@settings(summarize_wal="on")
def test_walsummarizer_writes_a_summary_for_each_checkpoint(cluster: Cluster) -> None:
    """What lies between two checkpoints is summarized as soon as the second one is there."""
    place = cluster.data / "pg_wal" / "summaries"

    def summaries() -> int:
        return len(list(place.glob("*.summary")))

    with cluster.session() as session:
        for number in range(2):
            before = summaries()
            session.query(f"create table something_{number}()")
            session.query("checkpoint")
            session.query(f"create table something_else_{number}()")
            cluster.wait_for("another summary", lambda before=before: summaries() > before)  # type: ignore[misc]
