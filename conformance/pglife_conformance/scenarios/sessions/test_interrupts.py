"""Sessions that are interrupted in unusual moments: waiting for a lock, copying, writing to a
client that does not read, between messages.

Source       rules SE-20, SE-31, SE-40, SE-41, SE-44, SE-47, TO-03, TO-13, PG-32;
             tcop/postgres.c: ProcessInterrupts(), ProcessClientReadInterrupt(),
             ProcessClientWriteInterrupt(), SocketBackend(), PostgresMain().
"""

from __future__ import annotations

import signal
import time

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.base.refusals import (
    ADMIN_SHUTDOWN,
    QUERY_CANCELED,
    TERMINATED_BY_ADMINISTRATOR,
)
from pglife_conformance.cluster.client import Ending, Tag
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import ServerError, Session
from pglife_conformance.events import FAST
from pglife_conformance.expect.since import Since
from pglife_conformance.hold.pin import Pin
from pglife_conformance.pytest.claims import claim, settings

MAIN = "tcop/postgres.c: PostgresMain()"
INTERRUPTS = "tcop/postgres.c: ProcessInterrupts()"
READS = "tcop/postgres.c: ProcessClientReadInterrupt()"
WRITES = "tcop/postgres.c: ProcessClientWriteInterrupt()"
SOCKET = "tcop/postgres.c: SocketBackend()"
SQL = [Need.FULL_SQL]
LOCK_NOT_AVAILABLE = "55P03"
PROTOCOL_VIOLATION = "08P01"


def expect_exit_line(cluster: Cluster, pid: int | None, code: int, since: Since) -> None:
    """The postmaster tells the exit of a session (RP-02)."""
    record = since.expect_log(f"PID {pid}[)] exited with exit code ")
    assert record.message.endswith(f"exited with exit code {code}")


def rests(cluster: Cluster, session: Session) -> None:
    """Its process sleeps."""
    cluster.expect_idle(session)


# Locks.


@claim("TO-03", "TO-13", source=INTERRUPTS, needs=SQL)
@pytest.mark.parametrize(
    ("lock_ms", "statement_ms", "sqlstate", "what"),
    [
        (100, 0, LOCK_NOT_AVAILABLE, "lock timeout"),
        (100, 60000, LOCK_NOT_AVAILABLE, "lock timeout"),
        (60000, 400, QUERY_CANCELED, "statement timeout"),
    ],
    ids=["alone", "lock-first", "statement-first"],
)
def test_timeouts_of_who_waits_for_a_lock(
    cluster: Cluster, lock_ms: int, statement_ms: int, sqlstate: str, what: str
) -> None:
    """Who waits for a lock is told of the timeout that was the first, and can go on."""
    with cluster.session() as holder, cluster.session() as waiter:
        holder.query("create table held()")
        holder.query("begin; lock table held")
        # In one message, so that the error takes the settings back: what follows is not limited.
        limits = f"set lock_timeout = {lock_ms}; set statement_timeout = {statement_ms}"
        with pytest.raises(ServerError) as told:
            waiter.query(f"{limits}; select count(*) from held")
        assert told.value.sqlstate == sqlstate
        assert told.value.answer.message == f"canceling statement due to {what}"
        holder.query("commit")
        assert waiter.query("select count(*) from held") == [("0",)]


@claim("SE-20", "SE-31", source=INTERRUPTS, needs=SQL)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_who_waits_for_a_lock_hears_signals(cluster: Cluster, number: signal.Signals) -> None:
    """INT cancels a wait for a lock, TERM ends the session that waits; the lock is not touched."""
    with cluster.session() as holder:
        holder.query("create table held()")
        holder.query("begin; lock table held")
        waiter = cluster.session()
        before = cluster.since()
        waiter.send_query("select count(*) from held")
        rests(cluster, waiter)
        child = cluster.signal_child(waiter.child, number)
        if number is signal.SIGINT:
            with pytest.raises(ServerError) as told:
                waiter.result()
            assert told.value.sqlstate == QUERY_CANCELED
            waiter.close()
        else:
            farewell = waiter.expect_final_message()
            assert farewell is not None
            assert (farewell.severity, farewell.sqlstate) == ("FATAL", ADMIN_SHUTDOWN)
        cluster.expect_death(child)
        holder.query("commit")
        before.expect_undisturbed(gone=[child])


# In the middle of a conversation.


def copying(cluster: Cluster) -> Session:
    """A session that waits for data of a COPY."""
    session = cluster.session()
    session.query("create table copied(a text)")
    session.send_query("copy copied from stdin")
    answer = session.receive()
    assert answer is not None
    rests(cluster, session)
    return session


@claim("SE-20", "SE-40", source=READS, needs=SQL)
def test_term_ends_a_copy_that_waits_for_data(cluster: Cluster) -> None:
    """TERM ends a session that waits for the data of a COPY, with FATAL 57P01 and exit 1."""
    session = copying(cluster)
    then = cluster.since()
    cluster.signal_child(session.child, signal.SIGTERM)
    farewell = session.expect_final_message()
    assert farewell is not None
    assert (farewell.severity, farewell.sqlstate, farewell.message) == (
        "FATAL",
        ADMIN_SHUTDOWN,
        TERMINATED_BY_ADMINISTRATOR,
    )
    expect_exit_line(cluster, session.backend_pid, 1, then)


@claim("SE-31", "SE-40", source=READS, needs=SQL)
def test_cancel_of_a_copy_waits_for_data(cluster: Cluster) -> None:
    """INT is not heard while a COPY waits for data, and cancels it as soon as some has come."""
    with copying(cluster) as session:
        cluster.signal_child(session.child, signal.SIGINT)
        rests(cluster, session)
        assert session.is_silent()
        session.client.send_message(b"d", b"something\n")
        session.client.send_message(b"c")
        with pytest.raises(ServerError) as told:
            session.result()
        assert told.value.sqlstate == QUERY_CANCELED
        assert session.query("select count(*) from copied") == [("0",)]


@claim("SE-41", source=WRITES, needs=SQL)
def test_term_breaks_off_a_write_to_a_client_that_does_not_read(cluster: Cluster) -> None:
    """TERM ends a session whose client does not read: exit 1, and no message after broken ones."""
    session = cluster.session()
    before = cluster.since()
    child = session.child
    session.send_query("select repeat('x', 8000) from generate_series(1, 10000)")
    session.expect_answer()
    rests(cluster, session)
    cluster.signal_child(child, signal.SIGTERM)
    cluster.expect_death(child)
    expect_exit_line(cluster, child.pid, 1, before)
    told = [r for r in before.log() if r.pid == child.pid and r.level != "DEBUG"]
    assert [(r.level, r.message) for r in told] == [("FATAL", TERMINATED_BY_ADMINISTRATOR)]
    said = session.client.receive_rest()
    assert TERMINATED_BY_ADMINISTRATOR.encode() not in said
    before.expect_undisturbed(gone=[child])
    cluster.expect_complete()


@claim("SE-31", "SE-41", source=WRITES, needs=SQL)
def test_cancel_does_not_break_off_a_write(cluster: Cluster) -> None:
    """INT to a session whose client does not read cancels after what was being written."""
    with cluster.session() as session:
        session.send_query("select repeat('x', 8000) from generate_series(1, 10000)")
        session.expect_answer()
        rests(cluster, session)
        cluster.signal_child(session.child, signal.SIGINT)
        with pytest.raises(ServerError) as told:
            session.result()
        assert told.value.sqlstate == QUERY_CANCELED
        assert session.query("select 1") == [("1",)]


# Clients that go, and what they leave undone.


@claim("SE-44", "SE-47", source=SOCKET)
@pytest.mark.parametrize("farewell", ["terminate", "hang up", "hang up in a transaction"])
def test_session_whose_client_leaves_exits_0(cluster: Cluster, farewell: str) -> None:
    """Whether it says goodbye or not: exit 0; only an open transaction is worth a line."""
    session = cluster.session()
    if "transaction" in farewell:
        session.query("begin")
    before = cluster.since()
    child = session.child
    if farewell == "terminate":
        session.close()
    else:
        session.disconnect()
    cluster.expect_death(child)
    expect_exit_line(cluster, child.pid, 0, before)
    told = [r for r in before.log() if r.pid == child.pid and r.level != "DEBUG"]
    text = "unexpected EOF on client connection with an open transaction"
    assert [(r.level, r.message) for r in told] == (
        [("LOG", text)] if "transaction" in farewell else []
    )
    before.expect_undisturbed(gone=[child])


@claim("SE-47", source=SOCKET)
def test_message_of_no_known_type_ends_a_session(cluster: Cluster) -> None:
    """A message type that does not exist: FATAL 08P01 and exit 1, and nobody else notices."""
    session = cluster.session()
    before = cluster.since()
    child = session.child
    session.client.send_message(b"?")
    told = session.expect_final_message()
    assert told is not None
    assert (told.severity, told.sqlstate, told.message) == (
        "FATAL",
        PROTOCOL_VIOLATION,
        "invalid frontend message type 63",
    )
    cluster.expect_death(child)
    expect_exit_line(cluster, child.pid, 1, before)
    before.expect_undisturbed(gone=[child])


@claim("SE-09", "SE-47", source=SOCKET, needs=[Need.EXTENDED_QUERY])
def test_after_an_error_messages_are_skipped_until_sync(cluster: Cluster) -> None:
    """After an error in the extended protocol only Sync and Terminate are heard."""
    session = cluster.session()
    then = cluster.since()
    child = session.child
    client = session.client
    nothing = b"\0\0"
    client.send_message(b"P", b"\0select nothing_of_that_name" + b"\0" + nothing)
    told = session.receive()
    assert told is not None
    assert told.tag is Tag.ERROR
    client.send_message(b"P", b"\0select 1\0" + nothing)
    client.send_message(b"H")
    rests(cluster, session)
    assert session.is_silent()
    client.send_message(b"S")
    answer = session.receive()
    assert answer is not None
    assert answer.tag is Tag.READY_FOR_QUERY
    rests(cluster, session)
    assert session.is_silent()
    client.send_message(b"P", b"\0select nothing_of_that_name" + b"\0" + nothing)
    assert session.receive() is not None
    client.send_terminate()
    assert session.expect_end() == []
    assert session.ending is Ending.END_OF_FILE
    cluster.expect_death(child)
    expect_exit_line(cluster, child.pid, 0, then)


@claim("SG-28", source="tcop/postgres.c: PostgresMain()", needs=SQL)
def test_session_may_run_programs(cluster: Cluster) -> None:
    """CHLD is not ignored by a session: it hears how a program that it has run ended."""
    with cluster.session() as session:
        session.query("copy (select 1) to program 'cat > /dev/null'")
        with pytest.raises(ServerError) as told:
            session.query("copy (select 1) to program 'cat > /dev/null; exit 3'")
        assert told.value.answer.detail == "child process exited with exit code 3"


# Told by others.


@claim("PG-32", source="procsignal.c: procsignal_sigusr1_handler()", needs=SQL)
def test_idle_session_hears_notifications_at_once(cluster: Cluster) -> None:
    """NOTIFY reaches an idle listener by itself, and one in a transaction at its end."""
    with cluster.session() as listener, cluster.session() as other:
        listener.query("listen news")
        other.query("notify news, 'first'")
        listener.expect_answer()
        told = listener.receive()
        assert told is not None
        assert b"news\0first\0" in told.body
        listener.query("begin")
        other.query("notify news, 'second'")
        rests(cluster, listener)
        assert listener.is_silent()
        listener.send_query("commit")
        bodies = []
        while True:
            message = listener.receive()
            assert message is not None
            if message.tag is Tag.READY_FOR_QUERY:
                break
            bodies.append(message.body)
        assert any(b"news\0second\0" in body for body in bodies)


@claim("SG-28", source=MAIN, needs=SQL)
def test_reload_reaches_an_idle_session(cluster: Cluster) -> None:
    """A session that was idle at a reload obeys the new settings from its next message on."""
    with cluster.session() as session:
        assert session.query("show work_mem") == [("4MB",)]
        cluster.reload(work_mem="5MB")
        session.expect_rows("show work_mem", [("5MB",)])


@claim("SE-20", "SE-44", source="tcop/postgres.c: die()", needs=SQL)
def test_statistics_tell_how_sessions_ended(cluster: Cluster) -> None:
    """pg_stat_database counts sessions that were killed, abandoned, or ended by a FATAL."""
    ends = ("sessions_killed", "sessions_abandoned", "sessions_fatal")
    killed, abandoned, timed_out, well = (cluster.session() for _ in range(4))
    cluster.signal_child(killed.child, signal.SIGTERM)
    abandoned.disconnect()
    timed_out.query("set idle_session_timeout = 50")
    well.close()
    gone = {one.backend_pid for one in (killed, abandoned, timed_out, well)}
    cluster.wait_for("their ends", lambda: not gone & {kid.pid for kid in cluster.children()})
    with cluster.session() as session:
        asked = f"select {', '.join(ends)} from pg_stat_database where datname = 'postgres'"
        session.expect_rows(asked, [("1", "1", "1")])


@claim("SE-49", source="tcop/postgres.c: log_disconnections()", needs=SQL)
@settings(log_disconnections="on")
def test_disconnections_may_be_logged(cluster: Cluster) -> None:
    """With log_disconnections each session's end is a line; a background process has none."""
    session = cluster.session()
    then = cluster.since()
    pid = session.backend_pid
    session.close()
    told = then.expect_log("^disconnection: session time: ")
    assert (told.pid, told.level) == (pid, "LOG")
    assert " user=postgres database=postgres host=[local]" in told.message
    victim = cluster.signal_child("walwriter", signal.SIGTERM)
    cluster.expect_death(victim)
    cluster.request_shutdown(FAST)
    cluster.expect_exit(code=0)
    assert len([r for r in cluster.log() if r.message.startswith("disconnection: ")]) == 1


@claim(
    "PG-32",
    source="procsignal.c: WaitForProcSignalBarrier()",
    needs=[Need.FULL_SQL, Need.OS_SIGNALS],
)
def test_who_waits_for_everybody_says_for_whom(cluster: Cluster) -> None:
    """A statement that needs a word of each process waits for it, and names who is late after five
    seconds; with that word it is done."""
    with cluster.session() as session, cluster.session() as late:
        session.query("create database one")
        then = cluster.since()
        with Pin(cluster, late.child):
            began = time.monotonic()
            session.send_query("drop database one")
            text = (
                f"still waiting for backend with PID {late.backend_pid} to accept ProcSignalBarrier"
            )
            told = then.expect_log(f"^{text}$")
            assert time.monotonic() - began >= 5
            assert (told.pid, told.level) == (session.backend_pid, "LOG")
            assert session.is_silent()
        assert session.result() == []
        assert late.query("select 1") == [("1",)]
