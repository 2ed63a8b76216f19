"""The timeouts of a session: what ends when, what the client hears, and what goes on.

Source       rules TO-02, TO-04, TO-05, TO-06, TO-07, SE-40, SE-42, SE-45; tcop/postgres.c:
             PostgresMain(), ProcessInterrupts(), start_xact_command().
"""

from __future__ import annotations

import contextlib
import struct

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.base.refusals import QUERY_CANCELED
from pglife_conformance.cluster.client import Ending
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import ServerError, Session
from pglife_conformance.events import SendQuery
from pglife_conformance.expect.lines import exited_line
from pglife_conformance.expect.since import Since
from pglife_conformance.pytest.claims import claim

MAIN = "tcop/postgres.c: PostgresMain()"
INTERRUPTS = "tcop/postgres.c: ProcessInterrupts()"
SHORT = "'100ms'"
"""Nothing that must not be ended may take so long, not even on a busy machine: a session that has
such a timeout is told what it is to do in one message."""
LONGER_S = 0.3
"""Three times as long: what SHORT limits would have ended."""
ENOUGH = "'400ms'"
"""What a short statement hardly ever takes; but each may, if its process is held up."""
LONG_ENOUGH = "'1500ms'"
"""What a session hardly ever takes from one message to the next one, if that is there already."""
LONGER_THAN_THAT_S = 1.8

IDLE_IN_TRANSACTION = "25P03"
TRANSACTION = "25P04"
IDLE_SESSION = "57P05"

STATEMENT_TIMED_OUT = "canceling statement due to statement timeout"
TEXTS = {
    IDLE_IN_TRANSACTION: "terminating connection due to idle-in-transaction timeout",
    TRANSACTION: "terminating connection due to transaction timeout",
    IDLE_SESSION: "terminating connection due to idle-session timeout",
}
SLEEPS = [Need.SQL_FUNCTIONS]
SLEEP = f"select pg_sleep({LONGER_S})"
BUSY_INTERVAL_S = 0.25
"""Several checks of the connection, 50 ms apart."""


def begin(session: Session, transaction: str) -> None:
    """A transaction that waits, good or failed, by one message."""
    if transaction == "good":
        session.query("begin")
    else:
        with pytest.raises(ServerError):
            session.query("begin; show does_not_exist")
    assert session.client.transaction_status == ("T" if transaction == "good" else "E")


def expect_timed_out(cluster: Cluster, session: Session, sqlstate: str, since: Since) -> None:
    """FATAL with this SQLSTATE to the client and to the log, exit 1, no crash."""
    told = session.expect_final_message()
    assert told is not None
    assert (told.severity, told.sqlstate, told.message) == ("FATAL", sqlstate, TEXTS[sqlstate])
    assert session.ending is Ending.END_OF_FILE
    record = since.expect_log(f"^{TEXTS[sqlstate]}$")
    assert (record.pid, record.level) == (session.backend_pid, "FATAL")
    since.expect_log(f"PID {session.backend_pid}[)] exited with exit code 1$")


def send_together(session: Session, *statements: str) -> None:
    """Each a message of its own, and all of them there before the first one is read."""
    said = b""
    for sql in statements:
        session.server.watcher.stimulus(SendQuery(session.number, sql))
        body = sql.encode() + b"\0"
        said += b"Q" + struct.pack("!i", 4 + len(body)) + body
    session.client.send_bytes(said)


def was_in_time(session: Session, sql: str) -> bool:
    """A statement was faster than statement_timeout; else it was cancelled, and rightly so."""
    try:
        session.query(sql)
    except ServerError as told:
        if told.answer.message != STATEMENT_TIMED_OUT:
            raise
        return False
    return True


def expect_silence(cluster: Cluster, session: Session) -> None:
    """Nothing is said for longer than SHORT."""
    session.expect_silence(LONGER_S)


# statement_timeout.


@claim("TO-02", "SE-40", source=INTERRUPTS, needs=SLEEPS)
def test_statement_timeout_cancels_the_statement_alone(cluster: Cluster) -> None:
    """statement_timeout ends a statement with ERROR 57014; the session goes on."""
    with cluster.session() as session:
        before = cluster.since()
        session.query(f"set statement_timeout = {ENOUGH}")
        for _ in range(2):
            with pytest.raises(ServerError) as told:
                session.query("select pg_sleep(60)")
            assert told.value.answer.severity == "ERROR"
            assert told.value.sqlstate == QUERY_CANCELED
            assert told.value.answer.message == STATEMENT_TIMED_OUT
        cluster.wait_for("another statement", lambda: was_in_time(session, "select 1"))
        before.expect_undisturbed()


@claim("TO-02", source="tcop/postgres.c: disable_statement_timeout()", needs=SLEEPS)
def test_statement_timeout_ends_with_its_statement(cluster: Cluster) -> None:
    """After its statement nothing of statement_timeout is left."""
    with cluster.session() as session:
        session.query(f"set statement_timeout = {ENOUGH}")
        cluster.wait_for("a transaction", lambda: was_in_time(session, "begin"))
        assert session.client.transaction_status == "T"
        session.expect_silence(0.6)
        assert session.client.transaction_status == "T"
        cluster.wait_for("its end", lambda: was_in_time(session, "rollback"))


@claim("TO-02", "SE-31", source=INTERRUPTS, needs=SLEEPS)
def test_cancel_after_a_timeout_is_told_as_a_cancel(cluster: Cluster) -> None:
    """A request to cancel is not taken for the timeout of an earlier statement."""
    with cluster.session() as session:
        session.query(f"set statement_timeout = {ENOUGH}")
        with pytest.raises(ServerError):
            session.query("select pg_sleep(60)")
        no_more = "set statement_timeout = 0"
        cluster.wait_for("no timeout", lambda: was_in_time(session, no_more))
        pid = session.backend_pid
        session.send_query("select pg_sleep(60)")
        cluster.wait_for(
            "the session to run its statement",
            lambda: cluster.child_with_pid(pid).title.endswith(" SELECT"),
        )
        session.cancel()
        with pytest.raises(ServerError) as told:
            session.result()
        assert told.value.answer.message == "canceling statement due to user request"


# idle_session_timeout.


@claim("TO-05", source=INTERRUPTS)
def test_idle_session_timeout_ends_an_idle_session(cluster: Cluster) -> None:
    """An idle session ends with FATAL 57P05 and exit 1, and nobody else notices."""
    session = cluster.session()
    before = cluster.since()
    child = session.child
    session.query(f"set idle_session_timeout = {SHORT}")
    expect_timed_out(cluster, session, IDLE_SESSION, before)
    cluster.expect_death(child)
    cluster.expect_complete()
    before.expect_undisturbed(gone=[child])
    assert before.find_log(f"PID {child.pid}[)] exited with exit code 1$")


@claim("TO-05", source=MAIN, needs=SLEEPS)
def test_idle_session_timeout_spares_who_is_not_idle(cluster: Cluster) -> None:
    """A running statement and an open transaction are not ended by idle_session_timeout."""
    session = cluster.session()
    then = cluster.since()
    session.query(f"set idle_session_timeout = {SHORT}; {SLEEP}; begin")
    expect_silence(cluster, session)
    session.query(f"commit; {SLEEP}")
    expect_timed_out(cluster, session, IDLE_SESSION, then)


@claim("TO-05", source=MAIN, needs=SLEEPS)
def test_no_timeout_is_left_when_it_is_taken_back(cluster: Cluster) -> None:
    """A timeout that was armed and then set to 0 ends nothing any more."""
    with cluster.session() as session:
        armed = f"set idle_session_timeout = {LONG_ENOUGH}"
        send_together(session, armed, "set idle_session_timeout = 0")
        session.result()
        session.result()
        session.expect_silence(LONGER_THAN_THAT_S)
        assert session.query("select 1") == [("1",)]


@claim("TO-05", source=MAIN, needs=SLEEPS)
def test_message_stops_the_clock_of_an_idle_session(cluster: Cluster) -> None:
    """The clock that runs while a session is idle stops at the next statement."""
    with cluster.session() as session:
        armed = f"set idle_session_timeout = {LONG_ENOUGH}"
        sleeps = f"select pg_sleep({LONGER_THAN_THAT_S}); set idle_session_timeout = 0"
        send_together(session, armed, sleeps)
        session.result()
        assert len(session.result()) == 1


# idle_in_transaction_session_timeout.


@claim("TO-04", source=MAIN)
@pytest.mark.parametrize("transaction", ["good", "failed"])
def test_idle_in_transaction_timeout_ends_a_waiting_transaction(
    cluster: Cluster, transaction: str
) -> None:
    """A session that waits inside of a transaction, good or failed, ends with FATAL 25P03."""
    session = cluster.session()
    then = cluster.since()
    session.query(f"set idle_in_transaction_session_timeout = {SHORT}")
    begin(session, transaction)
    expect_timed_out(cluster, session, IDLE_IN_TRANSACTION, then)


@claim("TO-04", source=MAIN, needs=SLEEPS)
def test_idle_in_transaction_timeout_spares_who_does_not_wait(cluster: Cluster) -> None:
    """An idle session, and a statement inside of a transaction, are not ended by it."""
    session = cluster.session()
    then = cluster.since()
    session.query(f"set idle_in_transaction_session_timeout = {SHORT}")
    expect_silence(cluster, session)
    session.query(f"begin; {SLEEP}")
    expect_timed_out(cluster, session, IDLE_IN_TRANSACTION, then)


@claim("TO-04", source=MAIN, needs=SLEEPS)
@pytest.mark.parametrize("transaction", ["good", "failed"])
def test_message_stops_the_clock_of_a_waiting_transaction(
    cluster: Cluster, transaction: str
) -> None:
    """The clock that runs while a transaction waits stops at the next statement."""
    with cluster.session() as session:
        session.query(f"set idle_in_transaction_session_timeout = {LONG_ENOUGH}")
        armed = "begin" if transaction == "good" else "begin; show does_not_exist"
        send_together(session, armed, f"rollback; select pg_sleep({LONGER_THAN_THAT_S})")
        with contextlib.suppress(ServerError):
            session.result()
        session.result()
        assert session.query("select 1") == [("1",)]


# transaction_timeout.

SINCE_17 = "there is no transaction_timeout before"
TRANSACTIONS = {
    "waiting": "begin",
    "running": "begin; select pg_sleep(60)",
    "alone": "select pg_sleep(60)",
}
"""What a session does in a transaction that takes too long."""


@claim("TO-06", source=INTERRUPTS, needs=SLEEPS, since=17, why=SINCE_17)
@pytest.mark.parametrize("state", TRANSACTIONS)
def test_transaction_timeout_ends_the_session(cluster: Cluster, state: str) -> None:
    """A transaction that takes too long ends its session with FATAL 25P04, whatever it does."""
    session = cluster.session()
    then = cluster.since()
    # All at once, for each transaction may be too long, that of the setting too.
    send_together(session, "set transaction_timeout = '500ms'", TRANSACTIONS[state])
    expect_timed_out(cluster, session, TRANSACTION, then)


@claim(
    "TO-06",
    source="access/transam/xact.c: CommitTransaction()",
    needs=SLEEPS,
    since=17,
    why=SINCE_17,
)
def test_transaction_timeout_ends_with_its_transaction(cluster: Cluster) -> None:
    """Transactions that are short enough one by one do not add up, nor does idle time count."""
    with cluster.session() as session:
        session.query("set transaction_timeout = '3500ms'")
        for _ in range(4):
            session.query("begin; select pg_sleep(1); commit")
        session.expect_silence(0.6)
        assert session.query("select 1") == [("1",)]


@claim("TO-04", "TO-06", source=MAIN, since=17, why=SINCE_17)
@pytest.mark.parametrize("transaction", ["good", "failed"])
def test_shorter_timeout_ends_a_waiting_transaction(cluster: Cluster, transaction: str) -> None:
    """idle_in_transaction_session_timeout counts if transaction_timeout is longer."""
    session = cluster.session()
    then = cluster.since()
    session.query("set idle_in_transaction_session_timeout = 300")
    session.query("set transaction_timeout = 60000")
    begin(session, transaction)
    expect_timed_out(cluster, session, IDLE_IN_TRANSACTION, then)


@claim("TO-04", "TO-06", source=MAIN, since=17, why=SINCE_17)
def test_failed_transaction_has_no_timeout_if_transaction_timeout_is_shorter(
    cluster: Cluster,
) -> None:
    """What failed is no longer timed, and the longer idle timeout has not been armed either."""
    with cluster.session() as session:
        session.query("set idle_in_transaction_session_timeout = 2500")
        session.query("set transaction_timeout = 2000")
        begin(session, "failed")
        session.expect_silence(2.8)
        session.query("rollback")
        assert session.query("select 1") == [("1",)]


# client_connection_check_interval.

CHECKED = "set client_connection_check_interval = '50ms'"
LOST = "connection to client lost"


@claim("TO-07", "SE-45", source=INTERRUPTS, needs=SLEEPS)
def test_checked_session_notices_that_its_client_has_gone(cluster: Cluster) -> None:
    """With client_connection_check_interval a busy session whose client goes ends with 1."""
    session = cluster.session()
    session.query(CHECKED)
    before = cluster.since()
    child = session.child
    session.send_query("select pg_sleep(60)")
    # Not only the first check counts.
    session.expect_silence(BUSY_INTERVAL_S)
    session.disconnect()
    record = before.expect_log(f"^{LOST}$")
    assert (record.pid, record.level) == (child.pid, "FATAL")
    cluster.expect_death(child)
    before.expect_undisturbed(gone=[child])
    line = exited_line(cluster, child, 1)
    cluster.wait_for(f"the line {line!r}", lambda: line in [r.message for r in before.log()])


@claim("TO-07", source=INTERRUPTS, needs=SLEEPS)
def test_checked_session_with_a_client_goes_on(cluster: Cluster) -> None:
    """Checks do not disturb a statement whose client is there, nor an idle session."""
    with cluster.session() as session:
        then = cluster.since()
        session.query(CHECKED)
        assert len(session.query(SLEEP)) == 1
        expect_silence(cluster, session)
        session.query("begin")
        assert len(session.query(SLEEP)) == 1
        session.query("commit")
        then.expect_no_log(LOST)


@claim("SE-45", source="be-secure.c: secure_write()", needs=SLEEPS)
def test_unchecked_session_finishes_without_its_client(cluster: Cluster) -> None:
    """Without the checks a session notices only at its result that its client has gone."""
    session = cluster.session()
    before = cluster.since()
    child = session.child
    session.send_query(SLEEP)
    session.disconnect()
    cluster.expect_death(child)
    line = exited_line(cluster, child, 1)
    cluster.wait_for(f"the line {line!r}", lambda: line in [r.message for r in before.log()])
    told = [r for r in before.log() if r.pid == child.pid and r.level != "DEBUG"]
    assert [r.message for r in told] == ["could not send data to client: Broken pipe", LOST]
    before.expect_undisturbed(gone=[child])
