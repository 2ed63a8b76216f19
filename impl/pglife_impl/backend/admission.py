"""The checks that an authenticated client must pass for a session, in PostgreSQL's order.

Begin with admit(). The checks are pure.
Source: utils/init/postinit.c: InitPostgres(), CheckMyDatabase(); utils/init/miscinit.c:
InitializeSessionUserId(); rules CN-33..53, their order CN-56.
"""

from collections.abc import Callable

from pglife_impl.base.record import Record
from pglife_impl.data_directory.catalog import Catalog, DatabaseDef, RoleDef, has_privileges_of
from pglife_impl.protocol import Report, Severity, SqlState

USE_RESERVED_CONNECTIONS = "pg_use_reserved_connections"
NO_LIMIT = -1


class Newcomer(Record):
    """An authenticated client that asks for a session."""

    user: str
    database: str


class Facts(Record):
    """The input of the checks, counted after the newcomer has its PGPROC (CN-58)."""

    free_slots: int
    superuser_reserved: int
    reserved: int
    sessions_of_role: int
    sessions_of_database: int
    catalog: Catalog


def admit(newcomer: Newcomer, facts: Facts) -> Report | None:
    """Return the first refusal that applies, or None."""
    for check in CHECKS:
        refusal = check(newcomer, facts)
        if refusal is not None:
            return refusal
    return None


def _refuse(sqlstate: SqlState, message: str, detail: str = "") -> Report:
    return Report(Severity.FATAL, sqlstate, message, detail)


def _role(newcomer: Newcomer, facts: Facts) -> RoleDef:
    return facts.catalog.roles[newcomer.user]


def _database(newcomer: Newcomer, facts: Facts) -> DatabaseDef:
    return facts.catalog.databases[newcomer.database]


def _role_exists(newcomer: Newcomer, facts: Facts) -> Report | None:
    """Refuse an unknown role (CN-35)."""
    if newcomer.user in facts.catalog.roles:
        return None
    return _refuse(
        SqlState.INVALID_AUTHORIZATION_SPECIFICATION, f'role "{newcomer.user}" does not exist'
    )


def _role_may_log_in(newcomer: Newcomer, facts: Facts) -> Report | None:
    """Refuse a role without LOGIN (CN-36)."""
    if _role(newcomer, facts).login:
        return None
    return _refuse(
        SqlState.INVALID_AUTHORIZATION_SPECIFICATION,
        f'role "{newcomer.user}" is not permitted to log in',
    )


def _within_role_limit(newcomer: Newcomer, facts: Facts) -> Report | None:
    """Refuse a role with too many sessions, this one included (CN-37)."""
    role = _role(newcomer, facts)
    if role.superuser or role.connection_limit == NO_LIMIT:
        return None
    if facts.sessions_of_role <= role.connection_limit:
        return None
    return _refuse(
        SqlState.TOO_MANY_CONNECTIONS, f'too many connections for role "{newcomer.user}"'
    )


def _outside_reserved_slots(newcomer: Newcomer, facts: Facts) -> Report | None:
    """Refuse the slots that are reserved for superusers and privileged roles (CN-33, CN-34)."""
    role = _role(newcomer, facts)
    if role.superuser or facts.free_slots >= facts.superuser_reserved + facts.reserved:
        return None
    if facts.free_slots < facts.superuser_reserved:
        return _refuse(
            SqlState.TOO_MANY_CONNECTIONS,
            "remaining connection slots are reserved for roles with the SUPERUSER attribute",
        )
    if has_privileges_of(facts.catalog.roles, role.name, USE_RESERVED_CONNECTIONS):
        return None
    return _refuse(
        SqlState.TOO_MANY_CONNECTIONS,
        "remaining connection slots are reserved for roles with privileges of the"
        f' "{USE_RESERVED_CONNECTIONS}" role',
    )


def _database_exists(newcomer: Newcomer, facts: Facts) -> Report | None:
    """Refuse an unknown database (CN-39)."""
    if newcomer.database in facts.catalog.databases:
        return None
    return _refuse(SqlState.INVALID_CATALOG_NAME, f'database "{newcomer.database}" does not exist')


def _database_accepts(newcomer: Newcomer, facts: Facts) -> Report | None:
    """Refuse a database with ALLOW_CONNECTIONS false (CN-51)."""
    if _database(newcomer, facts).allow_connections:
        return None
    return _refuse(
        SqlState.OBJECT_NOT_IN_PREREQUISITE_STATE,
        f'database "{newcomer.database}" is not currently accepting connections',
    )


def _within_database_limit(newcomer: Newcomer, facts: Facts) -> Report | None:
    """Refuse a database with too many sessions, this one included (CN-53)."""
    limit = _database(newcomer, facts).connection_limit
    if limit == NO_LIMIT or _role(newcomer, facts).superuser:
        return None
    if facts.sessions_of_database <= limit:
        return None
    return _refuse(
        SqlState.TOO_MANY_CONNECTIONS, f'too many connections for database "{newcomer.database}"'
    )


CHECKS: tuple[Callable[[Newcomer, Facts], Report | None], ...] = (
    _role_exists,
    _role_may_log_in,
    _within_role_limit,
    _outside_reserved_slots,
    _database_exists,
    _database_accepts,
    _within_database_limit,
)
"""In the order of CN-56. Checks of binary upgrade, walsenders, invalid databases and CONNECT
privileges are missing, because these do not exist here."""
