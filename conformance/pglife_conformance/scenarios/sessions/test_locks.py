"""Who waits for a lock: deadlocks, what is told of long waits, autovacuum in the way.

Source       rules TO-08, AV-15, AV-18; storage/lmgr/proc.c: ProcSleep(), CheckDeadLock(),
             postmaster/autovacuum.c: AutoVacWorkerMain().
"""

from __future__ import annotations

import signal
import time

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import ServerError, Session
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.processes.autovacuum.test_launcher import use_up_xids
from pglife_conformance.scenarios.signals.test_optional_processes import (
    SLOW_TABLE,
    VACUUMED,
    WORKER,
    autovacuum_worker,
)

SLEEP = "proc.c: ProcSleep()"
SQL = [Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.FULL_SQL]
OUT_OF_MODEL = pytest.mark.unmonitored("the model has no such process")
DEADLOCK_DETECTED = "40P01"
QUERY_CANCELED = "57014"
FROZEN_LATEST = 100_000
"""The least that autovacuum_freeze_max_age may be."""
IN_THE_WAY = "lock table dead in access exclusive mode"


def wait_for_lock(cluster: Cluster, observer: Session, session: Session, sql: str) -> None:
    """Send a statement that has to wait for a lock, and see it wait."""
    session.send_query(sql)
    waits = f"select pid from pg_locks where not granted and pid = {session.backend_pid}"
    cluster.wait_for("a wait for a lock", lambda: observer.query(waits))


@claim("TO-08", source="proc.c: CheckDeadLock()", needs=SQL)
def test_deadlock_is_found_by_whose_clock_comes_first(cluster: Cluster) -> None:
    """Of two sessions that wait for each other the one whose deadlock_timeout passes is told, and
    the other gets what it waits for; as long as none passes both wait."""
    first, second, observer = (cluster.session() for _ in range(3))
    before = cluster.since()
    first.query("create table a(); create table b(); create table c()")
    for session, table in ((first, "a"), (second, "b")):
        session.query(f"set deadlock_timeout = '1h'; begin; lock table {table}")
    wait_for_lock(cluster, observer, first, "lock table b")
    wait_for_lock(cluster, observer, second, "lock table a")
    cluster.expect_still("both waiting", lambda: first.is_silent() and second.is_silent(), 0.3)
    second.cancel()
    with pytest.raises(ServerError) as told:
        second.result()
    assert told.value.sqlstate == QUERY_CANCELED
    # Its transaction has failed, and so the first one has its lock.
    first.result()
    second.query("rollback; set deadlock_timeout = '10ms'; begin; lock table c")
    wait_for_lock(cluster, observer, first, "lock table c")
    with pytest.raises(ServerError) as told:
        second.query("lock table a")
    assert told.value.sqlstate == DEADLOCK_DETECTED
    assert told.value.answer.message == "deadlock detected"
    first.result()
    first.query("commit")
    second.query("rollback")
    before.expect_undisturbed()


@claim("TO-08", source=SLEEP, needs=SQL)
@pytest.mark.parametrize("told", ["on", "off"])
def test_long_waits_for_locks_may_be_logged(cluster: Cluster, told: str) -> None:
    """With log_lock_waits who waits for longer than deadlock_timeout says so, and says when the
    lock has come; a wait without end is no reason to end."""
    holder, waiter, observer = (cluster.session() for _ in range(3))
    holder.query("create table held()")
    holder.query("begin; lock table held")
    waiter.query(f"set log_lock_waits = {told}; set deadlock_timeout = '10ms'; begin")
    then = cluster.since()
    wait_for_lock(cluster, observer, waiter, "lock table held")
    began = time.monotonic()
    who = rf"^process {waiter.backend_pid} "
    if told == "on":
        waits = then.expect_log(f"{who}still waiting for AccessExclusiveLock on rel")
        assert (waits.pid, waits.level) == (waiter.backend_pid, "LOG")
    else:
        cluster.wait_for("a long wait", lambda: time.monotonic() - began > 0.3)
    assert waiter.is_silent()
    holder.query("commit")
    waiter.result()
    if told == "on":
        has = then.expect_log(f"{who}acquired AccessExclusiveLock on rel")
        assert (has.pid, has.level) == (waiter.backend_pid, "LOG")
    else:
        then.expect_no_log(who)


@claim("AV-18", source=SLEEP, needs=WORKER)
@OUT_OF_MODEL
@settings(autovacuum_naptime="1s")
def test_autovacuum_makes_way_for_a_session(cluster: Cluster) -> None:
    """A worker in whose way a session is cancels its table after that session's deadlock_timeout,
    not sooner, and does not end for it in disorder."""
    with autovacuum_worker(cluster) as child, cluster.session() as session:
        observer = cluster.session()
        before = cluster.since()
        session.query("set deadlock_timeout = '1h'; begin")
        wait_for_lock(cluster, observer, session, IN_THE_WAY)
        session.expect_silence(0.3)
        session.cancel()
        with pytest.raises(ServerError):
            session.result()
        before.expect_no_log("^canceling autovacuum task$")
        session.query("rollback; set deadlock_timeout = '10ms'; begin")
        session.query(IN_THE_WAY)
        told = before.expect_line("canceling autovacuum task")
        assert (told.pid, told.level) == (child.pid, "ERROR")
        session.query("rollback")
        # Others may have had something to do at that time, and end.
        workers = [kid for kid in before.kids if kid.kind is Kind.AUTOVACUUM_WORKER]
        before.expect_undisturbed(gone=workers)


@claim("AV-18", "AV-14", source=SLEEP, needs=WORKER)
@OUT_OF_MODEL
@settings(autovacuum_naptime="1s")
def test_autovacuum_against_wraparound_makes_no_way(cluster: Cluster) -> None:
    """A worker that works against wraparound says so, and goes on in a session's way."""
    with cluster.session() as session, cluster.session() as observer:
        session.query(SLOW_TABLE)
        session.query(
            "alter table dead set (autovacuum_enabled = off, "
            f"autovacuum_freeze_max_age = {FROZEN_LATEST})"
        )
        use_up_xids(session, FROZEN_LATEST + 100)
        then = cluster.since()
        asked = (
            f"select pid from pg_stat_activity where query = '{VACUUMED} (to prevent wraparound)'"
        )
        ((pid,),) = cluster.wait_for("a worker at the table", lambda: observer.query(asked), 30.0)
        session.query("set deadlock_timeout = '10ms'; begin")
        wait_for_lock(cluster, observer, session, IN_THE_WAY)
        session.expect_silence(0.5)
        then.expect_no_log("^canceling autovacuum task$")
        assert observer.query(asked) == [(pid,)]
        session.cancel()
        with pytest.raises(ServerError) as told:
            session.result()
        assert told.value.sqlstate == QUERY_CANCELED


@claim("AV-15", source="autovacuum.c: AutoVacLauncherMain()", needs=WORKER)
@OUT_OF_MODEL
@settings(autovacuum_naptime="1s")
def test_autovacuum_worker_outlives_its_launcher(cluster: Cluster) -> None:
    """A launcher that is ended is replaced, and leaves its workers at work."""
    with autovacuum_worker(cluster) as child:
        launcher = cluster.signal_child(Kind.AUTOVACUUM_LAUNCHER, signal.SIGTERM)
        cluster.expect_death(launcher)

        def has_come_again() -> bool:
            keys = {kid.key for kid in cluster.children(Kind.AUTOVACUUM_LAUNCHER)}
            return bool(keys - {launcher.key})

        cluster.wait_for("another launcher", has_come_again)
        assert child.key in {kid.key for kid in cluster.children(Kind.AUTOVACUUM_WORKER)}
