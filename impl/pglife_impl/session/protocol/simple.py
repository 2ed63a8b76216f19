"""The simple query protocol: a string of statements, each run to its end.

Imported at a session's first statement, never before: see queries/parser.py.
Source: tcop/postgres.c: exec_simple_query().
"""

from pglife_impl.protocol.backend import command_complete, empty_query_response
from pglife_impl.session.protocol.extended import ExtendedProtocol
from pglife_impl.session.protocol.portal import (
    control_transaction,
    describe,
    encode_row,
    make_ready,
    require_working_transaction,
)
from pglife_impl.session.queries import tree
from pglife_impl.session.queries.parser import parse_statements
from pglife_impl.session.queries.run import Run
from pglife_impl.session.state import SessionState


def run_string(sql: str, session: SessionState, extended: ExtendedProtocol) -> None:
    """Run the statements of a string; SqlError from the first that fails."""
    extended.forget_unnamed()
    session.xact.start()
    if session.settings.gucs.get("log_statement") == "all":
        session.output.log_line(f"statement: {sql}")
    statements = parse_statements(sql)
    for number, statement in enumerate(statements, 1):
        session.context.set_activity(tree.command_tag(statement))
        require_working_transaction(statement, session)
        session.xact.start(implicit_block=len(statements) > 1)
        session.interrupts.check()
        tag = _run_statement(statement, Run(session, extended))
        is_last = number == len(statements)
        if is_last or isinstance(statement, tree.TransactionControl):
            session.xact.finish()
        session.output.send(command_complete(tag))
    if not statements:
        session.output.send(empty_query_response())
    session.xact.finish()


def _run_statement(statement: tree.Statement, run: Run) -> str:
    """Run one statement and send its rows; return the command tag."""
    session = run.session
    if isinstance(statement, tree.TransactionControl):
        return control_transaction(statement, session)
    ready = make_ready(statement, session)
    columns = ready.columns
    if columns is None:
        ready.rows(run)
        return ready.tag
    ready.fold(run)
    session.output.send(describe(columns))
    count = 0
    zone = run.zone
    for row in ready.rows(run):
        session.output.send(encode_row(row, columns, (), zone))
        session.interrupts.check()
        count += 1
    return ready.tag_with_rows(count)
