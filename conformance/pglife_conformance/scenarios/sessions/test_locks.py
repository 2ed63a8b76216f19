"""Waits for locks: deadlocks, log lines about long waits, autovacuum workers that hold the lock.

Source: storage/lmgr/proc.c: ProcSleep(), CheckDeadLock(); postmaster/autovacuum.c:
AutoVacWorkerMain().
"""

import signal
import time

import pytest

from pglife_conformance.base.needs import SQL
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import ServerError, Session
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.signals.test_optional_processes import (
    SLOW_TABLE,
    VACUUMED,
    WORKER,
    autovacuum_worker,
)
from pglife_conformance.scenarios.support.transaction_ids import use_up_xids

SLEEP = "proc.c: ProcSleep()"
DEADLOCK_DETECTED = "40P01"
QUERY_CANCELED = "57014"
FROZEN_LATEST = 100_000
"""The smallest value of autovacuum_freeze_max_age."""
IN_THE_WAY = "lock table dead in access exclusive mode"


def wait_for_lock(cluster: Cluster, observer: Session, session: Session, sql: str) -> None:
    """Send a statement that must wait for a lock; return when pg_locks shows the wait."""
    session.send_query(sql)
    waits = f"select pid from pg_locks where not granted and pid = {session.backend_pid}"
    cluster.wait_for("a wait for a lock", lambda: observer.query(waits))


@claim("TO-08", source="proc.c: CheckDeadLock()", needs=SQL)
def test_deadlock_is_found_by_the_first_deadlock_timeout(cluster: Cluster) -> None:
    """Two sessions wait for each other. The one whose deadlock_timeout expires gets the error, and
    the other gets its lock. Both wait until a deadlock_timeout expires."""
    first, second, observer = (cluster.session() for _ in range(3))
    before = cluster.since()
    first.query("create table a(); create table b(); create table c()")
    for session, table in ((first, "a"), (second, "b")):
        session.query(f"set deadlock_timeout = '1h'; begin; lock table {table}")
    wait_for_lock(cluster, observer, first, "lock table b")
    wait_for_lock(cluster, observer, second, "lock table a")
    cluster.expect_still(
        "both sessions wait", lambda: first.is_silent() and second.is_silent(), 0.3
    )
    second.cancel()
    with pytest.raises(ServerError) as raised:
        second.result()
    assert raised.value.sqlstate == QUERY_CANCELED
    # The transaction of `second` has failed, so that `first` gets its lock.
    first.result()
    second.query("rollback; set deadlock_timeout = '10ms'; begin; lock table c")
    wait_for_lock(cluster, observer, first, "lock table c")
    with pytest.raises(ServerError) as raised:
        second.query("lock table a")
    assert raised.value.sqlstate == DEADLOCK_DETECTED
    assert raised.value.answer.message == "deadlock detected"
    first.result()
    first.query("commit")
    second.query("rollback")
    before.expect_undisturbed()


@claim("TO-08", source=SLEEP, needs=SQL)
@pytest.mark.parametrize("log_waits", ["on", "off"])
def test_long_waits_for_locks_may_be_logged(cluster: Cluster, log_waits: str) -> None:
    """With log_lock_waits a session that waits longer than deadlock_timeout logs the wait, and
    later the lock. A long wait does not end the session."""
    holder, waiter, observer = (cluster.session() for _ in range(3))
    holder.query("create table held()")
    holder.query("begin; lock table held")
    waiter.query(f"set log_lock_waits = {log_waits}; set deadlock_timeout = '10ms'; begin")
    then = cluster.since()
    wait_for_lock(cluster, observer, waiter, "lock table held")
    began = time.monotonic()
    who = rf"^process {waiter.backend_pid} "
    if log_waits == "on":
        waits = then.expect_log(f"{who}still waiting for AccessExclusiveLock on rel")
        assert (waits.pid, waits.level) == (waiter.backend_pid, "LOG")
    else:
        cluster.let_pass(0.3, since=began)
    assert waiter.is_silent()
    holder.query("commit")
    waiter.result()
    if log_waits == "on":
        has = then.expect_log(f"{who}acquired AccessExclusiveLock on rel")
        assert (has.pid, has.level) == (waiter.backend_pid, "LOG")
    else:
        then.expect_no_log(who)


@claim("AV-18", source=SLEEP, needs=WORKER)
@settings(autovacuum_naptime="1s")
def test_session_cancels_the_autovacuum_that_blocks_it(cluster: Cluster) -> None:
    """A worker that blocks a session cancels the vacuum of its table after that session's
    deadlock_timeout, not before, and the worker does not crash."""
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
        record = before.expect_line("canceling autovacuum task")
        assert (record.pid, record.level) == (child.pid, "ERROR")
        session.query("rollback")
        # Other workers may have run at that time and exited.
        workers = [kid for kid in before.kids if kid.kind is Kind.AUTOVACUUM_WORKER]
        before.expect_undisturbed(gone=workers)


@claim("AV-18 AV-14", source=SLEEP, needs=WORKER)
@settings(autovacuum_naptime="1s")
def test_autovacuum_against_wraparound_is_not_canceled(cluster: Cluster) -> None:
    """A worker that prevents wraparound shows it in its query, and continues though it blocks a
    session."""
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
        ((pid,),) = cluster.wait_for(
            "a worker that vacuums the table", lambda: observer.query(asked), 30.0
        )
        session.query("set deadlock_timeout = '10ms'; begin")
        wait_for_lock(cluster, observer, session, IN_THE_WAY)
        session.expect_silence(0.5)
        then.expect_no_log("^canceling autovacuum task$")
        assert observer.query(asked) == [(pid,)]
        session.cancel()
        with pytest.raises(ServerError) as raised:
            session.result()
        assert raised.value.sqlstate == QUERY_CANCELED


@claim("AV-15", source="autovacuum.c: AutoVacLauncherMain()", needs=WORKER)
@settings(autovacuum_naptime="1s")
def test_autovacuum_worker_outlives_its_launcher(cluster: Cluster) -> None:
    """The postmaster replaces a launcher that exits; the workers of the old one continue."""
    with autovacuum_worker(cluster) as child:
        launcher = cluster.end_child(Kind.AUTOVACUUM_LAUNCHER, signal.SIGTERM)

        def is_replaced() -> bool:
            keys = {kid.key for kid in cluster.children(Kind.AUTOVACUUM_LAUNCHER)}
            return bool(keys - {launcher.key})

        cluster.wait_for("another launcher", is_replaced)
        assert child.key in {kid.key for kid in cluster.children(Kind.AUTOVACUUM_WORKER)}
