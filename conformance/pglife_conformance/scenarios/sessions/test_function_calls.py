"""FunctionCall messages."""

import struct

import pytest

from pglife_conformance.base.needs import SQL
from pglife_conformance.cluster.client import Tag
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import ServerError, Session
from pglife_conformance.pytest.claims import claim
from pglife_conformance.scenarios.support.titles import expect_title

FAST = "tcop/fastpath.c: HandleFunctionRequest()"
HEAD = "postgres: postgres postgres [local] "
QUERY_CANCELED = "57014"
IN_FAILED_TRANSACTION = "25P02"
PG_SLEEP, INT4PL = 2626, 177
"""OIDs of functions; every release has them in pg_proc."""


def call(session: Session, oid: int, *arguments: bytes) -> None:
    """Send a FunctionCall; its arguments and its result are in text format."""
    values = b"".join(struct.pack("!I", len(value)) + value for value in arguments)
    session.client.send_message(
        b"F", struct.pack("!IHH", oid, 0, len(arguments)) + values + b"\0\0"
    )


def called(session: Session) -> bytes | None:
    """Return the value of the function or raise ServerError, after ReadyForQuery."""
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
    """A FunctionCall returns a value. The title and pg_stat_activity show it while it runs. A
    failed transaction refuses it."""
    with cluster.session() as session, cluster.session() as observer:
        before = cluster.since()
        call(session, INT4PL, b"40", b"2")
        assert called(session) == b"42"
        assert session.client.transaction_status == "I"
        call(session, PG_SLEEP, b"60")
        expect_title(cluster, session, "<FASTPATH>")
        asked = f"select state from pg_stat_activity where pid = {session.backend_pid}"
        assert observer.query(asked) == [("fastpath function call",)]
        session.cancel()
        with pytest.raises(ServerError) as raised:
            called(session)
        assert raised.value.sqlstate == QUERY_CANCELED
        expect_title(cluster, session, "idle")
        session.query("begin")
        call(session, INT4PL, b"1", b"1")
        assert called(session) == b"2"
        assert session.client.transaction_status == "T"
        with pytest.raises(ServerError):
            session.query("select nothing_of_that_name")
        call(session, INT4PL, b"1", b"1")
        with pytest.raises(ServerError) as raised:
            called(session)
        assert raised.value.sqlstate == IN_FAILED_TRANSACTION
        session.query("rollback")
        before.expect_undisturbed()


@claim("SE-07 TO-02", source=FAST, needs=SQL)
def test_statement_timeout_cancels_a_function_call(cluster: Cluster) -> None:
    """statement_timeout cancels a FunctionCall, and the session continues."""
    with cluster.session() as session:
        session.query("set statement_timeout = '100ms'")
        call(session, PG_SLEEP, b"60")
        with pytest.raises(ServerError) as raised:
            called(session)
        assert raised.value.sqlstate == QUERY_CANCELED
        assert raised.value.answer.message == "canceling statement due to statement timeout"
        call(session, INT4PL, b"1", b"1")
        assert called(session) == b"2"
