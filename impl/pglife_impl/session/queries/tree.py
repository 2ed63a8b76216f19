"""Statements and expressions as plain data, from the parser.

Begin with Statement, at the end.
Source: parser/gram.y, the part that this server supports.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum

from pglife_impl.session.transaction import TransactionVerb


@dataclass(frozen=True)
class Node:
    """A node with a position in the query string, in characters from 1."""

    position: int | None = field(default=None, kw_only=True, compare=False)


@dataclass(frozen=True)
class Constant(Node):
    """A literal; the type of a string is unknown until the context decides it."""

    value: int | Decimal | str | bool | None


@dataclass(frozen=True)
class Parameter(Node):
    """`$n`."""

    number: int


@dataclass(frozen=True)
class ColumnRef(Node):
    """A column, or a whole row's alias."""

    name: str
    table: str | None = None


@dataclass(frozen=True)
class Star(Node):
    """`*` or `t.*`."""

    table: str | None = None


@dataclass(frozen=True)
class FuncCall(Node):
    """A function call; `current_user` and the like are calls without arguments."""

    name: str
    arguments: tuple[Expression, ...] = ()
    star: bool = False
    distinct: bool = False
    filter: Expression | None = None


@dataclass(frozen=True)
class Operation(Node):
    """An operator by its name, `~~` for LIKE; a prefix operator has no left side."""

    operator: str
    left: Expression | None
    right: Expression


class Connective(Enum):
    """AND, OR, NOT."""

    AND = "AND"
    OR = "OR"
    NOT = "NOT"


@dataclass(frozen=True)
class Logical(Node):
    """Three-valued logic; NOT has one argument."""

    connective: Connective
    arguments: tuple[Expression, ...]


@dataclass(frozen=True)
class Is(Node):
    """`x IS [NOT] NULL`, TRUE, FALSE: `value` is None, True or False."""

    argument: Expression
    value: bool | None
    negated: bool = False


@dataclass(frozen=True)
class InList(Node):
    """`x IN (a, b, ...)`."""

    argument: Expression
    items: tuple[Expression, ...]


@dataclass(frozen=True)
class InQuery(Node):
    """`x IN (select ...)`."""

    argument: Expression
    query: Query


@dataclass(frozen=True)
class AnyOf(Node):
    """`x = ANY (array)`."""

    operator: str
    left: Expression
    array: Expression


@dataclass(frozen=True)
class ArrayOf(Node):
    """`ARRAY[a, b]`."""

    items: tuple[Expression, ...]


@dataclass(frozen=True)
class Case(Node):
    """`CASE [x] WHEN a THEN b ... ELSE c END`."""

    operand: Expression | None
    branches: tuple[tuple[Expression, Expression], ...]
    default: Expression | None


@dataclass(frozen=True)
class Cast(Node):
    """`x::type`."""

    argument: Expression
    type_name: str


@dataclass(frozen=True)
class Scalar(Node):
    """A query in place of a value."""

    query: Query


@dataclass(frozen=True)
class Exists(Node):
    """`EXISTS (select ...)`."""

    query: Query


Expression = (
    Constant
    | Parameter
    | ColumnRef
    | Star
    | FuncCall
    | Operation
    | Logical
    | Is
    | InList
    | InQuery
    | AnyOf
    | ArrayOf
    | Case
    | Cast
    | Scalar
    | Exists
)


@dataclass(frozen=True)
class SelectItem(Node):
    """One entry of a select list."""

    expression: Expression
    alias: str | None = None


@dataclass(frozen=True)
class Order(Node):
    """One entry of ORDER BY."""

    expression: Expression
    descending: bool = False
    nulls_first: bool = False


class JoinKind(Enum):
    """How a source joins those before it."""

    CROSS = "CROSS"
    INNER = "INNER"
    LEFT = "LEFT"


@dataclass(frozen=True)
class FromItem(Node):
    """One entry of FROM: a relation, a function or a query, under a name."""

    what: str | FuncCall | Query
    alias: str | None = None
    columns: tuple[str, ...] = ()
    join: JoinKind = JoinKind.CROSS
    condition: Expression | None = None


@dataclass(frozen=True)
class Select(Node):
    """A SELECT without set operations."""

    items: tuple[SelectItem, ...]
    sources: tuple[FromItem, ...] = ()
    where: Expression | None = None
    group: tuple[Expression, ...] = ()
    having: Expression | None = None
    distinct: bool = False
    order: tuple[Order, ...] = ()
    limit: Expression | None = None
    offset: Expression | None = None


@dataclass(frozen=True)
class Values(Node):
    """VALUES (...), (...)."""

    rows: tuple[tuple[Expression, ...], ...]


Query = Select | Values


@dataclass(frozen=True)
class TransactionControl(Node):
    """A transaction statement; `settings` are transaction_isolation and the like."""

    verb: TransactionVerb
    savepoint: str = ""
    settings: tuple[tuple[str, str], ...] = ()
    chain: bool = False


@dataclass(frozen=True)
class Set(Node):
    """SET [LOCAL] name = value; None is DEFAULT."""

    name: str
    value: str | None
    local: bool = False


@dataclass(frozen=True)
class SetTransaction(Node):
    """SET TRANSACTION ..., or SET SESSION CHARACTERISTICS AS TRANSACTION ..."""

    settings: tuple[tuple[str, str], ...]
    session: bool = False


@dataclass(frozen=True)
class Show(Node):
    """SHOW name; None is ALL."""

    name: str | None


@dataclass(frozen=True)
class Reset(Node):
    """RESET name; None is ALL."""

    name: str | None


@dataclass(frozen=True)
class Checkpoint(Node):
    """CHECKPOINT."""


@dataclass(frozen=True)
class Discard(Node):
    """DISCARD ALL, PLANS, SEQUENCES or TEMP."""

    what: str


@dataclass(frozen=True)
class Deallocate(Node):
    """DEALLOCATE name; None is ALL."""

    name: str | None


class ObjectKind(Enum):
    """The kinds of objects in the catalog."""

    ROLE = "ROLE"
    DATABASE = "DATABASE"


class Change(Enum):
    """The change of an object."""

    CREATE = "CREATE"
    ALTER = "ALTER"
    DROP = "DROP"


@dataclass(frozen=True)
class CatalogChange(Node):
    """CREATE, ALTER or DROP of a role or a database, with its options as written."""

    change: Change
    kind: ObjectKind
    name: str
    options: tuple[tuple[str, str | int | bool], ...] = ()
    if_exists: bool = False


@dataclass(frozen=True)
class GrantRole(Node):
    """GRANT role TO role, or REVOKE role FROM role."""

    roles: tuple[str, ...]
    members: tuple[str, ...]
    revoke: bool = False


@dataclass(frozen=True)
class WriteTable(Node):
    """INSERT, UPDATE or DELETE; the server has no tables, so it always fails."""

    tag: str
    table: str


@dataclass(frozen=True)
class Unsupported(Node):
    """A statement that this server does not support: error 0A000 when it runs."""

    tag: str
    message: str = ""


Statement = (
    Select
    | Values
    | TransactionControl
    | Set
    | SetTransaction
    | Show
    | Reset
    | Checkpoint
    | Discard
    | Deallocate
    | CatalogChange
    | GrantRole
    | WriteTable
    | Unsupported
)


def command_tag(statement: Statement) -> str:
    """Return the tag for the title and for CommandComplete, without the row count."""
    match statement:
        case Select() | Values():
            return "SELECT"
        case TransactionControl(verb):
            return "ROLLBACK" if verb is TransactionVerb.ROLLBACK_TO else verb.value
        case Set() | SetTransaction():
            return "SET"
        case Show():
            return "SHOW"
        case Reset():
            return "RESET"
        case Checkpoint():
            return "CHECKPOINT"
        case Discard(what):
            return f"DISCARD {what}"
        case Deallocate(name):
            return "DEALLOCATE ALL" if name is None else "DEALLOCATE"
        case CatalogChange(change, kind):
            return f"{change.value} {kind.value}"
        case GrantRole():
            return "REVOKE ROLE" if statement.revoke else "GRANT ROLE"
        case WriteTable(tag) | Unsupported(tag):
            return tag
