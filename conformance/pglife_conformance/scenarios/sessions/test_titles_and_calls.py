"""Sessions: what their titles say, calls of functions, waits for a standby, ends that are waited
for.

Source       rules SE-03, SE-07, SE-08, SE-10, SE-20, SE-43, TI-32; tcop/postgres.c: PostgresMain(),
             tcop/fastpath.c: HandleFunctionRequest(), storage/ipc/signalfuncs.c,
             replication/syncrep.c: SyncRepWaitForLSN().
"""

from __future__ import annotations

import signal
import struct

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.client import Tag
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import ServerError, Session
from pglife_conformance.expect.crash import Before, expect_undisturbed
from pglife_conformance.hold.pin import Pin
from pglife_conformance.pytest.claims import claim, settings

MAIN = "tcop/postgres.c: PostgresMain()"
FAST = "tcop/fastpath.c: HandleFunctionRequest()"
WAITS = "signalfuncs.c: pg_wait_until_termination()"
SYNCHRONOUS = "syncrep.c: SyncRepWaitForLSN()"
SQL = [Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.FULL_SQL]
HEAD = "postgres: postgres postgres [local] "
QUERY_CANCELED = "57014"
ADMIN_SHUTDOWN = "57P01"
IN_FAILED_TRANSACTION = "25P02"
OUT_OF_RANGE = "22003"
UNDEFINED_OBJECT = "42704"
PG_SLEEP, INT4PL = 2626, 177
"""OIDs of functions, in pg_proc from the beginning on."""


def expect_title(cluster: Cluster, session: Session, activity: str) -> None:
    """The session's title shows this, sooner or later."""
    cluster.wait_for(
        f"the activity {activity!r}",
        lambda: session.child.title == HEAD + activity,
        describe=lambda: session.child.title,
    )


# Titles.


@claim("TI-32", "SE-03", source=MAIN, needs=[*SQL, Need.EXTENDED_QUERY])
def test_title_tells_which_message_waits_for_a_lock(cluster: Cluster) -> None:
    """A session that waits for a lock shows its command, PARSE or BIND, and that it waits."""
    holder = cluster.session()
    holder.query("create table held(a int)")
    waiter = cluster.session()
    parse = b"s\0select a from held\0\0\0"
    waiter.client.send_message(b"P", parse)
    waiter.client.send_message(b"S")
    while (answer := waiter.receive()) is not None and answer.tag is not Tag.READY_FOR_QUERY:
        assert answer.tag is Tag.PARSE_COMPLETE
    messages = {
        "SELECT": [(b"Q", b"select a from held\0")],
        "LOCK TABLE": [(b"Q", b"begin; lock table held; rollback\0")],
        "PARSE": [(b"P", b"\0select a from held\0\0\0"), (b"S", b"")],
        "BIND": [(b"B", b"\0s\0\0\0\0\0\0\0"), (b"S", b"")],
    }
    for activity, sent in messages.items():
        holder.query("begin; lock table held")
        for tag, body in sent:
            waiter.client.send_message(tag, body)
        expect_title(cluster, waiter, f"{activity} waiting")
        assert waiter.is_silent()
        holder.query("rollback")
        answers = []
        while (answer := waiter.receive()) is not None:
            answers.append(answer.tag)
            if answer.tag is Tag.READY_FOR_QUERY:
                break
        assert Tag.ERROR not in answers
        expect_title(cluster, waiter, "idle")


@claim("SE-08", source="backend_status.c: pgstat_report_activity()", needs=SQL)
def test_session_that_does_not_tell_what_it_does(cluster: Cluster) -> None:
    """With track_activities off a session is "disabled" in pg_stat_activity; its title goes on."""
    with cluster.session() as session, cluster.session() as observer:
        asked = f"select state, query from pg_stat_activity where pid = {session.backend_pid}"
        assert observer.query(asked)[0][0] == "idle"
        session.query("set track_activities = off")
        session.query("begin")
        assert observer.query(asked) == [("disabled", "")]
        expect_title(cluster, session, "idle in transaction")
        session.query("rollback; set track_activities = on")
        session.query("begin")
        assert observer.query(asked) == [("idle in transaction", "begin")]


@claim("SE-10", source=MAIN)
def test_ready_for_query_tells_of_the_transaction(cluster: Cluster) -> None:
    """ReadyForQuery says I, T or E: no transaction, one that is good, one that has failed."""
    with cluster.session() as session:
        told, errors = [session.client.transaction_status], []
        for sql in ("begin", "show does_not_exist", "select 1", "rollback", "select 1"):
            try:
                session.query(sql)
            except ServerError as error:
                errors.append(error.sqlstate)
            told.append(session.client.transaction_status)
    assert told == ["I", "T", "E", "E", "I", "I"]
    assert errors == [UNDEFINED_OBJECT, IN_FAILED_TRANSACTION]


# Functions called without a statement.


def call(session: Session, oid: int, *arguments: bytes) -> None:
    """Send a FunctionCall, all in text."""
    values = b"".join(struct.pack("!I", len(value)) + value for value in arguments)
    session.client.send_message(
        b"F", struct.pack("!IHH", oid, 0, len(arguments)) + values + b"\0\0"
    )


def called(session: Session) -> bytes | None:
    """The value that a function gave, or ServerError; the session is ready afterwards."""
    value, error = None, None
    while True:
        answer = session.receive()
        assert answer is not None
        if answer.tag is Tag.ERROR:
            error = answer
        elif answer.tag is Tag.OTHER:
            (length,) = struct.unpack_from("!i", answer.body)
            value = answer.body[4 : 4 + length] if length >= 0 else None
        elif answer.tag is Tag.READY_FOR_QUERY:
            if error is not None:
                raise ServerError(error)
            return value


@claim("SE-07", source=FAST, needs=SQL)
def test_function_call(cluster: Cluster) -> None:
    """A FunctionCall gives a value, is shown as such while it runs, and is refused in a failed
    transaction."""
    with cluster.session() as session, cluster.session() as observer:
        before = Before.of(cluster)
        call(session, INT4PL, b"40", b"2")
        assert called(session) == b"42"
        assert session.client.transaction_status == "I"
        call(session, PG_SLEEP, b"60")
        expect_title(cluster, session, "<FASTPATH>")
        asked = f"select state from pg_stat_activity where pid = {session.backend_pid}"
        assert observer.query(asked) == [("fastpath function call",)]
        session.cancel()
        with pytest.raises(ServerError) as told:
            called(session)
        assert told.value.sqlstate == QUERY_CANCELED
        expect_title(cluster, session, "idle")
        session.query("begin")
        call(session, INT4PL, b"1", b"1")
        assert called(session) == b"2"
        assert session.client.transaction_status == "T"
        with pytest.raises(ServerError):
            session.query("select nothing_of_that_name")
        call(session, INT4PL, b"1", b"1")
        with pytest.raises(ServerError) as told:
            called(session)
        assert told.value.sqlstate == IN_FAILED_TRANSACTION
        session.query("rollback")
        expect_undisturbed(cluster, before)


@claim("SE-07", "TO-02", source=FAST, needs=SQL)
def test_function_call_has_the_time_of_a_statement(cluster: Cluster) -> None:
    """statement_timeout ends a FunctionCall, and the session goes on."""
    with cluster.session() as session:
        session.query("set statement_timeout = '100ms'")
        call(session, PG_SLEEP, b"60")
        with pytest.raises(ServerError) as told:
            called(session)
        assert told.value.sqlstate == QUERY_CANCELED
        assert told.value.answer.message == "canceling statement due to statement timeout"
        call(session, INT4PL, b"1", b"1")
        assert called(session) == b"2"


# Ends that are waited for.


@claim("SE-43", source=WAITS, needs=SQL)
def test_termination_may_be_waited_for(cluster: Cluster) -> None:
    """pg_terminate_backend() with a timeout is true when the other has gone, and false with a
    warning when its time is up; without one it does not wait."""
    with cluster.session() as session:
        before = Before.of(cluster)
        gone = []
        for timeout in (60_000, None):
            other = cluster.session()
            child = other.child
            arguments = f"{child.pid}, {timeout}" if timeout else f"{child.pid}"
            assert session.query(f"select pg_terminate_backend({arguments})") == [("t",)]
            if timeout:
                assert child.key not in {kid.key for kid in cluster.children() if kid.is_alive}
            cluster.expect_death(child)
            gone.append(child)
        other = cluster.session()
        child = other.child
        with Pin(cluster, child):
            held = f"select pg_terminate_backend({child.pid}, 150)"
            assert session.query(held) == [("f",)]
            told = session.notices[-1]
            assert (told.severity, told.message) == (
                "WARNING",
                f"backend with PID {child.pid} did not terminate within 150 milliseconds",
            )
            assert session.query(f"select pg_terminate_backend({child.pid}, 0)") == [("t",)]
            with pytest.raises(ServerError) as refused:
                session.query(f"select pg_terminate_backend({child.pid}, -1)")
            assert refused.value.sqlstate == OUT_OF_RANGE
        cluster.expect_death(child)
        expect_undisturbed(cluster, before, gone=[*gone, child])


@claim("SE-43", source=WAITS, needs=SQL)
def test_wait_for_a_termination_can_be_broken_off(cluster: Cluster) -> None:
    """Who waits for another's end can be cancelled."""
    with cluster.session() as session:
        other = cluster.session()
        child = other.child
        with Pin(cluster, child):
            session.send_query(f"select pg_terminate_backend({child.pid}, 3600000)")
            cluster.expect_still("a wait", session.is_silent, 0.3)
            session.cancel()
            with pytest.raises(ServerError) as told:
                session.result()
            assert told.value.sqlstate == QUERY_CANCELED
        cluster.expect_death(child)


# Waits for a standby.


@claim("SE-20", "TI-32", source=SYNCHRONOUS, needs=SQL)
@settings(synchronous_standby_names="nobody")
@pytest.mark.parametrize("how", ["cancel", "term", "fast"])
def test_who_waits_for_a_standby_has_committed(cluster: Cluster, how: str) -> None:
    """A commit that no standby confirms waits, and says for what; when the wait is broken off the
    session warns that it has committed, and ends if it was told to."""
    with cluster.session() as observer:
        session = cluster.session()
        session.send_query("create table something()")
        cluster.wait_for(
            "a wait for a standby",
            lambda: session.child.title.startswith(f"{HEAD}CREATE TABLE waiting for 0/"),
            describe=lambda: session.child.title,
        )
        assert session.is_silent()
        child = session.child
        if how == "cancel":
            session.cancel()
            session.result()
            expected = "canceling wait for synchronous replication due to user request"
        else:
            if how == "term":
                cluster.signal_child(child, signal.SIGTERM)
            else:
                cluster.request_shutdown("fast")
            session.expect_end()
            expected = (
                "canceling the wait for synchronous replication and terminating connection due to "
                "administrator command"
            )
        told = session.notices[-1]
        assert (told.severity, told.message) == ("WARNING", expected)
        if how == "cancel":
            expect_title(cluster, session, "idle")
        else:
            assert told.sqlstate == ADMIN_SHUTDOWN
            cluster.expect_death(child)
        if how == "fast":
            cluster.expect_exit(code=0)
            cluster.start()
            observer = cluster.session()
        assert observer.query("select count(*) from something") == [("0",)]
