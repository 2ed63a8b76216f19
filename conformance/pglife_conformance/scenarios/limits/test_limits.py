"""Who is let in when places are few: reserved slots, limits of roles and databases, walsenders.

Source: rules CN-31 to CN-58; postinit.c: InitPostgres(), CheckMyDatabase(), miscinit.c:
InitializeSessionUserId(), proc.c: InitProcess().
"""

import contextlib
import signal

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.base.refusals import TOO_MANY_CLIENTS, TOO_MANY_CONNECTIONS
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import Outcome, Session
from pglife_conformance.pytest.claims import claim, settings

ROLES = [Need.ROLES]
FOR_SUPERUSERS_15 = (
    "remaining connection slots are reserved for non-replication superuser connections"
)
FOR_SUPERUSERS = "remaining connection slots are reserved for roles with the SUPERUSER attribute"
FOR_THE_PRIVILEGED = (
    "remaining connection slots are reserved for roles with privileges of the "
    '"pg_use_reserved_connections" role'
)
OBJECT_NOT_IN_PREREQUISITE_STATE = "55000"
INSUFFICIENT_PRIVILEGE = "42501"
INVALID_AUTHORIZATION = "28000"
UNDEFINED_DATABASE = "3D000"

Refusal = tuple[str | None, str | None]


def in_version(cluster: Cluster, text: str) -> str:
    """The release's message about slots reserved for superusers."""
    return text if cluster.major >= 16 else FOR_SUPERUSERS_15


def refused(
    cluster: Cluster, user: str, database: str = "postgres", *, replication: bool = False
) -> Refusal:
    """The SQLSTATE and message that refuse this user; (None, 'admitted') without a refusal."""
    parameters = {"replication": "true"} if replication else {}
    attempt = cluster.attempt(user=user, database=database, parameters=parameters)
    if attempt.outcome is Outcome.ADMITTED:
        attempt.close()
        return (None, "admitted")
    assert attempt.refusal is not None
    assert attempt.refusal.severity == "FATAL"
    return (attempt.refusal.sqlstate, attempt.refusal.message)


def boss_of(cluster: Cluster, *statements: str) -> Session:
    """A superuser's session, in another database than the rest, that has done this."""
    boss = cluster.session(database="template1")
    for statement in statements:
        boss.query(statement)
    return boss


def leave(session: Session) -> None:
    """Its place is free when this is done."""
    child = session.child
    session.close()
    session.server.expect_death(child)


@claim("CN-33 CN-34 CN-58", source="postinit.c: InitPostgres()", needs=ROLES, since=16)
@settings(max_connections=6, superuser_reserved_connections=2, reserved_connections=1)
def test_places_reserved_for_others(cluster: Cluster) -> None:
    """The last places but one are for superusers, the one before for those with the privilege."""
    boss_of(
        cluster,
        "create role alice login",
        "create role carol login in role pg_use_reserved_connections",
    )
    cluster.session(user="alice")
    last = cluster.session(user="alice")
    for_carol = (TOO_MANY_CONNECTIONS, FOR_THE_PRIVILEGED)
    for_superusers = (TOO_MANY_CONNECTIONS, FOR_SUPERUSERS)
    assert refused(cluster, "alice") == for_carol
    cluster.session(user="carol")
    assert refused(cluster, "alice") == for_superusers
    assert refused(cluster, "carol") == for_superusers
    cluster.session()
    assert refused(cluster, "carol") == for_superusers
    cluster.session()
    for user in ("alice", "carol", "postgres"):
        assert refused(cluster, user) == (TOO_MANY_CONNECTIONS, TOO_MANY_CLIENTS)
    leave(last)
    assert refused(cluster, "carol") == for_superusers
    cluster.session()


@claim("CN-33 CN-31", source="postinit.c: InitPostgres()", needs=ROLES)
@settings(max_connections=4, superuser_reserved_connections=2)
def test_places_reserved_for_superusers(cluster: Cluster) -> None:
    """The last places are for superusers alone, and they get them all."""
    boss = boss_of(cluster, "create role alice login")
    cluster.session(user="alice")
    expected = (TOO_MANY_CONNECTIONS, in_version(cluster, FOR_SUPERUSERS))
    assert refused(cluster, "alice") == expected
    cluster.session()
    assert refused(cluster, "alice") == expected
    cluster.session()
    assert refused(cluster, "postgres") == (TOO_MANY_CONNECTIONS, TOO_MANY_CLIENTS)
    leave(boss)
    assert refused(cluster, "alice") == expected
    cluster.session()


@claim("CN-31 CN-34", source="proc.c: InitProcess()", needs=ROLES)
@settings(max_connections=3, superuser_reserved_connections=0)
def test_no_reserved_slots(cluster: Cluster) -> None:
    """Without reserved slots any role may take the last connection."""
    leave(boss_of(cluster, "create role alice login"))
    for _ in range(3):
        cluster.session(user="alice")
    for user in ("alice", "postgres"):
        assert refused(cluster, user) == (TOO_MANY_CONNECTIONS, TOO_MANY_CLIENTS)


@claim("CN-37", source="miscinit.c: InitializeSessionUserId()", needs=ROLES)
def test_limit_of_a_role(cluster: Cluster) -> None:
    """A role's sessions are counted against its limit, 0 lets none in; superusers have none."""
    boss = boss_of(
        cluster,
        "create role alice login connection limit 1",
        "create role hermit login connection limit 0",
        "create role chief login superuser connection limit 0",
    )
    session = cluster.session(user="alice")
    expected = 'too many connections for role "{}"'
    assert refused(cluster, "alice") == (TOO_MANY_CONNECTIONS, expected.format("alice"))
    assert refused(cluster, "alice", "template1") == (
        TOO_MANY_CONNECTIONS,
        expected.format("alice"),
    )
    assert refused(cluster, "hermit") == (TOO_MANY_CONNECTIONS, expected.format("hermit"))
    cluster.session(user="chief")
    leave(session)
    cluster.session(user="alice")
    boss.query("alter role alice connection limit -1")
    cluster.session(user="alice")


@claim("CN-53", source="postinit.c: CheckMyDatabase()", needs=ROLES)
def test_limit_of_a_database(cluster: Cluster) -> None:
    """A database's limit counts the sessions of all roles; superusers are exempt from it."""
    boss = boss_of(cluster, "create role alice login", "alter database postgres connection limit 1")
    expected = (TOO_MANY_CONNECTIONS, 'too many connections for database "postgres"')
    session = cluster.session(user="alice")
    assert refused(cluster, "alice") == expected
    chief = cluster.session()
    leave(session)
    assert refused(cluster, "alice") == expected
    leave(chief)
    leave(cluster.session(user="alice"))
    boss.query("alter database postgres connection limit 0")
    assert refused(cluster, "alice") == expected
    cluster.session(user="alice", database="template1")
    boss.query("alter database postgres connection limit -1")
    cluster.session(user="alice")


@claim("CN-51 CN-52", source="postinit.c: CheckMyDatabase()", needs=ROLES)
def test_database_that_accepts_no_connections(cluster: Cluster) -> None:
    """Without datallowconn a database refuses every role; without CONNECT all but superusers."""
    boss = boss_of(
        cluster, "create role alice login", "alter database postgres allow_connections false"
    )
    for database in ("postgres", "template0"):
        expected = f'database "{database}" is not currently accepting connections'
        for user in ("alice", "postgres"):
            assert refused(cluster, user, database) == (OBJECT_NOT_IN_PREREQUISITE_STATE, expected)
    boss.query("alter database postgres allow_connections true")
    boss.query("revoke connect on database postgres from public")
    expected = 'permission denied for database "postgres"'
    assert refused(cluster, "alice") == (INSUFFICIENT_PRIVILEGE, expected)
    cluster.session()
    boss.query("grant connect on database postgres to alice")
    cluster.session(user="alice")


@claim("CN-35 CN-36 CN-39", source="miscinit.c: InitializeSessionUserId()", needs=ROLES)
def test_missing_roles_and_databases(cluster: Cluster) -> None:
    """The role must exist and have LOGIN; the database must exist."""
    boss_of(cluster, "create role bob nologin superuser")
    for user, expected in (
        ("bob", 'role "bob" is not permitted to log in'),
        ("nobody", 'role "nobody" does not exist'),
    ):
        assert refused(cluster, user) == (INVALID_AUTHORIZATION, expected)
    expected = 'database "nowhere" does not exist'
    assert refused(cluster, "postgres", "nowhere") == (UNDEFINED_DATABASE, expected)


@claim("CN-32", source="proc.c: InitProcess()", needs=[*ROLES, Need.WALSENDER])
@settings(max_connections=3, superuser_reserved_connections=0, max_wal_senders=1)
def test_walsenders_have_slots_of_their_own(cluster: Cluster) -> None:
    """Sessions do not count against max_wal_senders, nor walsenders against max_connections."""
    boss = boss_of(cluster)
    cluster.session()
    cluster.session()
    parameters = {"replication": "true"}
    sender = cluster.session(parameters=parameters)
    exceeds = 'number of requested standby connections exceeds "max_wal_senders" (currently 1)'
    if cluster.major < 17:
        exceeds = exceeds.replace('"', "")
    expected = (TOO_MANY_CONNECTIONS, exceeds)
    assert refused(cluster, "postgres", replication=True) == expected
    leave(boss)
    assert refused(cluster, "postgres", replication=True) == expected
    cluster.session()
    leave(sender)
    leave(cluster.session(parameters=parameters))
    assert refused(cluster, "postgres") == (TOO_MANY_CONNECTIONS, TOO_MANY_CLIENTS)


@claim("CN-38", source="postinit.c: InitPostgres()", needs=[*ROLES, Need.WALSENDER])
def test_walsenders_need_the_attribute(cluster: Cluster) -> None:
    """A walsender's role needs REPLICATION or superuser."""
    boss_of(cluster, "create role alice login", "create role rita login replication")
    expected = "permission denied to start WAL sender"
    if cluster.major < 16:
        expected = "must be superuser or replication role to start walsender"
    assert refused(cluster, "alice", replication=True) == (INSUFFICIENT_PRIVILEGE, expected)
    for user in ("rita", "postgres"):
        leave(cluster.session(user=user, parameters={"replication": "true"}))


@claim("CN-31", source="proc.c: ProcKill()", needs=[Need.SQL_FUNCTIONS, Need.FULL_SQL])
@settings(max_connections=3, superuser_reserved_connections=0)
@pytest.mark.parametrize("end", ["close", "disconnect", "terminate", "crash"])
def test_ended_sessions_free_their_slots(cluster: Cluster, end: str) -> None:
    """Sessions free their slots however they end."""
    for has_ended in (False, True):
        sessions = [cluster.session() for _ in range(3)]
        assert refused(cluster, "postgres") == (TOO_MANY_CONNECTIONS, TOO_MANY_CLIENTS)
        if has_ended:
            return
        children = [session.child for session in sessions]
        then = cluster.since()
        if end == "crash":
            cluster.crash(children[0])
            then.expect_ready()
            continue
        for session, child in zip(sessions, children, strict=True):
            with contextlib.suppress(ConnectionError):
                session.query("begin")
                if end == "terminate":
                    cluster.signal_child(child, signal.SIGTERM)
                else:
                    session.close() if end == "close" else session.disconnect()
            cluster.expect_death(child)
