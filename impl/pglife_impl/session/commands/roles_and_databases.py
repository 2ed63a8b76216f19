"""CREATE, ALTER and DROP of roles and databases; GRANT and REVOKE of role membership.

Source: commands/user.c, dbcommands.c.
"""

import signal
from collections.abc import Iterable

from pglife_impl.base.ids import Pid
from pglife_impl.data_directory.catalog import DatabaseDef, RoleDef
from pglife_impl.protocol import SqlState
from pglife_impl.protocol.report import error
from pglife_impl.session.queries import tree
from pglife_impl.session.state import SessionState

POLL_S = 0.05


def change_catalog(statement: tree.CatalogChange, session: SessionState) -> None:
    """Create, alter or drop a role or a database."""
    session.context.catalog.refresh()
    if not session.settings.superuser:
        noun = statement.kind.value.lower()
        verb = statement.change.value.lower()
        raise error(SqlState.INSUFFICIENT_PRIVILEGE, f"permission denied to {verb} {noun}")
    if statement.kind is tree.ObjectKind.ROLE:
        _change_role(statement, session)
    else:
        _change_database(statement, session)


_ROLE_FIELDS = ("superuser", "login", "replication", "connection_limit")


def _change_role(statement: tree.CatalogChange, session: SessionState) -> None:
    catalog = session.context.catalog
    options = dict(statement.options)
    known = catalog.roles.get(statement.name)
    if statement.change is tree.Change.CREATE:
        if known is not None:
            raise error(SqlState.DUPLICATE_OBJECT, f'role "{statement.name}" already exists')
        known = RoleDef(catalog.next_oid(), statement.name)
    elif known is None:
        text = f'role "{statement.name}" does not exist'
        if statement.if_exists:
            session.output.notice_skipping(text)
            return
        raise error(SqlState.UNDEFINED_OBJECT, text)
    if statement.change is tree.Change.DROP:
        if statement.name == session.context.user:
            raise error(SqlState.OBJECT_IN_USE, "current user cannot be dropped")
        catalog.drop_role(statement.name)
        return
    known = known.replace(**{name: options[name] for name in _ROLE_FIELDS if name in options})
    if "in_role" in options:
        known = known.replace(member_of=known.member_of | {str(options["in_role"])})
    catalog.put_role(known)


_DATABASE_FIELDS = ("allow_connections", "connection_limit", "is_template", "owner")


def _change_database(statement: tree.CatalogChange, session: SessionState) -> None:
    catalog = session.context.catalog
    verb = f"{statement.change.value} DATABASE"
    if statement.change is not tree.Change.ALTER:
        session.xact.transaction.forbid_in_block(verb)
    options = dict(statement.options)
    known = catalog.databases.get(statement.name)
    if statement.change is tree.Change.CREATE:
        if known is not None:
            raise error(SqlState.DUPLICATE_DATABASE, f'database "{statement.name}" already exists')
        known = DatabaseDef(catalog.next_oid(), statement.name, session.context.user)
    elif known is None:
        text = f'database "{statement.name}" does not exist'
        if statement.if_exists:
            session.output.notice_skipping(text)
            return
        raise error(SqlState.INVALID_CATALOG_NAME, text)
    if statement.change is tree.Change.DROP:
        _drop_database(known, session, force=bool(options.get("force")))
        return
    known = known.replace(**{name: options[name] for name in _DATABASE_FIELDS if name in options})
    catalog.put_database(known)


def _drop_database(database: DatabaseDef, session: SessionState, *, force: bool) -> None:
    context = session.context
    if database.name == context.database:
        raise error(SqlState.OBJECT_IN_USE, "cannot drop the currently open database")
    others = [row for row in context.activities() if row.database == database.name]
    if others and not force:
        count = len(others)
        sessions = "is 1 other session" if count == 1 else f"are {count} other sessions"
        raise error(
            SqlState.OBJECT_IN_USE,
            f'database "{database.name}" is being accessed by other users',
            detail=f"There {sessions} using the database.",
        )
    _terminate_all(session, (row.pid for row in others))
    context.catalog.drop_database(database.name)


def grant_role(statement: tree.GrantRole, session: SessionState) -> None:
    """Grant or revoke membership in roles."""
    catalog = session.context.catalog
    catalog.refresh()
    for name in (*statement.roles, *statement.members):
        if name not in catalog.roles:
            raise error(SqlState.UNDEFINED_OBJECT, f'role "{name}" does not exist')
    if not session.settings.superuser:
        verb = "revoke" if statement.revoke else "grant"
        message = f'permission denied to {verb} role "{statement.roles[0]}"'
        raise error(SqlState.INSUFFICIENT_PRIVILEGE, message)
    for name in statement.members:
        role = catalog.roles[name]
        roles = frozenset(statement.roles)
        changed = role.member_of - roles if statement.revoke else role.member_of | roles
        catalog.put_role(role.replace(member_of=changed))


def _terminate_all(session: SessionState, pids: Iterable[Pid]) -> None:
    """Send SIGTERM to sessions and wait until they have released their PGPROCs."""
    waiting = set(pids)
    for pid in waiting:
        session.context.signal_backend(pid, signal.SIGTERM)
    while waiting:
        session.interrupts.sleep(POLL_S)
        waiting = {pid for pid in waiting if session.context.activity_of(pid) is not None}
