"""The simple query protocol: a string of statements, each run to its end.

Begin with   run_string(). Imported at a session's first statement, never before (parser.py).
Owns         the order of a simple query: parse all, then run one after another.
Leaves out   clocks, transactions and what an error does (core.py); how a statement runs
             (portal.py).
Source       tcop/postgres.c: exec_simple_query().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pglife_impl.protocol.backend import command_complete, empty_query_response
from pglife_impl.session.protocol.portal import (
    describe,
    encode_row,
    make_ready,
    require_working_transaction,
)
from pglife_impl.session.queries import tree
from pglife_impl.session.queries.parser import parse_statements
from pglife_impl.session.queries.run import Run

if TYPE_CHECKING:
    from pglife_impl.session.loop import Session


def run_string(sql: str, session: Session) -> None:
    """Run the statements of a string; SqlError from the first that fails."""
    session.extended.forget_unnamed()
    session.start_transaction()
    if session.settings.gucs.get("log_statement") == "all":
        session.context.log("LOG", f"statement: {sql}")
    statements = parse_statements(sql)
    for number, statement in enumerate(statements, 1):
        session.context.set_activity(tree.command_tag(statement))
        require_working_transaction(statement, session)
        session.start_transaction(implicit_block=len(statements) > 1)
        session.check_for_interrupts()
        tag = _run_statement(statement, session)
        is_last = number == len(statements)
        if is_last or isinstance(statement, tree.TransactionControl):
            session.finish_transaction()
        session.context.send(command_complete(tag))
    if not statements:
        session.context.send(empty_query_response())
    session.finish_transaction()


def _run_statement(statement: tree.Statement, session: Session) -> str:
    """Run one statement; return its tag."""
    if isinstance(statement, tree.TransactionControl):
        return session.control(statement)
    ready = make_ready(statement, session)
    run = Run(session)
    columns = ready.columns
    if columns is None:
        ready.rows(run)
        return ready.tag
    ready.fold(run)
    session.context.send(describe(columns))
    count = 0
    zone = run.zone
    for row in ready.rows(run):
        session.context.send(encode_row(row, columns, (), zone))
        session.check_for_interrupts()
        count += 1
    return ready.tag_with_rows(count)
