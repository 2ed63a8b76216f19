"""Utility statements: SET, SHOW, CHECKPOINT, DISCARD, roles and databases.

Begin with   perform().
Owns         what they do, with their errors.
Leaves out   transaction control (core.py: it is the loop's own), settings (settings.py).
Source       tcop/utility.c: standard_ProcessUtility(); commands/user.c, dbcommands.c, discard.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pglife_impl.data_directory.catalog import DatabaseDef, RoleDef
from pglife_impl.protocol import SqlState
from pglife_impl.protocol.report import error
from pglife_impl.session.context import CheckpointFailed
from pglife_impl.session.queries import tree, types
from pglife_impl.session.queries.query import OutputColumn
from pglife_impl.session.queries.relations import RELATIONS
from pglife_impl.session.queries.run import Row

if TYPE_CHECKING:
    from pglife_impl.session.loop import Session


def perform(statement: tree.Statement, session: Session) -> None:
    """Do what a utility statement says."""
    match statement:
        case tree.Set(name, value, local):
            if local:
                session.notice_unless_none(session.transaction.wants_block("SET LOCAL"))
            session.set(name, value, local=local)
        case tree.SetTransaction(settings, for_session):
            if for_session:
                for name, value in settings:
                    session.set(f"default_{name}", value)
            else:
                session.notice_unless_none(session.transaction.wants_block("SET TRANSACTION"))
                for name, value in settings:
                    session.set(name, value, local=True)
        case tree.Reset(None):
            session.reset_all()
        case tree.Reset(str(name)):
            session.set(name, None)
        case tree.Checkpoint():
            _checkpoint(session)
        case tree.Discard(what):
            _discard(session, what)
        case tree.Deallocate(name):
            session.extended.deallocate(name)
        case tree.CatalogChange():
            _change_catalog(statement, session)
        case tree.GrantRole():
            _grant_role(statement, session)
        case tree.WriteTable(tag, table):
            if table in RELATIONS:
                verb = {"INSERT": "insert into", "DELETE": "delete from"}.get(tag, "update")
                message = f'cannot {verb} view "{table}"'
                raise error(SqlState.OBJECT_NOT_IN_PREREQUISITE_STATE, message)
            message = f'relation "{table}" does not exist'
            raise error(SqlState.UNDEFINED_TABLE, message, position=statement.position)
        case tree.Unsupported(tag, message):
            message = message or f"{tag} is not supported by this server"
            raise error(SqlState.FEATURE_NOT_SUPPORTED, message)
        case _:
            raise AssertionError(f"no utility statement: {statement}")


def show_columns(statement: tree.Show, session: Session) -> tuple[OutputColumn, ...]:
    """Return the columns of SHOW; one setting is a column by its proper name."""
    names = ["name", "setting", "description"]
    if statement.name is not None:
        names = [session.settings.canonical(statement.name)]
    return tuple(OutputColumn(name, types.TEXT) for name in names)


def show_rows(statement: tree.Show, session: Session) -> Iterator[Row]:
    """Return the rows of SHOW."""
    settings = session.settings
    if statement.name is not None:
        return iter([(settings.show(statement.name),)])
    return iter([(name, settings.show(name), None) for name in settings.listed()])


def _checkpoint(session: Session) -> None:
    if not session.settings.superuser:
        raise error(
            SqlState.INSUFFICIENT_PRIVILEGE,
            "permission denied to execute CHECKPOINT command",
            detail='Only roles with privileges of the "pg_checkpoint" role may execute this'
            " command.",
        )
    try:
        session.context.request_checkpoint()
    except CheckpointFailed as problem:
        session.check_for_interrupts()
        raise error(
            SqlState.INTERNAL_ERROR,
            str(problem),
            hint="Consult recent messages in the server log for details.",
        ) from None


def _discard(session: Session, what: str) -> None:
    if what == "ALL":
        session.transaction.forbid_in_block("DISCARD ALL")
        session.reset_all()
        session.extended.deallocate(None)
    elif what == "PLANS":
        return


def _change_catalog(statement: tree.CatalogChange, session: Session) -> None:
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


def _change_role(statement: tree.CatalogChange, session: Session) -> None:
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
            session.notice_skipping(text)
            return
        raise error(SqlState.UNDEFINED_OBJECT, text)
    if statement.change is tree.Change.DROP:
        if statement.name == session.context.user:
            raise error(SqlState.OBJECT_IN_USE, "current user cannot be dropped")
        catalog.drop_role(statement.name)
        return
    for name in _ROLE_FIELDS:
        if name in options:
            known = known.replace(**{name: options[name]})
    if "in_role" in options:
        known = known.replace(member_of=known.member_of | {str(options["in_role"])})
    catalog.put_role(known)


_DATABASE_FIELDS = ("allow_connections", "connection_limit", "is_template", "owner")


def _change_database(statement: tree.CatalogChange, session: Session) -> None:
    catalog = session.context.catalog
    verb = f"{statement.change.value} DATABASE"
    if statement.change is not tree.Change.ALTER:
        session.transaction.forbid_in_block(verb)
    options = dict(statement.options)
    known = catalog.databases.get(statement.name)
    if statement.change is tree.Change.CREATE:
        if known is not None:
            raise error(SqlState.DUPLICATE_DATABASE, f'database "{statement.name}" already exists')
        known = DatabaseDef(catalog.next_oid(), statement.name, session.context.user)
    elif known is None:
        text = f'database "{statement.name}" does not exist'
        if statement.if_exists:
            session.notice_skipping(text)
            return
        raise error(SqlState.INVALID_CATALOG_NAME, text)
    if statement.change is tree.Change.DROP:
        _drop_database(known, session, force=bool(options.get("force")))
        return
    for name in _DATABASE_FIELDS:
        if name in options:
            known = known.replace(**{name: options[name]})
    catalog.put_database(known)


def _drop_database(database: DatabaseDef, session: Session, *, force: bool) -> None:
    context = session.context
    if database.name == context.database:
        raise error(SqlState.OBJECT_IN_USE, "cannot drop the currently open database")
    others = [row for row in context.shmem.activities() if row.database == database.name]
    if others and not force:
        count = len(others)
        sessions = "is 1 other session" if count == 1 else f"are {count} other sessions"
        raise error(
            SqlState.OBJECT_IN_USE,
            f'database "{database.name}" is being accessed by other users',
            detail=f"There {sessions} using the database.",
        )
    session.terminate_all(row.pid for row in others)
    context.catalog.drop_database(database.name)


def _grant_role(statement: tree.GrantRole, session: Session) -> None:
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
