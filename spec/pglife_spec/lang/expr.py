"""Expressions of the model language: a small closed tree over Booleans, enums and integers.

Begin with Expr and its operators, then Visitor: one abstract method for each kind of node, so that
a meaning which lacks one cannot be created. What expressions mean is in `meanings/`.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, NoReturn, TypeVar

from pglife_spec.lang.errors import SpecError

T = TypeVar("T")


class LanguageError(SpecError):
    """The model uses the language wrongly; the message names what to write instead."""


class Sort:
    """What values an expression takes."""

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, repr=False)
class BoolSort(Sort):
    """True or false."""

    def __str__(self) -> str:
        return "Bool"


@dataclass(frozen=True, repr=False)
class IntSort(Sort):
    """A whole number; a variable of this sort is a count and never negative."""

    def __str__(self) -> str:
        return "Int"


@dataclass(frozen=True, repr=False)
class EnumSort(Sort):
    """The members of a Python enum, each with its position as its number."""

    cls: type[enum.Enum]

    def __str__(self) -> str:
        return self.cls.__name__

    @property
    def members(self) -> tuple[enum.Enum, ...]:
        return tuple(self.cls)

    def code(self, member: enum.Enum) -> int:
        """The number that stands for a member: its position in the declaration."""
        return self.members.index(member)


BOOL = BoolSort()
INT = IntSort()

Value = bool | int | enum.Enum


class Expr:
    """Base of all expressions. Build them with Python's operators.

    `&`, `|`, `~` are and, or, not; `==`, `!=`, `<`, `<=`, `>`, `>=` compare; `+`, `-` count.
    Python's own `and`, `or`, `not`, `if` cannot work on a tree and raise LanguageError.
    """

    sort: Sort

    def __bool__(self) -> NoReturn:
        raise LanguageError(
            "an expression has no truth value of its own: write & | ~ instead of and/or/not, "
            "When(condition, ...) instead of if, and in_(x, A, B) instead of x in (A, B)"
        )

    def __eq__(self, other: object) -> Expr:  # type: ignore[override]
        return Eq(self, lift(other))

    def __ne__(self, other: object) -> Expr:  # type: ignore[override]
        return ~Eq(self, lift(other))

    def __hash__(self) -> int:
        return id(self)

    def __lt__(self, other: object) -> Expr:
        right = lift(other)
        return And((Le(self, right), ~Eq(self, right)))

    def __le__(self, other: object) -> Expr:
        return Le(self, lift(other))

    def __gt__(self, other: object) -> Expr:
        return lift(other) < self

    def __ge__(self, other: object) -> Expr:
        return Le(lift(other), self)

    def __add__(self, other: object) -> Expr:
        return Add(self, lift(other))

    def __sub__(self, other: object) -> Expr:
        return Sub(self, lift(other))

    def __and__(self, other: object) -> Expr:
        return all_of(self, other)

    def __rand__(self, other: object) -> Expr:
        return all_of(other, self)

    def __or__(self, other: object) -> Expr:
        return any_of(self, other)

    def __ror__(self, other: object) -> Expr:
        return any_of(other, self)

    def __invert__(self) -> Expr:
        return self.arg if isinstance(self, Not) else Not(self)

    def __repr__(self) -> str:
        return show(self)


def _need(expr: Expr, sort: Sort, where: str) -> None:
    if expr.sort != sort:
        raise LanguageError(f"{where} takes {sort}, got {expr.sort}: {expr!r}")


@dataclass(frozen=True, eq=False, repr=False)
class Const(Expr):
    """A value that never changes."""

    value: Value
    sort: Sort


@dataclass(frozen=True, eq=False, repr=False)
class Var(Expr):
    """A state variable. `bound` names the limit of a counter in exploration, which counters of one
    thing's local states share; proofs have none. `initial` is the value, or the possible values, at
    the start; None for any. A `local` variable has its initial value, the first of its sort, before
    and after every step. What is not `shown` is left out where people read changes."""

    name: str
    sort: Sort
    doc: str = ""
    bound: str | None = None
    initial: Value | tuple[Value, ...] | None = None
    local: bool = False
    shown: bool = True

    def starts(self) -> Expr:
        """Whether the variable has an initial value."""
        if self.initial is None:
            return TRUE
        return in_(self, *(self.initial if isinstance(self.initial, tuple) else (self.initial,)))

    def becomes(self, value: object) -> Assign:
        """The effect that gives this variable a new value."""
        return Assign(self, lift(value))

    def __hash__(self) -> int:
        return hash(self.name)


@dataclass(frozen=True, eq=False, repr=False)
class Param(Expr):
    """A constant of the machine (release, setting, limit): explorers fix it, proofs do not."""

    name: str
    sort: Sort
    doc: str = ""

    def __hash__(self) -> int:
        return hash(self.name)


@dataclass(frozen=True, eq=False, repr=False)
class Not(Expr):
    """True where its argument is false."""

    arg: Expr
    sort: Sort = BOOL

    def __post_init__(self) -> None:
        _need(self.arg, BOOL, "not")


@dataclass(frozen=True, eq=False, repr=False)
class And(Expr):
    """True where all arguments are true; true if there are none."""

    args: tuple[Expr, ...]
    sort: Sort = BOOL

    def __post_init__(self) -> None:
        for arg in self.args:
            _need(arg, BOOL, "and")


@dataclass(frozen=True, eq=False, repr=False)
class Or(Expr):
    """True where some argument is true; false if there are none."""

    args: tuple[Expr, ...]
    sort: Sort = BOOL

    def __post_init__(self) -> None:
        for arg in self.args:
            _need(arg, BOOL, "or")


@dataclass(frozen=True, eq=False, repr=False)
class Eq(Expr):
    """Equality of two expressions of one sort."""

    left: Expr
    right: Expr
    sort: Sort = BOOL

    def __post_init__(self) -> None:
        _need(self.right, self.left.sort, "equality")


@dataclass(frozen=True, eq=False, repr=False)
class Le(Expr):
    """Order: of integers by size, of enum members by their place in the declaration."""

    left: Expr
    right: Expr
    sort: Sort = BOOL

    def __post_init__(self) -> None:
        if self.left.sort == BOOL:
            raise LanguageError("Booleans have no order; write implies(a, b)")
        _need(self.right, self.left.sort, "order")


@dataclass(frozen=True, eq=False, repr=False)
class _Count(Expr):
    left: Expr
    right: Expr
    sort: Sort = INT

    def __post_init__(self) -> None:
        _need(self.left, INT, "plus or minus")
        _need(self.right, INT, "plus or minus")


class Add(_Count):
    """Sum of two integers."""


class Sub(_Count):
    """Difference of two integers."""


@dataclass(frozen=True, eq=False, repr=False)
class Ite(Expr):
    """One of two expressions of the same sort, chosen by a Boolean."""

    cond: Expr
    then: Expr
    other: Expr

    def __post_init__(self) -> None:
        _need(self.cond, BOOL, "if-then-else")
        _need(self.other, self.then.sort, "if-then-else")

    @property
    def sort(self) -> Sort:  # type: ignore[override]
        return self.then.sort


@dataclass(frozen=True)
class Assign:
    """The effect that gives a variable a new value; see Var.becomes."""

    var: Var
    value: Expr

    def __post_init__(self) -> None:
        _need(self.value, self.var.sort, f"assignment to {self.var.name}")


class Visitor(ABC, Generic[T]):
    """A meaning of expressions: one result a node, from the results of its parts.

    `visit` walks a tree, each shared node once for each call of `fresh` (sharing keeps
    large symbolic steps small).
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Expr, T]] = {}

    def fresh(self) -> None:
        """Forget the results computed so far."""
        self._seen.clear()

    def visit(self, expr: Expr) -> T:
        known = self._seen.get(id(expr))
        if known is not None:
            return known[1]
        result = self._dispatch(expr)
        self._seen[id(expr)] = (expr, result)
        return result

    def _dispatch(self, expr: Expr) -> T:
        match expr:
            case Const():
                return self.const(expr)
            case Var():
                return self.var(expr)
            case Param():
                return self.param(expr)
            case Not():
                return self.not_(self.visit(expr.arg))
            case And():
                return self.and_([self.visit(a) for a in expr.args])
            case Or():
                return self.or_([self.visit(a) for a in expr.args])
            case Eq():
                return self.eq(self.visit(expr.left), self.visit(expr.right))
            case Le():
                return self.le(self.visit(expr.left), self.visit(expr.right))
            case Add():
                return self.add(self.visit(expr.left), self.visit(expr.right))
            case Sub():
                return self.sub(self.visit(expr.left), self.visit(expr.right))
            case Ite():
                return self.ite(
                    self.visit(expr.cond), self.visit(expr.then), self.visit(expr.other)
                )
        raise LanguageError(f"no such node kind: {type(expr).__name__}")

    @abstractmethod
    def const(self, node: Const) -> T: ...
    @abstractmethod
    def var(self, node: Var) -> T: ...
    @abstractmethod
    def param(self, node: Param) -> T: ...
    @abstractmethod
    def not_(self, arg: T) -> T: ...
    @abstractmethod
    def and_(self, args: list[T]) -> T: ...
    @abstractmethod
    def or_(self, args: list[T]) -> T: ...
    @abstractmethod
    def eq(self, left: T, right: T) -> T: ...
    @abstractmethod
    def le(self, left: T, right: T) -> T: ...
    @abstractmethod
    def add(self, left: T, right: T) -> T: ...
    @abstractmethod
    def sub(self, left: T, right: T) -> T: ...
    @abstractmethod
    def ite(self, cond: T, then: T, other: T) -> T: ...


def const(value: Value) -> Const:
    """The constant for a Python bool, int or enum member."""
    if isinstance(value, bool):
        return Const(value, BOOL)
    if isinstance(value, enum.Enum):
        return Const(value, EnumSort(type(value)))
    return Const(value, INT)


TRUE = const(True)
FALSE = const(False)


def lift(value: object) -> Expr:
    """A Python value as an expression; LanguageError for what is no value of the language."""
    if isinstance(value, Expr):
        return value
    if isinstance(value, bool | int | enum.Enum):
        return const(value)
    raise LanguageError(f"not an expression, bool, int or enum member: {value!r}")


def all_of(*parts: object) -> Expr:
    """True where every part is; constants are folded away."""
    return _junction(And, parts, neutral=TRUE, decided=FALSE)


def any_of(*parts: object) -> Expr:
    """True where some part is; constants are folded away."""
    return _junction(Or, parts, neutral=FALSE, decided=TRUE)


def _junction(
    kind: type[And] | type[Or], parts: Iterable[object], *, neutral: Expr, decided: Const
) -> Expr:
    args: list[Expr] = []
    for part in map(lift, parts):
        _need(part, BOOL, kind.__name__.lower())
        if isinstance(part, Const):
            if part.value == decided.value:
                return decided
        else:
            args.extend(part.args if isinstance(part, kind) else (part,))
    if len(args) > 1:
        return kind(tuple(args))
    return args[0] if args else neutral


def implies(left: object, right: object) -> Expr:
    """True unless the left is true and the right is false."""
    return any_of(~lift(left), right)


def iff(left: object, right: object) -> Expr:
    """True where both sides have the same truth value."""
    return Eq(lift(left), lift(right))


def in_(expr: Expr, *members: Value) -> Expr:
    """True where the expression is one of the members."""
    return any_of(*(Eq(expr, const(m)) for m in members))


def ite(cond: object, then: object, other: object) -> Expr:
    """The second argument where the first is true, else the third."""
    chosen = lift(cond)
    if isinstance(chosen, Const):
        return lift(then) if chosen.value else lift(other)
    return Ite(chosen, lift(then), lift(other))


def total(parts: Iterable[Expr]) -> Expr:
    """The sum of integer expressions; zero if there are none."""
    result: Expr | None = None
    for part in parts:
        result = part if result is None else result + part
    return const(0) if result is None else result


_OR, _AND, _NOT, _COMPARED, _SUM, _ATOM = range(6)
"""How tightly a text holds together: a part that does so less stands in parentheses."""


class _Show(Visitor[tuple[str, int]]):
    """Expressions as a person would write them, each with how tightly it holds together.

    And holds tighter than or, but a reader should not have to know: both get parentheses.
    """

    def const(self, node: Const) -> tuple[str, int]:
        value = node.value
        return value.name if isinstance(value, enum.Enum) else str(value).lower(), _ATOM

    def var(self, node: Var | Param) -> tuple[str, int]:
        return node.name, _ATOM

    param = var

    def not_(self, arg: tuple[str, int]) -> tuple[str, int]:
        return f"not {_at(arg, _ATOM)}", _NOT

    def and_(self, args: list[tuple[str, int]]) -> tuple[str, int]:
        return " and ".join(_at(a, _AND) for a in args) or "true", _AND

    def or_(self, args: list[tuple[str, int]]) -> tuple[str, int]:
        return " or ".join(_at(a, _NOT) for a in args) or "false", _OR

    def eq(self, left: tuple[str, int], right: tuple[str, int]) -> tuple[str, int]:
        return f"{_at(left, _SUM)} = {_at(right, _SUM)}", _COMPARED

    def le(self, left: tuple[str, int], right: tuple[str, int]) -> tuple[str, int]:
        return f"{_at(left, _SUM)} <= {_at(right, _SUM)}", _COMPARED

    def add(self, left: tuple[str, int], right: tuple[str, int]) -> tuple[str, int]:
        return f"{_at(left, _SUM)} + {_at(right, _SUM)}", _SUM

    def sub(self, left: tuple[str, int], right: tuple[str, int]) -> tuple[str, int]:
        return f"{_at(left, _SUM)} - {_at(right, _ATOM)}", _SUM

    def ite(
        self, cond: tuple[str, int], then: tuple[str, int], other: tuple[str, int]
    ) -> tuple[str, int]:
        return f"(if {cond[0]} then {then[0]} else {other[0]})", _ATOM


def _at(part: tuple[str, int], level: int) -> str:
    return part[0] if part[1] >= level else f"({part[0]})"


def show(expr: Expr) -> str:
    """The expression as text; `parse` reads it."""
    return _Show().visit(expr)[0]
