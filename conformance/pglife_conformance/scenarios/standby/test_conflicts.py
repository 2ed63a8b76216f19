"""Sessions of a hot standby: what recovery takes from them.

Source       rules SE-48, SE-40, PG-32; tcop/postgres.c: ProcessRecoveryConflictInterrupt(),
             storage/ipc/procsignal.c: procsignal_sigusr1_handler().

With max_standby_streaming_delay = 0 recovery waits for nobody.
"""

from __future__ import annotations

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
"""What makes a session stand in the way, here, and below what it is in the way of, there."""
FOLLOW = {"lock": ["drop table things"], "rows": ["delete from things", "vacuum things"]}
DETAIL = {"lock": LOCK_HELD, "rows": ROWS_NEEDED}

pytestmark = pytest.mark.unmonitored("standbys are beyond the model")


def pair_with_things(make_cluster: MakeCluster) -> Pair:
    """The table `things` is on both."""
    pair = start_pair(make_cluster, max_standby_streaming_delay="0", hot_standby_feedback=False)
    with pair.primary.session() as session:
        session.query("create table things as select 1 as a")
    expect_replayed(pair)
    return pair


def expect_replayed(pair: Pair) -> None:
    """All that the primary has written is done on the standby."""
    with pair.primary.session() as session:
        lsn = session.query("select pg_current_wal_insert_lsn()")[0][0]
    with pair.standby.session() as session:
        asked = f"select pg_last_wal_replay_lsn() >= '{lsn}'"
        session.expect_rows(asked, [("t",)], deadlines.START_LIMIT)


def bring_about(pair: Pair, why: str) -> None:
    """On the primary, what the session is in the way of."""
    with pair.primary.session() as session:
        for statement in FOLLOW[why]:
            session.query(statement)


def expect_terminated(
    cluster: Cluster, session: Session, since: Since, detail: str, sqlstate: str
) -> None:
    """FATAL to the client and to the log, exit 1; nobody else notices."""
    told = session.expect_final_message()
    assert told is not None
    assert (told.severity, told.sqlstate, told.message) == ("FATAL", sqlstate, TERMINATED)
    assert told.detail == detail
    # Until 16 not every such end has the hint.
    assert told.hint == RECONNECT or (cluster.target.version.major <= 16 and not told.hint)
    assert session.ending is Ending.END_OF_FILE
    record = since.expect_log(f"^{TERMINATED}$")
    assert (record.pid, record.level) == (session.backend_pid, "FATAL")
    since.expect_log(f"PID {session.backend_pid}[)] exited with exit code 1$")
    since.expect_no_log("^terminating any other active server processes$")


@claim("SE-48", source=CONFLICT, needs=NEEDS)
@pytest.mark.parametrize("why", ["lock", "rows"])
def test_session_in_the_way_of_recovery_ends(make_cluster: MakeCluster, why: str) -> None:
    """A session that waits in a transaction which recovery conflicts with ends with 40001."""
    pair = pair_with_things(make_cluster)
    then = pair.standby.since()
    with pair.standby.session() as session, pair.standby.session() as bystander:
        bystander.query("begin; select 1")
        session.query(BEGIN[why])
        bring_about(pair, why)
        expect_terminated(pair.standby, session, then, DETAIL[why], SERIALIZATION_FAILURE)
        expect_replayed(pair)
        assert bystander.query("select 1") == [("1",)]


@claim("SE-48", "SE-40", source=CONFLICT, needs=NEEDS)
@pytest.mark.parametrize("why", ["lock", "rows"])
def test_statement_in_the_way_of_recovery_is_cancelled(make_cluster: MakeCluster, why: str) -> None:
    """A statement that runs ends with ERROR 40001 and its session goes on."""
    pair = pair_with_things(make_cluster)
    with pair.standby.session() as session:
        session.query(BEGIN[why])
        session.send_query("select pg_sleep(120)")
        bring_about(pair, why)
        with pytest.raises(ServerError) as told:
            session.result()
        answer = told.value.answer
        assert (answer.severity, answer.sqlstate) == ("ERROR", SERIALIZATION_FAILURE)
        assert (answer.message, answer.detail) == (CANCELED, DETAIL[why])
        assert session.client.transaction_status == "E"
        expect_replayed(pair)
        # What has failed holds nothing any more, and so it is in nobody's way.
        with pair.primary.session() as other:
            other.query("create table more as select 1; drop table more")
        expect_replayed(pair)
        session.query("rollback")
        assert session.query("select 1") == [("1",)]
        column = {"lock": "confl_lock", "rows": "confl_snapshot"}[why]
        asked = f"select {column} from pg_stat_database_conflicts where datname = 'postgres'"
        session.expect_rows(asked, [("1",)])


@claim("SE-48", source=CONFLICT, needs=NEEDS)
def test_statement_of_a_subtransaction_costs_the_session(make_cluster: MakeCluster) -> None:
    """Inside of a savepoint a cancelled statement would not give back what is in the way."""
    pair = pair_with_things(make_cluster)
    then = pair.standby.since()
    session = pair.standby.session()
    session.query(f"{BEGIN['lock']}; savepoint one")
    session.send_query("select pg_sleep(120)")
    bring_about(pair, "lock")
    expect_terminated(pair.standby, session, then, LOCK_HELD, SERIALIZATION_FAILURE)


@claim("SE-48", source=CONFLICT, needs=NEEDS)
@pytest.mark.parametrize("state", ["idle", "running", "failed"])
def test_database_that_is_dropped_takes_its_sessions_along(
    make_cluster: MakeCluster, state: str
) -> None:
    """Whatever a session does, it ends with 57P04 when its database goes."""
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
    # Until its row has gone as well the database is there and invalid.
    expect_replayed(pair)
    assert pair.standby.refusal_of_new_client(database="gone").sqlstate == "3D000"
