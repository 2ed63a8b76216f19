"""Utility statements: SET, SHOW, CHECKPOINT, DISCARD and DEALLOCATE; perform() runs them all.

Source: tcop/utility.c: standard_ProcessUtility(); commands/discard.c, variable.c.
"""

from collections.abc import Iterator

from pglife_impl.protocol import SqlState
from pglife_impl.protocol.report import error
from pglife_impl.session.commands.roles_and_databases import change_catalog, grant_role
from pglife_impl.session.queries import tree, types
from pglife_impl.session.queries.relations import RELATIONS
from pglife_impl.session.queries.run import Row, Run
from pglife_impl.session.queries.scope import OutputColumn
from pglife_impl.session.state import SessionState
from pglife_impl.shmem.checkpoint import CheckpointFailed


def perform(statement: tree.Statement, run: Run) -> None:
    """Run a utility statement."""
    session = run.session
    match statement:
        case tree.Set(name, value, local):
            if local:
                session.output.notice(session.xact.transaction.outside_block("SET LOCAL"))
            session.settings.set(name, value, local=local)
        case tree.SetTransaction(settings, for_session):
            if for_session:
                for name, value in settings:
                    session.settings.set(f"default_{name}", value)
            else:
                session.output.notice(session.xact.transaction.outside_block("SET TRANSACTION"))
                for name, value in settings:
                    session.settings.set(name, value, local=True)
        case tree.Reset(None):
            session.settings.reset_all()
        case tree.Reset(str(name)):
            session.settings.set(name, None)
        case tree.Checkpoint():
            _checkpoint(session)
        case tree.Discard(what):
            _discard(run, what)
        case tree.Deallocate(name):
            run.prepared.deallocate(name)
        case tree.CatalogChange():
            change_catalog(statement, session)
        case tree.GrantRole():
            grant_role(statement, session)
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


def show_columns(statement: tree.Show, session: SessionState) -> tuple[OutputColumn, ...]:
    """Return the columns of SHOW; the column of one setting has its name."""
    names = ["name", "setting", "description"]
    if statement.name is not None:
        names = [session.settings.canonical(statement.name)]
    return tuple(OutputColumn(name, types.TEXT) for name in names)


def show_rows(statement: tree.Show, session: SessionState) -> Iterator[Row]:
    """Return the rows of SHOW."""
    settings = session.settings
    if statement.name is not None:
        return iter([(settings.show(statement.name),)])
    return iter([(name, settings.show(name), None) for name in settings.listed()])


def _checkpoint(session: SessionState) -> None:
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
        session.interrupts.check()
        raise error(
            SqlState.INTERNAL_ERROR,
            str(problem),
            hint="Consult recent messages in the server log for details.",
        ) from None


def _discard(run: Run, what: str) -> None:
    """Run DISCARD; plans, sequences and temporary tables do not exist here."""
    session = run.session
    if what == "ALL":
        session.xact.transaction.forbid_in_block("DISCARD ALL")
        session.settings.reset_all()
        run.prepared.deallocate(None)
