"""Clients that pg_hba.conf, their password or an invalid database keeps out.

Source: libpq/auth.c: ClientAuthentication(), auth_failed(); utils/init/postinit.c: InitPostgres().
"""

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.client import Tag
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import Outcome, Session
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim
from pglife_conformance.scenarios.sessions.test_interrupts import expect_exit_line

AUTH = "libpq/auth.c: ClientAuthentication()"
NEEDS = [Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.PASSWORD, Need.ROLES, Need.FULL_SQL]
RULES = """\
local all postgres trust
local all rejected reject
local replication rejected reject
local all asked password
local all hashed scram-sha-256
"""
NOT_AUTHORIZED = "28000"
WRONG_PASSWORD = "28P01"
PREREQUISITE_STATE = "55000"
PASSWORD = b"right"


@pytest.fixture
def ruled_cluster(stopped_cluster: Cluster) -> Cluster:
    """Start a cluster with RULES and with users that have a password."""
    cluster = stopped_cluster
    cluster.write_file("pg_hba.conf", RULES)
    cluster.start()
    with cluster.session() as session:
        for user in ("rejected", "asked", "hashed", "forgotten"):
            session.query(f"create role {user} login password '{PASSWORD.decode()}'")
        session.query("alter role rejected replication; alter role forgotten replication")
        child = session.child
    cluster.expect_death(child)
    return cluster


@claim("CN-17", source=AUTH, needs=NEEDS)
@pytest.mark.parametrize("user", ["rejected", "forgotten"])
@pytest.mark.parametrize("replication", [False, True])
def test_client_that_pg_hba_conf_refuses(
    ruled_cluster: Cluster, user: str, replication: bool
) -> None:
    """A client that a line of pg_hba.conf rejects, or that no line matches, receives FATAL
    28000. For a replication connection the message says so."""
    cluster = ruled_cluster
    before = cluster.since()
    parameters = {"replication": "true"} if replication else None
    session = cluster.attempt(user=user, parameters=parameters)
    refusal = session.refusal
    assert refusal is not None
    begins = {"rejected": "pg_hba.conf rejects", "forgotten": "no pg_hba.conf entry for"}[user]
    whom = "replication connection from host" if replication else "host"
    if user == "rejected":
        whom = "replication connection for host" if replication else "connection for host"
    where = "" if replication else ', database "postgres"'
    assert (refusal.severity, refusal.sqlstate) == ("FATAL", NOT_AUTHORIZED)
    assert refusal.message == f'{begins} {whom} "[local]", user "{user}"{where}, no encryption'
    record = before.expect_log("pg_hba.conf")
    assert (record.level, record.message) == ("FATAL", refusal.message)
    expect_exit_line(cluster, record.pid, 1, before)
    before.expect_undisturbed()


def answer(cluster: Cluster, password: bytes) -> Session:
    """Connect as `asked` and send this password."""
    session = cluster.silent_client()
    session.client.send_startup({"user": "asked", "database": "postgres"})
    asked = session.receive()
    assert asked is not None
    assert asked.tag is Tag.AUTHENTICATION
    session.client.send_message(b"p", password + b"\0")
    session.receive_outcome()
    return session


@claim("CN-18", source="libpq/auth.c: auth_failed()", needs=NEEDS)
def test_password_is_right_or_wrong(ruled_cluster: Cluster) -> None:
    """The right password admits a client; a wrong one is refused with FATAL 28P01."""
    cluster = ruled_cluster
    before = cluster.since()
    right = answer(cluster, PASSWORD)
    assert right.outcome is Outcome.ADMITTED
    assert right.child.title == "postgres: asked postgres [local] idle"
    for wrong in (b"wrong", PASSWORD + b"er", PASSWORD[:-1]):
        then = cluster.since()
        refusal = answer(cluster, wrong).refusal
        assert refusal is not None
        assert (refusal.severity, refusal.sqlstate) == ("FATAL", WRONG_PASSWORD)
        assert refusal.message == 'password authentication failed for user "asked"'
        record = then.expect_log("^password authentication failed")
        assert record.level == "FATAL"
        assert record.detail is not None
        assert "pg_hba.conf" in record.detail
        expect_exit_line(cluster, record.pid, 1, then)
    assert right.query("select 1") == [("1",)]
    before.expect_undisturbed()


@claim("CN-18", source="libpq/auth.c: auth_failed()", needs=NEEDS)
@pytest.mark.parametrize("user", ["asked", "hashed"])
def test_client_that_disconnects_instead_of_a_password(ruled_cluster: Cluster, user: str) -> None:
    """A client that disconnects when the server asks for its password causes exit 0 and no log
    line."""
    cluster = ruled_cluster
    session = cluster.silent_client()
    before = cluster.since()
    session.client.send_startup({"user": user, "database": "postgres"})
    asked = session.receive()
    assert asked is not None
    assert asked.tag is Tag.AUTHENTICATION
    child = session.child
    session.disconnect()
    cluster.expect_death(child)
    expect_exit_line(cluster, child.pid, 0, before)
    records = before.log(pid=child.pid)
    assert [record for record in records if not record.level.startswith("DEBUG")] == []
    before.expect_undisturbed(gone=[child])


@claim("CN-50", source="postinit.c: InitPostgres()", needs=NEEDS)
def test_database_whose_drop_was_interrupted_is_invalid(cluster: Cluster) -> None:
    """A database whose DROP DATABASE was interrupted refuses clients, with a hint to drop it."""
    with cluster.session() as session:
        session.query("create database other")
        session.query("update pg_database set datconnlimit = -2 where datname = 'other'")
        before = cluster.since()
        refusal = cluster.refusal_of_new_client(database="other")
        assert (refusal.severity, refusal.sqlstate) == ("FATAL", PREREQUISITE_STATE)
        assert refusal.message == 'cannot connect to invalid database "other"'
        assert refusal.hint == "Use DROP DATABASE to drop invalid databases."
        record = before.expect_log("^cannot connect to invalid database")
        expect_exit_line(cluster, record.pid, 1, before)
        before.expect_undisturbed()
        session.query("drop database other")
        assert [kid for kid in cluster.children() if kid.kind is Kind.UNKNOWN] == []
