"""The checks that admit a client to a session: each alone, and their order."""

import pytest

from pglife_impl.backend.admission import CHECKS, Facts, Newcomer, admit
from pglife_impl.data_directory.catalog import Catalog, DatabaseDef, RoleDef, has_privileges_of

CATALOG = Catalog("")
CATALOG.roles = {
    "boss": RoleDef(10, "boss", superuser=True, login=True),
    "bob": RoleDef(11, "bob", login=True),
    "vip": RoleDef(12, "vip", login=True, member_of=frozenset({"club"})),
    "club": RoleDef(13, "club", member_of=frozenset({"pg_use_reserved_connections"})),
    "one": RoleDef(14, "one", login=True, connection_limit=1),
    "pg_use_reserved_connections": RoleDef(15, "pg_use_reserved_connections"),
}
CATALOG.databases = {
    "db": DatabaseDef(5, "db", "boss"),
    "closed": DatabaseDef(6, "closed", "boss", allow_connections=False),
    "small": DatabaseDef(7, "small", "boss", connection_limit=1),
}
PLENTY = Facts(
    free_slots=50,
    superuser_reserved=3,
    reserved=2,
    sessions_of_role=1,
    sessions_of_database=1,
    catalog=CATALOG,
)
RESERVED = "remaining connection slots are reserved for roles with"

# user, database, free slots, sessions of role, of database -> SQLSTATE and text, or admitted
CASES = [
    ("bob", "db", 50, 1, 1, None, ""),
    ("mallory", "db", 50, 1, 1, "28000", 'role "mallory" does not exist'),
    ("club", "db", 50, 1, 1, "28000", 'role "club" is not permitted to log in'),
    ("one", "db", 50, 1, 1, None, ""),
    ("one", "db", 50, 2, 1, "53300", 'too many connections for role "one"'),
    ("bob", "db", 5, 1, 1, None, ""),
    ("bob", "db", 4, 1, 1, "53300", f'{RESERVED} privileges of the "pg_use_reserved_connections"'),
    ("bob", "db", 3, 1, 1, "53300", f'{RESERVED} privileges of the "pg_use_reserved_connections"'),
    ("bob", "db", 2, 1, 1, "53300", f"{RESERVED} the SUPERUSER attribute"),
    ("vip", "db", 3, 1, 1, None, ""),
    ("vip", "db", 2, 1, 1, "53300", f"{RESERVED} the SUPERUSER attribute"),
    ("boss", "db", 0, 1, 1, None, ""),
    ("bob", "nowhere", 50, 1, 1, "3D000", 'database "nowhere" does not exist'),
    ("boss", "closed", 50, 1, 1, "55000", 'database "closed" is not currently accepting conn'),
    ("bob", "small", 50, 1, 1, None, ""),
    ("bob", "small", 50, 1, 2, "53300", 'too many connections for database "small"'),
    ("boss", "small", 50, 1, 9, None, ""),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}-{case[2]}")
def test_a_client_is_admitted_or_refused(
    case: tuple[str, str, int, int, int, str | None, str],
) -> None:
    """CN-33..39, CN-51, CN-53; CN-58: free slots are counted after the newcomer took one."""
    user, database, free, of_role, of_database, sqlstate, text = case
    facts = PLENTY.replace(
        free_slots=free, sessions_of_role=of_role, sessions_of_database=of_database
    )
    refusal = admit(Newcomer(user, database), facts)
    if sqlstate is None:
        assert refusal is None
    else:
        assert refusal is not None
        assert refusal.sqlstate == sqlstate
        assert refusal.message.startswith(text)


def test_the_first_failing_check_names_the_reason() -> None:
    """CN-56: role before limits, limits before the database."""
    facts = PLENTY.replace(free_slots=0, sessions_of_role=9, sessions_of_database=9)
    messages = []
    for user, database in (("mallory", "nowhere"), ("club", "nowhere"), ("one", "nowhere")):
        refusal = admit(Newcomer(user, database), facts)
        assert refusal is not None
        messages.append(refusal.message)
    assert messages == [
        'role "mallory" does not exist',
        'role "club" is not permitted to log in',
        'too many connections for role "one"',
    ]
    reserved = admit(Newcomer("bob", "nowhere"), facts)
    assert reserved is not None
    assert reserved.message.startswith(RESERVED)


def test_every_check_refuses_one_of_the_cases() -> None:
    """No check is redundant."""
    tripped = set()
    for user, database, free, of_role, of_database, *_ in CASES:
        facts = PLENTY.replace(
            free_slots=free, sessions_of_role=of_role, sessions_of_database=of_database
        )
        for check in CHECKS:
            if check(Newcomer(user, database), facts) is not None:
                tripped.add(check)
                break
    assert tripped == set(CHECKS)


def test_membership_is_transitive_and_cycles_are_allowed() -> None:
    """A member of a member has the privileges; a cycle of memberships ends the search."""
    roles = {
        "a": RoleDef(1, "a", member_of=frozenset({"b"})),
        "b": RoleDef(2, "b", member_of=frozenset({"a", "c"})),
        "c": RoleDef(3, "c"),
    }
    assert has_privileges_of(roles, "a", "c")
    assert not has_privileges_of(roles, "c", "a")
