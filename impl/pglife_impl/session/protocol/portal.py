"""A checked statement: columns, parameters, how to run it, and its command tag.

Begin with make_ready(). Both protocols run queries and utility statements through it.
Source: tcop/pquery.c: PortalStart(), PortalRun(); tcop/dest.c; access/common/printtup.c.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from pglife_impl.protocol import TransactionStatus
from pglife_impl.protocol.backend import Column, data_row, row_description
from pglife_impl.session.commands import utility
from pglife_impl.session.queries import tree, types
from pglife_impl.session.queries.query import plan_query
from pglife_impl.session.queries.run import Evaluate, Row, Run
from pglife_impl.session.queries.scope import OutputColumn, Parameters
from pglife_impl.session.queries.types import PgType, Value
from pglife_impl.session.state import SessionState
from pglife_impl.session.transaction import TransactionVerb, failed_block

TEXT_FORMAT, BINARY_FORMAT = 0, 1


@dataclass
class Ready:
    """A checked statement; `columns` is None if it returns no rows."""

    statement: tree.Statement
    tag: str
    columns: tuple[OutputColumn, ...] | None
    rows: Callable[[Run], Iterator[Row]]
    parameter_types: list[PgType] = field(default_factory=list)
    constants: tuple[Evaluate, ...] = ()

    def tag_with_rows(self, count: int) -> str:
        """Return the tag for CommandComplete after `count` rows."""
        return f"SELECT {count}" if self.tag == "SELECT" else self.tag

    def fold(self, run: Run) -> None:
        """Evaluate the constants, as PostgreSQL's planner does: their errors come first."""
        for constant in self.constants:
            constant((), run)


def require_working_transaction(statement: tree.Statement, session: SessionState) -> None:
    """SqlError 25P02 in a failed block, unless the statement can end it."""
    failed = session.xact.transaction.status is TransactionStatus.FAILED
    if failed and not ends_failed_block(statement):
        raise failed_block()


def control_transaction(statement: tree.TransactionControl, session: SessionState) -> str:
    """Run BEGIN, COMMIT and the like; return the command tag."""
    return session.xact.control(
        statement.verb, statement.savepoint, statement.settings, chain=statement.chain
    )


def ends_failed_block(statement: tree.Statement) -> bool:
    """Return whether a statement may run in a failed block: IsTransactionExitStmt()."""
    return isinstance(statement, tree.TransactionControl) and statement.verb in (
        TransactionVerb.COMMIT,
        TransactionVerb.ROLLBACK,
        TransactionVerb.ROLLBACK_TO,
    )


def make_ready(
    statement: tree.Statement,
    session: SessionState,
    declared: Sequence[PgType | None] | None = None,
) -> Ready:
    """Check a statement; SqlError if it is invalid.

    `declared` holds the parameter types that the client gave; None means that parameters are not
    allowed, as in the simple protocol.
    """
    tag = tree.command_tag(statement)
    if isinstance(statement, tree.Select | tree.Values):
        parameters = Parameters(list(declared or ()), allowed=declared is not None)
        plan = plan_query(statement, parameters)
        return Ready(statement, tag, plan.columns, plan.rows, parameters.final(), plan.constants)
    if isinstance(statement, tree.Show):
        return Ready(statement, tag, utility.show_columns(statement, session), _show(statement))

    def perform(run: Run) -> Iterator[Row]:
        utility.perform(statement, run)
        return iter(())

    return Ready(statement, tag, None, perform)


def _show(statement: tree.Show) -> Callable[[Run], Iterator[Row]]:
    return lambda run: utility.show_rows(statement, run.session)


def format_of(formats: Sequence[int], index: int) -> int:
    """Return the format of a column: text if none is given; a single one applies to all."""
    if not formats:
        return TEXT_FORMAT
    return formats[0] if len(formats) == 1 else formats[index]


def describe(columns: Sequence[OutputColumn], formats: Sequence[int] = ()) -> bytes:
    """Return RowDescription for these columns."""
    return row_description(
        Column(column.name, column.type.oid, column.type.size, format=format_of(formats, index))
        for index, column in enumerate(columns)
    )


def encode_row(
    row: Sequence[Value], columns: Sequence[OutputColumn], formats: Sequence[int], zone: str
) -> bytes:
    """Return DataRow for one row."""
    cells: list[bytes | None] = []
    for index, (value, column) in enumerate(zip(row, columns, strict=True)):
        if value is None:
            cells.append(None)
        elif format_of(formats, index) == BINARY_FORMAT:
            cells.append(types.write_binary(value, column.type, zone))
        else:
            text = types.write_text(value, column.type, zone)
            cells.append(text.encode("utf-8", "surrogateescape"))
    return data_row(cells)
