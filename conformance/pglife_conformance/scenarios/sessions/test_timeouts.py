"""The timeouts of a session: when each fires, what it ends, which message the client receives.

Source: tcop/postgres.c: PostgresMain(), ProcessInterrupts(), start_xact_command().
"""

import contextlib
import struct

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.base.refusals import QUERY_CANCELED
from pglife_conformance.cluster.client import Ending
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import ServerError, Session
from pglife_conformance.events import SendQuery
from pglife_conformance.expect.since import Since
from pglife_conformance.pytest.claims import claim

MAIN = "tcop/postgres.c: PostgresMain()"
INTERRUPTS = "tcop/postgres.c: ProcessInterrupts()"
SHORT = "'100ms'"
"""A timeout that is to fire. A step that must not time out has to be shorter, even on a busy
machine: a session with this timeout gets its statements in one message."""
LONGER_S = 0.3
"""Three times SHORT: a timeout of SHORT would have fired."""
ENOUGH = "'400ms'"
"""A short statement rarely takes so long, but may, if the kernel does not run its process."""
LONG_ENOUGH = "'1500ms'"
"""A session rarely takes so long to read its next message if that message is already there."""
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
    """Begin a transaction with one message, and leave it idle, good or failed."""
    if transaction == "good":
        session.query("begin")
    else:
        with pytest.raises(ServerError):
            session.query("begin; show does_not_exist")
    assert session.client.transaction_status == ("T" if transaction == "good" else "E")


def expect_timed_out(cluster: Cluster, session: Session, sqlstate: str, since: Since) -> None:
    """The client and the log get FATAL with this SQLSTATE; the session exits with 1."""
    final = session.expect_final_message()
    assert final is not None
    assert (final.severity, final.sqlstate, final.message) == ("FATAL", sqlstate, TEXTS[sqlstate])
    assert session.ending is Ending.END_OF_FILE
    record = since.expect_log(f"^{TEXTS[sqlstate]}$")
    assert (record.pid, record.level) == (session.backend_pid, "FATAL")
    since.expect_log(f"PID {session.backend_pid}[)] exited with exit code 1$")


def send_together(session: Session, *statements: str) -> None:
    """Send each statement as its own message, all before the server reads the first."""
    packet = b""
    for sql in statements:
        session.server.watcher.stimulus(SendQuery(session.number, sql))
        body = sql.encode() + b"\0"
        packet += b"Q" + struct.pack("!i", 4 + len(body)) + body
    session.client.send_bytes(packet)


def was_in_time(session: Session, sql: str) -> bool:
    """Return whether a statement finished before statement_timeout canceled it."""
    try:
        session.query(sql)
    except ServerError as error:
        if error.answer.message != STATEMENT_TIMED_OUT:
            raise
        return False
    return True


def expect_silence(cluster: Cluster, session: Session) -> None:
    """The session sends nothing for longer than SHORT."""
    session.expect_silence(LONGER_S)


# statement_timeout.


@claim("TO-02 SE-40", source=INTERRUPTS, needs=SLEEPS)
def test_statement_timeout_cancels_the_statement_alone(cluster: Cluster) -> None:
    """statement_timeout cancels a statement with ERROR 57014; the session continues."""
    with cluster.session() as session:
        before = cluster.since()
        session.query(f"set statement_timeout = {ENOUGH}")
        for _ in range(2):
            with pytest.raises(ServerError) as raised:
                session.query("select pg_sleep(60)")
            assert raised.value.answer.severity == "ERROR"
            assert raised.value.sqlstate == QUERY_CANCELED
            assert raised.value.answer.message == STATEMENT_TIMED_OUT
        cluster.wait_for(
            "a statement that is faster than the timeout", lambda: was_in_time(session, "select 1")
        )
        before.expect_undisturbed()


@claim("TO-02", source="tcop/postgres.c: disable_statement_timeout()", needs=SLEEPS)
def test_statement_timeout_ends_with_its_statement(cluster: Cluster) -> None:
    """statement_timeout does not fire after the end of its statement."""
    with cluster.session() as session:
        session.query(f"set statement_timeout = {ENOUGH}")
        cluster.wait_for("BEGIN in time", lambda: was_in_time(session, "begin"))
        assert session.client.transaction_status == "T"
        session.expect_silence(0.6)
        assert session.client.transaction_status == "T"
        cluster.wait_for("ROLLBACK in time", lambda: was_in_time(session, "rollback"))


@claim("TO-02 SE-31", source=INTERRUPTS, needs=SLEEPS)
def test_cancel_after_a_timeout_is_reported_as_a_cancel(cluster: Cluster) -> None:
    """A cancel request is not reported as the timeout of an earlier statement."""
    with cluster.session() as session:
        session.query(f"set statement_timeout = {ENOUGH}")
        with pytest.raises(ServerError):
            session.query("select pg_sleep(60)")
        no_more = "set statement_timeout = 0"
        cluster.wait_for("statement_timeout to be 0", lambda: was_in_time(session, no_more))
        session.begin_query("select pg_sleep(60)")
        session.cancel()
        with pytest.raises(ServerError) as raised:
            session.result()
        assert raised.value.answer.message == "canceling statement due to user request"


# idle_session_timeout.


@claim("TO-05", source=INTERRUPTS)
def test_idle_session_timeout_ends_an_idle_session(cluster: Cluster) -> None:
    """idle_session_timeout ends an idle session with FATAL 57P05 and exit code 1, and no other
    process."""
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
def test_idle_session_timeout_spares_a_session_that_is_not_idle(cluster: Cluster) -> None:
    """idle_session_timeout ends neither a running statement nor an open transaction."""
    session = cluster.session()
    then = cluster.since()
    session.query(f"set idle_session_timeout = {SHORT}; {SLEEP}; begin")
    expect_silence(cluster, session)
    session.query(f"commit; {SLEEP}")
    expect_timed_out(cluster, session, IDLE_SESSION, then)


@claim("TO-05", source=MAIN, needs=SLEEPS)
def test_idle_session_timeout_of_0_disarms_it(cluster: Cluster) -> None:
    """idle_session_timeout does not fire after it is set to 0."""
    with cluster.session() as session:
        armed = f"set idle_session_timeout = {LONG_ENOUGH}"
        send_together(session, armed, "set idle_session_timeout = 0")
        session.result()
        session.result()
        session.expect_silence(LONGER_THAN_THAT_S)
        assert session.query("select 1") == [("1",)]


@claim("TO-05", source=MAIN, needs=SLEEPS)
def test_message_stops_the_timeout_of_an_idle_session(cluster: Cluster) -> None:
    """The next statement disarms idle_session_timeout."""
    with cluster.session() as session:
        armed = f"set idle_session_timeout = {LONG_ENOUGH}"
        sleeps = f"select pg_sleep({LONGER_THAN_THAT_S}); set idle_session_timeout = 0"
        send_together(session, armed, sleeps)
        session.result()
        assert len(session.result()) == 1


# idle_in_transaction_session_timeout.


@claim("TO-04", source=MAIN)
@pytest.mark.parametrize("transaction", ["good", "failed"])
def test_idle_in_transaction_timeout_ends_an_idle_transaction(
    cluster: Cluster, transaction: str
) -> None:
    """A session that is idle in a transaction, good or failed, ends with FATAL 25P03."""
    session = cluster.session()
    then = cluster.since()
    session.query(f"set idle_in_transaction_session_timeout = {SHORT}")
    begin(session, transaction)
    expect_timed_out(cluster, session, IDLE_IN_TRANSACTION, then)


@claim("TO-04", source=MAIN, needs=SLEEPS)
def test_idle_in_transaction_timeout_spares_other_sessions(cluster: Cluster) -> None:
    """idle_in_transaction_session_timeout ends neither a session without a transaction nor a
    running statement in a transaction."""
    session = cluster.session()
    then = cluster.since()
    session.query(f"set idle_in_transaction_session_timeout = {SHORT}")
    expect_silence(cluster, session)
    session.query(f"begin; {SLEEP}")
    expect_timed_out(cluster, session, IDLE_IN_TRANSACTION, then)


@claim("TO-04", source=MAIN, needs=SLEEPS)
@pytest.mark.parametrize("transaction", ["good", "failed"])
def test_message_stops_the_timeout_of_an_idle_transaction(
    cluster: Cluster, transaction: str
) -> None:
    """The next statement disarms idle_in_transaction_session_timeout."""
    with cluster.session() as session:
        session.query(f"set idle_in_transaction_session_timeout = {LONG_ENOUGH}")
        armed = "begin" if transaction == "good" else "begin; show does_not_exist"
        send_together(session, armed, f"rollback; select pg_sleep({LONGER_THAN_THAT_S})")
        with contextlib.suppress(ServerError):
            session.result()
        session.result()
        assert session.query("select 1") == [("1",)]


# transaction_timeout.

SINCE_17 = "transaction_timeout does not exist before"
TRANSACTIONS = {
    "waiting": "begin",
    "running": "begin; select pg_sleep(60)",
    "alone": "select pg_sleep(60)",
}
"""What a session runs in a transaction that exceeds transaction_timeout."""


@claim("TO-06", source=INTERRUPTS, needs=SLEEPS, since=17, why=SINCE_17)
@pytest.mark.parametrize("state", TRANSACTIONS)
def test_transaction_timeout_ends_the_session(cluster: Cluster, state: str) -> None:
    """transaction_timeout ends a session with FATAL 25P04, idle or running a statement."""
    session = cluster.session()
    then = cluster.since()
    # One packet: any transaction may exceed the timeout, also the one of the SET.
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
    """transaction_timeout limits one transaction; earlier ones and idle time do not count."""
    with cluster.session() as session:
        session.query("set transaction_timeout = '3500ms'")
        for _ in range(4):
            session.query("begin; select pg_sleep(1); commit")
        session.expect_silence(0.6)
        assert session.query("select 1") == [("1",)]


@claim("TO-04 TO-06", source=MAIN, since=17, why=SINCE_17)
@pytest.mark.parametrize("transaction", ["good", "failed"])
def test_shorter_timeout_ends_an_idle_transaction(cluster: Cluster, transaction: str) -> None:
    """idle_in_transaction_session_timeout fires if transaction_timeout is longer."""
    session = cluster.session()
    then = cluster.since()
    session.query("set idle_in_transaction_session_timeout = 300")
    session.query("set transaction_timeout = 60000")
    begin(session, transaction)
    expect_timed_out(cluster, session, IDLE_IN_TRANSACTION, then)


@claim("TO-04 TO-06", source=MAIN, since=17, why=SINCE_17)
def test_failed_transaction_has_no_timeout_if_transaction_timeout_is_shorter(
    cluster: Cluster,
) -> None:
    """A failed transaction disarms transaction_timeout, and a longer idle timeout is not armed."""
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


@claim("TO-07 SE-45", source=INTERRUPTS, needs=SLEEPS)
def test_checked_session_notices_that_its_client_disconnected(cluster: Cluster) -> None:
    """A busy session with client_connection_check_interval exits with 1 after a disconnect."""
    session = cluster.session()
    session.query(CHECKED)
    before = cluster.since()
    child = session.child
    session.send_query("select pg_sleep(60)")
    # Wait for several checks: a later one must find the disconnect.
    session.expect_silence(BUSY_INTERVAL_S)
    session.disconnect()
    record = before.expect_log(f"^{LOST}$")
    assert (record.pid, record.level) == (child.pid, "FATAL")
    cluster.expect_death(child)
    before.expect_undisturbed(gone=[child])
    before.expect_child_exit(child, code=1)


@claim("TO-07", source=INTERRUPTS, needs=SLEEPS)
def test_checks_do_not_disturb_a_connected_session(cluster: Cluster) -> None:
    """The checks disturb neither a statement whose client is connected nor an idle session."""
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
    """Without the checks a session notices the disconnect only when it sends its result."""
    session = cluster.session()
    before = cluster.since()
    child = session.child
    session.send_query(SLEEP)
    session.disconnect()
    cluster.expect_death(child)
    before.expect_child_exit(child, code=1)
    records = [r for r in before.log() if r.pid == child.pid and r.level != "DEBUG"]
    assert [r.message for r in records] == ["could not send data to client: Broken pipe", LOST]
    before.expect_undisturbed(gone=[child])
