"""Parse and Close messages, timeouts of one millisecond, preloaded libraries, missing databases.

Source: tcop/postgres.c: PostgresMain(); utils/init/miscinit.c: load_libraries();
utils/init/postinit.c: InitPostgres().
"""

import struct

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.client import Tag
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import Session
from pglife_conformance.pytest.claims import claim
from pglife_conformance.scenarios.sessions.test_timeouts import (
    IDLE_IN_TRANSACTION,
    IDLE_SESSION,
    MAIN,
    TRANSACTION,
    begin,
    expect_timed_out,
)

TEXT, INTEGER = 25, 23
"""OIDs in pg_type."""

# Parse.


@claim("SE-09", source=MAIN, needs=[Need.EXTENDED_QUERY])
@pytest.mark.parametrize("types", [[], [TEXT], [TEXT, INTEGER]])
def test_parse_takes_the_types_of_parameters(cluster: Cluster, types: list[int]) -> None:
    """Parse takes as many parameter types as it announces; the server infers the others."""
    announced = struct.pack(f"!H{len(types)}I", len(types), *types)
    statement = b"select $1 || 'z', $2::int4 + 1"
    with cluster.session() as session:
        session.client.send_message(b"P", b"\0" + statement + b"\0" + announced)
        values = struct.pack("!HHi1si1s", 0, 2, 1, b"a", 1, b"7")
        session.client.send_message(b"B", b"\0\0" + values + struct.pack("!H", 0))
        session.client.send_message(b"E", b"\0" + struct.pack("!I", 0))
        session.client.send_message(b"S")
        answers = []
        while (answer := session.receive()) is not None:
            answers.append(answer)
            if answer.tag is Tag.READY_FOR_QUERY:
                break
    assert [answer.row for answer in answers if answer.tag is Tag.DATA_ROW] == [("az", "8")]
    assert [str(answer) for answer in answers if answer.tag is Tag.ERROR] == []


# Close.

NAMES = ["", "s", "long_name"]
NO_SUCH = {"S": "26000", "P": "34000"}


def send_and_sync(session: Session, *messages: tuple[bytes, bytes]) -> str | None:
    """Send these messages and Sync; return the SQLSTATE of an error among the answers, or None."""
    for tag, body in messages:
        session.client.send_message(tag, body)
    session.client.send_message(b"S")
    sqlstate = None
    while True:
        answer = session.receive()
        assert answer is not None
        if answer.tag is Tag.ERROR:
            sqlstate = answer.sqlstate
        if answer.tag is Tag.READY_FOR_QUERY:
            return sqlstate


def describe(session: Session, what: str, name: str) -> str | None:
    """Return None if the prepared statement (S) or portal (P) exists, else the SQLSTATE."""
    return send_and_sync(session, (b"D", what.encode() + name.encode() + b"\0"))


@claim("SE-09", source=MAIN, needs=[Need.EXTENDED_QUERY])
@pytest.mark.parametrize("closed", NAMES)
def test_close_closes_the_statement_that_it_names(cluster: Cluster, closed: str) -> None:
    """Close closes only the prepared statement that it names; the name has 0, 1 or more letters."""
    with cluster.session() as session:
        for name in NAMES:
            parse = (b"P", name.encode() + b"\0select 1\0\0\0")
            assert send_and_sync(session, parse) is None
        assert [describe(session, "S", name) for name in NAMES] == [None] * len(NAMES)
        assert send_and_sync(session, (b"C", b"S" + closed.encode() + b"\0")) is None
        wanted = [NO_SUCH["S"] if name == closed else None for name in NAMES]
        assert [describe(session, "S", name) for name in NAMES] == wanted


@claim("SE-09", source=MAIN, needs=[Need.EXTENDED_QUERY])
@pytest.mark.parametrize("closed", NAMES)
def test_close_closes_the_portal_that_it_names(cluster: Cluster, closed: str) -> None:
    """Close closes only the portal that it names; the name has 0, 1 or more letters."""
    for asked in NAMES:
        with cluster.session() as session:
            session.query("begin")
            parse = (b"P", b"t\0select 1\0\0\0")
            binds = [(b"B", name.encode() + b"\0t\0\0\0\0\0\0\0") for name in NAMES]
            assert send_and_sync(session, parse, *binds) is None
            assert send_and_sync(session, (b"C", b"P" + closed.encode() + b"\0")) is None
            wanted = NO_SUCH["P"] if asked == closed else None
            # An error aborts the transaction and drops its portals: each name has its own session.
            assert describe(session, "P", asked) == wanted


# The shortest timeouts.


@claim("TO-04 TO-05 TO-06", source=MAIN)
@pytest.mark.parametrize(
    ("setting", "state", "sqlstate"),
    [
        ("idle_session_timeout", "idle", IDLE_SESSION),
        ("idle_in_transaction_session_timeout", "good", IDLE_IN_TRANSACTION),
        ("idle_in_transaction_session_timeout", "failed", IDLE_IN_TRANSACTION),
        ("transaction_timeout", "good", TRANSACTION),
    ],
)
def test_a_millisecond_is_a_timeout(
    cluster: Cluster, setting: str, state: str, sqlstate: str
) -> None:
    """A timeout of one millisecond, the shortest, ends a session as a longer one does."""
    if setting == "transaction_timeout" and cluster.major < 17:
        pytest.skip("there is no transaction_timeout before 17")
    session = cluster.session()
    then = cluster.since()
    if state == "idle":
        session.query(f"set {setting} = 1")
    elif setting == "transaction_timeout":
        session.send_query(f"set {setting} = 1; begin")
    else:
        session.query(f"set {setting} = 1")
        begin(session, state)
    expect_timed_out(cluster, session, sqlstate, then)


# Libraries.


@claim("SG-02", source="miscinit.c: process_session_preload_libraries()", needs=[Need.FULL_SQL])
def test_session_loads_preload_libraries(cluster: Cluster) -> None:
    """A session finds session_preload_libraries in $libdir, local ones only in $libdir/plugins."""
    then = cluster.since()
    cluster.reload(session_preload_libraries="plpgsql")
    then.expect_log('parameter "session_preload_libraries" changed to')
    with cluster.session() as session:
        record = then.expect_line('loaded library "plpgsql"')
        assert (record.pid, record.level) == (session.backend_pid, "DEBUG")
    then = cluster.since()
    cluster.reload(session_preload_libraries="", local_preload_libraries="plpgsql")
    then.expect_log('parameter "local_preload_libraries" changed to')
    refusal = cluster.refusal_of_new_client()
    assert (refusal.severity, refusal.sqlstate) == ("FATAL", "58P01")
    missing = 'could not access file "$libdir/plugins/plpgsql": No such file or directory'
    assert refusal.message == missing


# Databases.


@claim("CN-56", source="postinit.c: InitPostgres()", needs=[Need.FULL_SQL, Need.ROLES])
def test_database_whose_directory_is_missing(cluster: Cluster) -> None:
    """A client whose database has no directory is refused: the database does not exist."""
    with cluster.session() as session:
        session.query("create database lost")
        (row,) = session.query("select oid from pg_database where datname = 'lost'")
    with cluster.session(database="lost") as session:
        assert session.query("select 1") == [("1",)]
        # No process has to write into that directory while it is missing.
        session.query("checkpoint")
    place = cluster.data / "base" / str(row[0])
    elsewhere = place.with_name("elsewhere")
    place.rename(elsewhere)
    attempt = cluster.attempt(database="lost")
    refusal = attempt.refusal
    assert refusal is not None
    assert (refusal.severity, refusal.sqlstate) == ("FATAL", "3D000")
    assert refusal.message == 'database "lost" does not exist'
    assert refusal.detail == f'The database subdirectory "base/{row[0]}" is missing.'
    elsewhere.rename(place)
    with cluster.session(database="lost") as session:
        assert session.query("select 1") == [("1",)]
