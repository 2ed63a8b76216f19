"""Sessions of a hot standby that conflict with recovery.

Source: rules SE-48, SE-40, PG-32; tcop/postgres.c: ProcessRecoveryConflictInterrupt(),
storage/ipc/procsignal.c: procsignal_sigusr1_handler().

With max_standby_streaming_delay = 0 recovery waits for no session.
"""

import pytest

from pglife_conformance.base import deadlines
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.client import Ending
from pglife_conformance.cluster.cluster import Cluster, MakeCluster
from pglife_conformance.cluster.session import ServerError, Session
from pglife_conformance.cluster.standby import Pair, start_pair
from pglife_conformance.expect.since import Since
from pglife_conformance.pytest.claims import claim

CONFLICT = "postgres.c: ProcessRecoveryConflictInterrupt()"
NEEDS = [Need.STANDBY, Need.FULL_SQL, Need.OS_SIGNALS]
TERMINATED = "terminating connection due to conflict with recovery"
CANCELED = "canceling statement due to conflict with recovery"
RECONNECT = "In a moment you should be able to reconnect to the database and repeat your command."
LOCK_HELD = "User was holding a relation lock for too long."
ROWS_NEEDED = "User query might have needed to see row versions that must be removed."
DATABASE_GONE = "User was connected to a database that must be dropped."
SERIALIZATION_FAILURE = "40001"
DATABASE_DROPPED = "57P04"

BEGIN = {
    "lock": "begin; select from things",
    "rows": "begin isolation level repeatable read; select from things",
}
"""Statements that make a session of the standby conflict with FOLLOW on the primary."""
FOLLOW = {"lock": ["drop table things"], "rows": ["delete from things", "vacuum things"]}
DETAIL = {"lock": LOCK_HELD, "rows": ROWS_NEEDED}


def pair_with_things(make_cluster: MakeCluster) -> Pair:
    """A primary and a standby that both have the table `things`."""
    pair = start_pair(make_cluster, max_standby_streaming_delay="0", hot_standby_feedback=False)
    with pair.primary.session() as session:
        session.query("create table things as select 1 as a")
    expect_replayed(pair)
    return pair


def expect_replayed(pair: Pair) -> None:
    """Wait until the standby has replayed all WAL of the primary."""
    with pair.primary.session() as session:
        lsn = session.query("select pg_current_wal_insert_lsn()")[0][0]
    with pair.standby.session() as session:
        asked = f"select pg_last_wal_replay_lsn() >= '{lsn}'"
        session.expect_rows(asked, [("t",)], deadlines.START_LIMIT)


def cause_conflict(pair: Pair, why: str) -> None:
    """Run the statements on the primary whose replay conflicts with the session."""
    with pair.primary.session() as session:
        for statement in FOLLOW[why]:
            session.query(statement)


def expect_terminated(
    cluster: Cluster, session: Session, since: Since, detail: str, sqlstate: str
) -> None:
    """The session sends and logs FATAL and exits 1; no other process is affected."""
    final = session.expect_final_message()
    assert final is not None
    assert (final.severity, final.sqlstate, final.message) == ("FATAL", sqlstate, TERMINATED)
    assert final.detail == detail
    # Until 16 not every such end has the hint.
    assert final.hint == RECONNECT or (cluster.major <= 16 and not final.hint)
    assert session.ending is Ending.END_OF_FILE
    record = since.expect_log(f"^{TERMINATED}$")
    assert (record.pid, record.level) == (session.backend_pid, "FATAL")
    since.expect_log(f"PID {session.backend_pid}[)] exited with exit code 1$")
    since.expect_no_log("^terminating any other active server processes$")


@claim("SE-48", source=CONFLICT, needs=NEEDS)
@pytest.mark.parametrize("why", ["lock", "rows"])
def test_session_that_conflicts_with_recovery_exits(make_cluster: MakeCluster, why: str) -> None:
    """A session idle in a transaction that conflicts with recovery ends with FATAL 40001."""
    pair = pair_with_things(make_cluster)
    then = pair.standby.since()
    with pair.standby.session() as session, pair.standby.session() as bystander:
        bystander.query("begin; select 1")
        session.query(BEGIN[why])
        cause_conflict(pair, why)
        expect_terminated(pair.standby, session, then, DETAIL[why], SERIALIZATION_FAILURE)
        expect_replayed(pair)
        assert bystander.query("select 1") == [("1",)]


@claim("SE-48 SE-40", source=CONFLICT, needs=NEEDS)
@pytest.mark.parametrize("why", ["lock", "rows"])
def test_statement_that_conflicts_with_recovery_is_cancelled(
    make_cluster: MakeCluster, why: str
) -> None:
    """A running statement that conflicts with recovery fails with 40001; its session continues."""
    pair = pair_with_things(make_cluster)
    with pair.standby.session() as session:
        session.query(BEGIN[why])
        session.send_query("select pg_sleep(120)")
        cause_conflict(pair, why)
        with pytest.raises(ServerError) as raised:
            session.result()
        answer = raised.value.answer
        assert (answer.severity, answer.sqlstate) == ("ERROR", SERIALIZATION_FAILURE)
        assert (answer.message, answer.detail) == (CANCELED, DETAIL[why])
        assert session.client.transaction_status == "E"
        expect_replayed(pair)
        # A failed transaction holds no lock and no snapshot, so it conflicts with no replay.
        with pair.primary.session() as other:
            other.query("create table more as select 1; drop table more")
        expect_replayed(pair)
        session.query("rollback")
        assert session.query("select 1") == [("1",)]
        column = {"lock": "confl_lock", "rows": "confl_snapshot"}[why]
        asked = f"select {column} from pg_stat_database_conflicts where datname = 'postgres'"
        session.expect_rows(asked, [("1",)])


@claim("SE-48", source=CONFLICT, needs=NEEDS)
def test_conflicting_statement_of_a_subtransaction_ends_the_session(
    make_cluster: MakeCluster,
) -> None:
    """A conflict inside a subtransaction ends the session: a cancel would not release the lock."""
    pair = pair_with_things(make_cluster)
    then = pair.standby.since()
    session = pair.standby.session()
    session.query(f"{BEGIN['lock']}; savepoint one")
    session.send_query("select pg_sleep(120)")
    cause_conflict(pair, "lock")
    expect_terminated(pair.standby, session, then, LOCK_HELD, SERIALIZATION_FAILURE)


@claim("SE-48", source=CONFLICT, needs=NEEDS)
@pytest.mark.parametrize("state", ["idle", "running", "failed"])
def test_sessions_of_a_dropped_database_exit(make_cluster: MakeCluster, state: str) -> None:
    """When its database is dropped a session ends with FATAL 57P04, whatever its state."""
    pair = pair_with_things(make_cluster)
    with pair.primary.session() as other:
        other.query("create database gone")
        expect_replayed(pair)
        then = pair.standby.since()
        session = pair.standby.session(parameters={"database": "gone"})
        if state == "running":
            session.send_query("select pg_sleep(120)")
        elif state == "failed":
            with pytest.raises(ServerError):
                session.query("begin; show does_not_exist")
        other.query("drop database gone")
        expect_terminated(pair.standby, session, then, DATABASE_GONE, DATABASE_DROPPED)
    # Until its row is deleted as well the database exists and is invalid.
    expect_replayed(pair)
    assert pair.standby.refusal_of_new_client(database="gone").sqlstate == "3D000"
