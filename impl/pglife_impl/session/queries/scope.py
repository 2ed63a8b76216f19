"""What the analysis of expressions works with: typed expressions, columns, parameters, plans.

Begin with Typed, then Scope.find().
Source: parser/parse_relation.c: colNameToVar(); parser/parse_param.c.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from pglife_impl.protocol import SqlState
from pglife_impl.protocol.report import error
from pglife_impl.session.queries import tree, types
from pglife_impl.session.queries.run import Evaluate, Row, Run
from pglife_impl.session.queries.types import PgType, Value


@dataclass(frozen=True)
class Typed:
    """An analyzed expression. `literal` and `parameter` are set while the type is unknown."""

    type: PgType
    evaluate: Evaluate
    literal: str | None = None
    parameter: int | None = None
    position: int | None = None
    returns_set: bool = False
    is_constant: bool = False


@dataclass(frozen=True)
class OutputColumn:
    """One column of a result."""

    name: str
    type: PgType


@dataclass(frozen=True)
class Plan:
    """A query that can be run. `constants` are evaluated first, so that their errors come first."""

    columns: tuple[OutputColumn, ...]
    rows: Callable[[Run], Iterator[Row]]
    constants: tuple[Evaluate, ...] = ()


class SubqueryPlanner(Protocol):
    """Plans the queries inside an expression: query.py, which stands above analysis.py."""

    def __call__(self, query: tree.Query, /) -> Plan: ...


@dataclass
class Parameters:
    """The types of `$1`, `$2`, ...: given by the client, or derived from their use."""

    types: list[PgType | None] = field(default_factory=list)
    allowed: bool = True

    def use(self, number: int) -> PgType | None:
        """Record the use of a parameter; return its type if that is known."""
        while len(self.types) < number:
            self.types.append(None)
        return self.types[number - 1]

    def decide(self, number: int, of: PgType) -> None:
        """Set the type of a parameter."""
        self.types[number - 1] = of

    def final(self) -> list[PgType]:
        """Return all types; undecided ones are text."""
        return [types.TEXT if each is None else each for each in self.types]


@dataclass(frozen=True)
class ScopeColumn:
    """A column that expressions can refer to."""

    table: str
    name: str
    type: PgType
    index: int


@dataclass
class Scope:
    """The columns and tables that expressions can refer to."""

    columns: list[ScopeColumn] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)

    def find(self, reference: tree.ColumnRef) -> ScopeColumn:
        """Return the column of a reference; SqlError if it is unknown or ambiguous."""
        if reference.table is not None and reference.table not in self.tables:
            raise error(
                SqlState.UNDEFINED_TABLE,
                f'missing FROM-clause entry for table "{reference.table}"',
                position=reference.position,
            )
        found = [
            column
            for column in self.columns
            if column.name == reference.name and reference.table in (None, column.table)
        ]
        if not found:
            shown = f"{reference.table}.{reference.name}" if reference.table else None
            raise error(
                SqlState.UNDEFINED_COLUMN,
                f"column {shown} does not exist"
                if shown
                else f'column "{reference.name}" does not exist',
                position=reference.position,
            )
        if len(found) > 1:
            raise error(
                SqlState.AMBIGUOUS_COLUMN,
                f'column reference "{reference.name}" is ambiguous',
                position=reference.position,
            )
        return found[0]


def constant(value: Value, of: PgType, position: int | None = None) -> Typed:
    """Return a constant expression."""
    return Typed(of, lambda row, run: value, position=position, is_constant=True)
