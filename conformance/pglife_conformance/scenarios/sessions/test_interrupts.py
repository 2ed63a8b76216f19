"""Signals and timeouts interrupt a session that waits for a lock, for COPY data or for its client.

Source: tcop/postgres.c: ProcessInterrupts(), ProcessClientReadInterrupt(),
ProcessClientWriteInterrupt(), SocketBackend(), PostgresMain().
"""

import signal
import time

import pytest

from pglife_conformance.base.ids import Pid
from pglife_conformance.base.needs import Need
from pglife_conformance.base.refusals import (
    ADMIN_SHUTDOWN,
    QUERY_CANCELED,
    TERMINATED_BY_ADMINISTRATOR,
)
from pglife_conformance.cluster.client import Ending, Tag
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import ServerError, Session
from pglife_conformance.expect.since import Since
from pglife_conformance.hold.pin import Pin
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.support.signals import each_signal

MAIN = "tcop/postgres.c: PostgresMain()"
INTERRUPTS = "tcop/postgres.c: ProcessInterrupts()"
READS = "tcop/postgres.c: ProcessClientReadInterrupt()"
WRITES = "tcop/postgres.c: ProcessClientWriteInterrupt()"
SOCKET = "tcop/postgres.c: SocketBackend()"
SQL = [Need.FULL_SQL]
LOCK_NOT_AVAILABLE = "55P03"
PROTOCOL_VIOLATION = "08P01"


def expect_exit_line(cluster: Cluster, pid: Pid | None, code: int, since: Since) -> None:
    """The postmaster logs the exit code of a session (RP-02)."""
    record = since.expect_log(f"PID {pid}[)] exited with exit code ")
    assert record.message.endswith(f"exited with exit code {code}")


# Locks.


@claim("TO-03 TO-13", source=INTERRUPTS, needs=SQL)
@pytest.mark.parametrize(
    ("lock_ms", "statement_ms", "sqlstate", "what"),
    [
        (100, 0, LOCK_NOT_AVAILABLE, "lock timeout"),
        (100, 60000, LOCK_NOT_AVAILABLE, "lock timeout"),
        (60000, 400, QUERY_CANCELED, "statement timeout"),
    ],
    ids=["alone", "lock-first", "statement-first"],
)
def test_first_timeout_cancels_a_wait_for_a_lock(
    cluster: Cluster, lock_ms: int, statement_ms: int, sqlstate: str, what: str
) -> None:
    """The first timeout that fires cancels a wait for a lock, and the session continues."""
    with cluster.session() as holder, cluster.session() as waiter:
        holder.query("create table held()")
        holder.query("begin; lock table held")
        # One message: the error rolls the settings back, so that later statements have no limit.
        limits = f"set lock_timeout = {lock_ms}; set statement_timeout = {statement_ms}"
        with pytest.raises(ServerError) as raised:
            waiter.query(f"{limits}; select count(*) from held")
        assert raised.value.sqlstate == sqlstate
        assert raised.value.answer.message == f"canceling statement due to {what}"
        holder.query("commit")
        assert waiter.query("select count(*) from held") == [("0",)]


@claim("SE-20 SE-31", source=INTERRUPTS, needs=SQL)
@each_signal(signal.SIGINT, signal.SIGTERM)
def test_signals_end_a_wait_for_a_lock(cluster: Cluster, number: signal.Signals) -> None:
    """SIGINT cancels a wait for a lock. SIGTERM ends the waiting session. No other
    process exits."""
    with cluster.session() as holder:
        holder.query("create table held()")
        holder.query("begin; lock table held")
        waiter = cluster.session()
        before = cluster.since()
        waiter.send_query("select count(*) from held")
        cluster.expect_idle(waiter)
        child = cluster.signal_child(waiter.child, number)
        if number is signal.SIGINT:
            with pytest.raises(ServerError) as raised:
                waiter.result()
            assert raised.value.sqlstate == QUERY_CANCELED
            waiter.close()
        else:
            final = waiter.expect_final_message()
            assert final is not None
            assert (final.severity, final.sqlstate) == ("FATAL", ADMIN_SHUTDOWN)
        cluster.expect_death(child)
        holder.query("commit")
        before.expect_undisturbed(gone=[child])


# COPY, and clients that do not read.


def copying(cluster: Cluster) -> Session:
    """Open a session that waits for the data of a COPY."""
    session = cluster.session()
    session.query("create table copied(a text)")
    session.send_query("copy copied from stdin")
    answer = session.receive()
    assert answer is not None
    cluster.expect_idle(session)
    return session


@claim("SE-20 SE-40", source=READS, needs=SQL)
def test_term_ends_a_copy_that_waits_for_data(cluster: Cluster) -> None:
    """SIGTERM ends a session that waits for COPY data, with FATAL 57P01 and exit code 1."""
    session = copying(cluster)
    then = cluster.since()
    cluster.signal_child(session.child, signal.SIGTERM)
    final = session.expect_final_message()
    assert final is not None
    assert (final.severity, final.sqlstate, final.message) == (
        "FATAL",
        ADMIN_SHUTDOWN,
        TERMINATED_BY_ADMINISTRATOR,
    )
    expect_exit_line(cluster, session.backend_pid, 1, then)


@claim("SE-31 SE-40", source=READS, needs=SQL)
def test_copy_is_canceled_when_data_arrives(cluster: Cluster) -> None:
    """SIGINT does not interrupt a COPY that waits for data; it cancels it when data arrives."""
    with copying(cluster) as session:
        cluster.signal_child(session.child, signal.SIGINT)
        cluster.expect_idle(session)
        assert session.is_silent()
        session.client.send_message(b"d", b"something\n")
        session.client.send_message(b"c")
        with pytest.raises(ServerError) as raised:
            session.result()
        assert raised.value.sqlstate == QUERY_CANCELED
        assert session.query("select count(*) from copied") == [("0",)]


@claim("SE-41", source=WRITES, needs=SQL)
def test_term_ends_a_write_to_a_client_that_does_not_read(cluster: Cluster) -> None:
    """SIGTERM ends a session whose client does not read: exit code 1, no message to the client."""
    session = cluster.session()
    before = cluster.since()
    child = session.child
    session.send_query("select repeat('x', 8000) from generate_series(1, 10000)")
    session.expect_answer()
    cluster.expect_idle(session)
    cluster.end_child(child, signal.SIGTERM)
    expect_exit_line(cluster, child.pid, 1, before)
    records = [r for r in before.log() if r.pid == child.pid and r.level != "DEBUG"]
    assert [(r.level, r.message) for r in records] == [("FATAL", TERMINATED_BY_ADMINISTRATOR)]
    received = session.client.receive_rest()
    assert TERMINATED_BY_ADMINISTRATOR.encode() not in received
    before.expect_undisturbed(gone=[child])
    cluster.expect_complete()


@claim("SE-31 SE-41", source=WRITES, needs=SQL)
def test_cancel_does_not_interrupt_a_write(cluster: Cluster) -> None:
    """SIGINT does not interrupt a write to the client; it cancels the statement after the write."""
    with cluster.session() as session:
        session.send_query("select repeat('x', 8000) from generate_series(1, 10000)")
        session.expect_answer()
        cluster.expect_idle(session)
        cluster.signal_child(session.child, signal.SIGINT)
        with pytest.raises(ServerError) as raised:
            session.result()
        assert raised.value.sqlstate == QUERY_CANCELED
        assert session.query("select 1") == [("1",)]


# Clients that disconnect, and messages that are invalid.


@claim("SE-44 SE-47", source=SOCKET)
@pytest.mark.parametrize("ending", ["terminate", "hang up", "hang up in a transaction"])
def test_session_whose_client_disconnects_exits_0(cluster: Cluster, ending: str) -> None:
    """A session exits with 0 when its client disconnects, with or without Terminate. It logs a line
    only if a transaction was open."""
    session = cluster.session()
    if "transaction" in ending:
        session.query("begin")
    before = cluster.since()
    child = session.child
    if ending == "terminate":
        session.close()
    else:
        session.disconnect()
    cluster.expect_death(child)
    expect_exit_line(cluster, child.pid, 0, before)
    records = [r for r in before.log() if r.pid == child.pid and r.level != "DEBUG"]
    text = "unexpected EOF on client connection with an open transaction"
    assert [(r.level, r.message) for r in records] == (
        [("LOG", text)] if "transaction" in ending else []
    )
    before.expect_undisturbed(gone=[child])


@claim("SE-47", source=SOCKET)
def test_message_of_an_unknown_type_ends_a_session(cluster: Cluster) -> None:
    """An unknown message type ends the session with FATAL 08P01 and exit code 1, and no other
    process."""
    session = cluster.session()
    before = cluster.since()
    child = session.child
    session.client.send_message(b"?")
    final = session.expect_final_message()
    assert final is not None
    assert (final.severity, final.sqlstate, final.message) == (
        "FATAL",
        PROTOCOL_VIOLATION,
        "invalid frontend message type 63",
    )
    cluster.expect_death(child)
    expect_exit_line(cluster, child.pid, 1, before)
    before.expect_undisturbed(gone=[child])


@claim("SE-09 SE-47", source=SOCKET, needs=[Need.EXTENDED_QUERY])
def test_after_an_error_messages_are_skipped_until_sync(cluster: Cluster) -> None:
    """After an error in the extended protocol the session obeys only Sync and Terminate."""
    session = cluster.session()
    then = cluster.since()
    child = session.child
    client = session.client
    nothing = b"\0\0"
    client.send_message(b"P", b"\0select nothing_of_that_name" + b"\0" + nothing)
    error = session.receive()
    assert error is not None
    assert error.tag is Tag.ERROR
    client.send_message(b"P", b"\0select 1\0" + nothing)
    client.send_message(b"H")
    cluster.expect_idle(session)
    assert session.is_silent()
    client.send_message(b"S")
    answer = session.receive()
    assert answer is not None
    assert answer.tag is Tag.READY_FOR_QUERY
    cluster.expect_idle(session)
    assert session.is_silent()
    client.send_message(b"P", b"\0select nothing_of_that_name" + b"\0" + nothing)
    assert session.receive() is not None
    client.send_terminate()
    assert session.expect_end() == []
    assert session.ending is Ending.END_OF_FILE
    cluster.expect_death(child)
    expect_exit_line(cluster, child.pid, 0, then)


@claim("SG-28", source="tcop/postgres.c: PostgresMain()", needs=SQL)
def test_session_reaps_the_program_of_a_copy(cluster: Cluster) -> None:
    """A session does not ignore SIGCHLD: it reports the exit code of a program that COPY ran."""
    with cluster.session() as session:
        session.query("copy (select 1) to program 'cat > /dev/null'")
        with pytest.raises(ServerError) as raised:
            session.query("copy (select 1) to program 'cat > /dev/null; exit 3'")
        assert raised.value.answer.detail == "child process exited with exit code 3"


# Notifications, reloads, statistics, barriers.


@claim("PG-32", source="procsignal.c: procsignal_sigusr1_handler()", needs=SQL)
def test_idle_session_receives_notifications_at_once(cluster: Cluster) -> None:
    """An idle listener receives NOTIFY at once, one in a transaction after its commit."""
    with cluster.session() as listener, cluster.session() as other:
        listener.query("listen news")
        other.query("notify news, 'first'")
        listener.expect_answer()
        notification = listener.receive()
        assert notification is not None
        assert b"news\0first\0" in notification.body
        listener.query("begin")
        other.query("notify news, 'second'")
        cluster.expect_idle(listener)
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
    """A session that is idle during a reload uses the new settings from its next message on."""
    with cluster.session() as session:
        assert session.query("show work_mem") == [("4MB",)]
        cluster.reload(work_mem="5MB")
        session.expect_rows("show work_mem", [("5MB",)])


@claim("SE-20 SE-44", source="tcop/postgres.c: die()", needs=SQL)
def test_statistics_count_how_sessions_ended(cluster: Cluster) -> None:
    """pg_stat_database counts sessions that were killed, abandoned or ended by a FATAL error."""
    ends = ("sessions_killed", "sessions_abandoned", "sessions_fatal")
    killed, abandoned, timed_out, well = (cluster.session() for _ in range(4))
    cluster.signal_child(killed.child, signal.SIGTERM)
    abandoned.disconnect()
    timed_out.query("set idle_session_timeout = 50")
    well.close()
    gone = {one.backend_pid for one in (killed, abandoned, timed_out, well)}
    cluster.wait_for(
        "the exits of all four sessions", lambda: not gone & {kid.pid for kid in cluster.children()}
    )
    with cluster.session() as session:
        asked = f"select {', '.join(ends)} from pg_stat_database where datname = 'postgres'"
        session.expect_rows(asked, [("1", "1", "1")])


@claim("SE-49", source="tcop/postgres.c: log_disconnections()", needs=SQL)
@settings(log_disconnections="on")
def test_disconnections_may_be_logged(cluster: Cluster) -> None:
    """With log_disconnections each session logs its end; a background process does not."""
    session = cluster.session()
    then = cluster.since()
    pid = session.backend_pid
    session.close()
    record = then.expect_log("^disconnection: session time: ")
    assert (record.pid, record.level) == (pid, "LOG")
    assert " user=postgres database=postgres host=[local]" in record.message
    cluster.end_child("walwriter", signal.SIGTERM)
    cluster.stop()
    assert len(cluster.log(matching="^disconnection: ")) == 1


@claim(
    "PG-32",
    source="procsignal.c: WaitForProcSignalBarrier()",
    needs=[Need.FULL_SQL, Need.OS_SIGNALS],
)
def test_wait_for_a_barrier_names_the_late_process(cluster: Cluster) -> None:
    """A statement that needs a ProcSignalBarrier waits for each process. After five seconds it logs
    the PID of a late one. It finishes when that process accepts the barrier."""
    with cluster.session() as session, cluster.session() as late:
        session.query("create database one")
        then = cluster.since()
        with Pin(cluster, late.child):
            began = time.monotonic()
            session.send_query("drop database one")
            text = (
                f"still waiting for backend with PID {late.backend_pid} to accept ProcSignalBarrier"
            )
            record = then.expect_log(f"^{text}$")
            assert time.monotonic() - began >= 5
            assert (record.pid, record.level) == (session.backend_pid, "LOG")
            assert session.is_silent()
        assert session.result() == []
        assert late.query("select 1") == [("1",)]
