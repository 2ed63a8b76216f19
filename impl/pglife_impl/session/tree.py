"""Statements and expressions as plain data: what the parser makes and the rest reads.

Begin with   Statement, at the end.
Owns         our own small tree, so that the SQL library is named in one module only (parser.py).
Leaves out   types and meaning (analysis.py, execute.py).
Source       parser/gram.y, as far as this server goes.
"""

from __future__ import annotations

from decimal import Decimal
from enum import Enum

from msgspec import Struct


class Node(Struct, frozen=True, kw_only=True):
    """Anything with a place in the query string; 1-based, as the client is told it.

    Two are equal if they say the same, wherever they stand.
    """

    position: int | None = None

    def _said(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__struct_fields__ if name != "position")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._said() == other._said()

    def __hash__(self) -> int:
        return hash((type(self), self._said()))


class Constant(Node, frozen=True):
    """A literal. A string is of unknown type until its surroundings say more."""

    value: int | Decimal | str | bool | None


class Parameter(Node, frozen=True):
    """`$n`."""

    number: int


class ColumnRef(Node, frozen=True):
    """A column, or a whole row's alias."""

    name: str
    table: str | None = None


class Star(Node, frozen=True):
    """`*` or `t.*`."""

    table: str | None = None


class Call(Node, frozen=True):
    """A function call; `current_user` and its like are calls without arguments."""

    name: str
    arguments: tuple[Expression, ...] = ()
    star: bool = False
    distinct: bool = False
    filter: Expression | None = None


class Operation(Node, frozen=True):
    """An operator by its name, `~~` for LIKE included; prefix if there is no left side."""

    operator: str
    left: Expression | None
    right: Expression


class Connective(Enum):
    """AND, OR, NOT."""

    AND = "AND"
    OR = "OR"
    NOT = "NOT"


class Logical(Node, frozen=True):
    """Three-valued logic; NOT has one argument."""

    connective: Connective
    arguments: tuple[Expression, ...]


class Is(Node, frozen=True):
    """`x IS [NOT] NULL`, TRUE, FALSE: `value` is None, True or False."""

    argument: Expression
    value: bool | None
    negated: bool = False


class InList(Node, frozen=True):
    """`x IN (a, b, ...)`."""

    argument: Expression
    items: tuple[Expression, ...]


class InQuery(Node, frozen=True):
    """`x IN (select ...)`."""

    argument: Expression
    query: Query


class AnyOf(Node, frozen=True):
    """`x = ANY (array)`."""

    operator: str
    left: Expression
    array: Expression


class ArrayOf(Node, frozen=True):
    """`ARRAY[a, b]`."""

    items: tuple[Expression, ...]


class Case(Node, frozen=True):
    """`CASE [x] WHEN a THEN b ... ELSE c END`."""

    operand: Expression | None
    branches: tuple[tuple[Expression, Expression], ...]
    default: Expression | None


class Cast(Node, frozen=True):
    """`x::type`."""

    argument: Expression
    type_name: str


class Scalar(Node, frozen=True):
    """A query in place of a value."""

    query: Query


class Exists(Node, frozen=True):
    """`EXISTS (select ...)`."""

    query: Query


Expression = (
    Constant
    | Parameter
    | ColumnRef
    | Star
    | Call
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


class Item(Node, frozen=True):
    """One entry of a select list."""

    expression: Expression
    alias: str | None = None


class Order(Node, frozen=True):
    """One entry of ORDER BY."""

    expression: Expression
    descending: bool = False
    nulls_first: bool = False


class JoinKind(Enum):
    """How a source joins those before it."""

    CROSS = "CROSS"
    INNER = "INNER"
    LEFT = "LEFT"


class Source(Node, frozen=True):
    """One entry of FROM: a relation, a function or a query, under a name."""

    what: str | Call | Query
    alias: str | None = None
    columns: tuple[str, ...] = ()
    join: JoinKind = JoinKind.CROSS
    condition: Expression | None = None


class Select(Node, frozen=True):
    """A SELECT without set operations."""

    items: tuple[Item, ...]
    sources: tuple[Source, ...] = ()
    where: Expression | None = None
    group: tuple[Expression, ...] = ()
    having: Expression | None = None
    distinct: bool = False
    order: tuple[Order, ...] = ()
    limit: Expression | None = None
    offset: Expression | None = None


class Values(Node, frozen=True):
    """VALUES (...), (...)."""

    rows: tuple[tuple[Expression, ...], ...]


Query = Select | Values


class TransactionVerb(Enum):
    """The statements that steer a transaction; the value is the command tag."""

    BEGIN = "BEGIN"
    START = "START TRANSACTION"
    COMMIT = "COMMIT"
    ROLLBACK = "ROLLBACK"
    SAVEPOINT = "SAVEPOINT"
    RELEASE = "RELEASE"
    ROLLBACK_TO = "ROLLBACK TO"


class TransactionControl(Node, frozen=True):
    """BEGIN and its kin. Settings are transaction_isolation and the like, with their values."""

    verb: TransactionVerb
    savepoint: str = ""
    settings: tuple[tuple[str, str], ...] = ()
    chain: bool = False


class Set(Node, frozen=True):
    """SET [LOCAL] name = value; None is DEFAULT."""

    name: str
    value: str | None
    local: bool = False


class SetTransaction(Node, frozen=True):
    """SET TRANSACTION ..., or SET SESSION CHARACTERISTICS AS TRANSACTION ..."""

    settings: tuple[tuple[str, str], ...]
    session: bool = False


class Show(Node, frozen=True):
    """SHOW name; None is ALL."""

    name: str | None


class Reset(Node, frozen=True):
    """RESET name; None is ALL."""

    name: str | None


class Checkpoint(Node, frozen=True):
    """CHECKPOINT."""


class Discard(Node, frozen=True):
    """DISCARD ALL, PLANS, SEQUENCES or TEMP."""

    what: str


class Deallocate(Node, frozen=True):
    """DEALLOCATE name; None is ALL."""

    name: str | None


class ObjectKind(Enum):
    """What the catalogue knows."""

    ROLE = "ROLE"
    DATABASE = "DATABASE"


class Change(Enum):
    """What is done to it."""

    CREATE = "CREATE"
    ALTER = "ALTER"
    DROP = "DROP"


class CatalogChange(Node, frozen=True):
    """CREATE, ALTER or DROP of a role or a database, with its options as written."""

    change: Change
    kind: ObjectKind
    name: str
    options: tuple[tuple[str, str | int | bool], ...] = ()
    if_exists: bool = False


class GrantRole(Node, frozen=True):
    """GRANT role TO role, or REVOKE role FROM role."""

    roles: tuple[str, ...]
    members: tuple[str, ...]
    revoke: bool = False


class WriteTable(Node, frozen=True):
    """INSERT, UPDATE or DELETE of a table, which no server without tables has."""

    tag: str
    table: str


class Unsupported(Node, frozen=True):
    """A statement that PostgreSQL has and this server has not: 0A000, when it would run."""

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
    """Return the tag for the title and, rows aside, for CommandComplete (utility.c)."""
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
