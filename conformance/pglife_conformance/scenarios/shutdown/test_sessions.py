"""Shutdown: what sessions receive, in each of their states.

Source: rules SE-20 to SE-23, SE-46, SH-04, SH-06, SH-07, SH-19; tcop/postgres.c:
ProcessInterrupts(), quickdie().
"""

from collections.abc import Callable

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.base.refusals import (
    ADMIN_SHUTDOWN,
    TERMINATED_BY_ADMINISTRATOR,
    TERMINATED_BY_IMMEDIATE,
)
from pglife_conformance.cluster.client import Ending, Tag
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import ServerError, Session
from pglife_conformance.events import FAST, IMMEDIATE, SMART, ShutdownMode
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim
from pglife_conformance.scenarios.shutdown.test_modes import EXCERPTS, MACHINE, expect_end, names_of

INTERRUPTS = "tcop/postgres.c: ProcessInterrupts()"


def idle(cluster: Cluster) -> Session:
    """A session that waits for a statement."""
    return cluster.session()


def in_transaction(cluster: Cluster) -> Session:
    """A session that is idle in a transaction."""
    session = cluster.session()
    session.query("begin")
    assert session.client.transaction_status == "T"
    return session


def in_failed_transaction(cluster: Cluster) -> Session:
    """A session that is idle in a failed transaction."""
    session = in_transaction(cluster)
    with pytest.raises(ServerError):
        session.query("select nothing_of_that_name()")
    assert session.client.transaction_status == "E"
    return session


def busy(cluster: Cluster) -> Session:
    """A session that runs a statement of an hour."""
    session = cluster.session()
    session.begin_query("select pg_sleep(3600)")
    return session


CONDITIONS = [idle, in_transaction, in_failed_transaction, busy]
Condition = Callable[[Cluster], Session]


@claim("SE-20 SH-06 INV-78", source=INTERRUPTS, needs=[Need.SQL_FUNCTIONS])
@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda made: made.__name__)
def test_fast_shutdown_sends_fatal_to_each_session(cluster: Cluster, condition: Condition) -> None:
    """A fast shutdown ends each session with FATAL 57P01, whatever its state."""
    names = names_of(cluster)
    session = condition(cluster)
    then = cluster.since()
    cluster.request_shutdown(FAST)
    complaints = [m for m in session.expect_end() if m.tag in (Tag.ERROR, Tag.NOTICE)]
    assert len(complaints) == 1
    final = complaints[0]
    assert (final.severity, final.sqlstate, final.message, final.detail, final.hint) == (
        "FATAL",
        ADMIN_SHUTDOWN,
        TERMINATED_BY_ADMINISTRATOR,
        "",
        "",
    )
    assert session.ending is Ending.END_OF_FILE
    expect_end(cluster, then, EXCERPTS[FAST], names)
    fatal = then.log("FATAL")
    assert [(r.pid, r.message) for r in fatal] == [
        (session.backend_pid, TERMINATED_BY_ADMINISTRATOR)
    ]


@claim("SE-23 SH-07", source="tcop/postgres.c: quickdie()", needs=[Need.SQL_FUNCTIONS])
@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda made: made.__name__)
def test_immediate_shutdown_sends_at_most_a_warning(cluster: Cluster, condition: Condition) -> None:
    """An immediate shutdown sends a session WARNING 57P01 or nothing; it is not logged."""
    names = names_of(cluster)
    session = condition(cluster)
    then = cluster.since()
    cluster.request_shutdown(IMMEDIATE)
    final = session.expect_final_message()
    if final is not None:
        assert (final.severity, final.sqlstate, final.message) == (
            "WARNING",
            ADMIN_SHUTDOWN,
            TERMINATED_BY_IMMEDIATE,
        )
    expect_end(cluster, then, EXCERPTS[IMMEDIATE], names)
    assert not [r for r in then.log() if r.level in ("FATAL", "WARNING", "ERROR")]


@claim("SH-04 SE-46", source=MACHINE, needs=[Need.SQL_FUNCTIONS])
@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda made: made.__name__)
def test_smart_shutdown_sends_nothing_to_sessions(cluster: Cluster, condition: Condition) -> None:
    """A smart shutdown sends nothing to a session; a fast one after it sends FATAL 57P01."""
    names = names_of(cluster)
    session = condition(cluster)
    then = cluster.since()
    cluster.request_shutdown(SMART, logged=True)
    cluster.expect_idle()
    assert session.is_silent()
    assert then.exact_lines() == ["received smart shutdown request"]
    cluster.request_shutdown(FAST)
    final = session.expect_final_message()
    assert final is not None
    assert (final.severity, final.sqlstate) == ("FATAL", ADMIN_SHUTDOWN)
    expect_end(cluster, then, [EXCERPTS[SMART][0], *EXCERPTS[FAST]], names)


@claim("SE-22", source="backend_startup.c: BackendInitialize()")
@pytest.mark.parametrize("mode", [FAST, IMMEDIATE])
def test_silent_client_receives_nothing(cluster: Cluster, mode: ShutdownMode) -> None:
    """A client that has sent nothing is disconnected without a message or a log line."""
    names = names_of(cluster)
    client = cluster.silent_client()
    then = cluster.since()
    cluster.request_shutdown(mode)
    assert client.expect_end() == []
    expect_end(cluster, then, EXCERPTS[mode], names)
    assert not [r for r in then.log() if r.level in ("FATAL", "WARNING", "ERROR")]


@claim("SE-46 MM-33", source=MACHINE, needs=[Need.SQL_FUNCTIONS])
def test_smart_shutdown_waits_for_a_session_whose_client_disconnected(cluster: Cluster) -> None:
    """A smart shutdown waits for a running statement although its client has disconnected."""
    names = names_of(cluster)
    session = busy(cluster)
    pid = session.backend_pid
    session.disconnect()
    then = cluster.since()
    cluster.request_shutdown(SMART, logged=True)
    cluster.expect_idle()
    assert [kid.pid for kid in cluster.children(Kind.CLIENT_BACKEND)] == [pid]
    assert then.exact_lines() == ["received smart shutdown request"]
    cluster.request_shutdown(FAST)
    expect_end(cluster, then, [EXCERPTS[SMART][0], *EXCERPTS[FAST]], names)


@claim("SH-04", source=MACHINE, needs=[Need.SQL_FUNCTIONS])
def test_smart_shutdown_lets_a_statement_end(cluster: Cluster) -> None:
    """A statement that runs when a smart shutdown is requested returns its result."""
    names = names_of(cluster)
    session = cluster.session()
    session.send_query("select pg_sleep(0.2)")
    then = cluster.since()
    cluster.request_shutdown(SMART)
    assert len(session.result()) == 1
    session.close()
    expect_end(cluster, then, EXCERPTS[SMART], names)


@claim("SM-20 SM-21 SH-19", source="walsender.c: InitWalSender()", needs=[Need.WALSENDER])
@pytest.mark.parametrize("mode", [SMART, FAST])
def test_idle_walsender_is_not_waited_for(cluster: Cluster, mode: ShutdownMode) -> None:
    """No shutdown waits for a walsender that does not stream; it sends FATAL 57P01."""
    names = names_of(cluster)
    walsender = cluster.session(parameters={"replication": "true"})
    walsender.query("IDENTIFY_SYSTEM")
    then = cluster.since()
    cluster.request_shutdown(mode)
    final = walsender.expect_final_message()
    assert final is not None
    assert (final.severity, final.sqlstate, final.message) == (
        "FATAL",
        ADMIN_SHUTDOWN,
        TERMINATED_BY_ADMINISTRATOR,
    )
    expect_end(cluster, then, EXCERPTS[mode], names)


@claim("SE-27", source="walsender.c: WalSndQuickDie()", needs=[Need.WALSENDER])
def test_immediate_shutdown_sends_nothing_to_a_walsenders_client(cluster: Cluster) -> None:
    """An immediate shutdown closes a walsender's connection without a message."""
    walsender = cluster.session(parameters={"replication": "true"})
    walsender.query("IDENTIFY_SYSTEM")
    cluster.request_shutdown(IMMEDIATE)
    assert walsender.expect_end() == []
    cluster.expect_exit(code=0)
