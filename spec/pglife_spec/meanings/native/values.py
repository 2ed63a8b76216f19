"""Expressions as LLVM IR. Begin with Values.

A condition over one variable is a table of bits, one for each value that the variable has; tables
of single values in one word of the state become one masked comparison.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pglife_spec.lang.expr import (
    BOOL,
    And,
    Const,
    Eq,
    Expr,
    Ite,
    Le,
    Not,
    Or,
    Param,
    Var,
    Visitor,
)
from pglife_spec.meanings.fold import place
from pglife_spec.meanings.native.text import Function
from pglife_spec.meanings.pack import Field, Layout

WIDE = 63
"""Bits of a state in one native word; the last one is free for a mark."""

TABLE_BITS = 64


@dataclass(frozen=True)
class Place:
    """Where a variable lies in native words."""

    word: int
    shift: int


class Words:
    """How a state lies in native words.

    Args:
        layout: its variables.
        frozen: those that always have one value, and so need no bits.
    """

    def __init__(self, layout: Layout, frozen: Mapping[str, Expr]) -> None:
        self.layout = layout
        self.frozen = frozen
        self.places: dict[str, Place] = {}
        word = shift = 0
        for field in layout:
            if field.name in frozen or field.var.local:
                continue
            if shift + field.width > WIDE:
                word, shift = word + 1, 0
            self.places[field.name] = Place(word, shift)
            shift += field.width
        self.width = word + 1

    def pack(self, state: int) -> list[int] | None:
        """The words of a packed state; None if a frozen variable has another value."""
        words = [0] * self.width
        for field in self.layout:
            code = state >> field.offset & field.mask
            if field.name in self.places:
                at = self.places[field.name]
                words[at.word] |= code << at.shift
            elif not field.var.local and code != self._code(field):
                return None
        return words

    def unpack(self, words: Sequence[int]) -> int:
        """The packed state of some words."""
        state = 0
        for field in self.layout:
            if field.name in self.places:
                at = self.places[field.name]
                state |= (words[at.word] >> at.shift & field.mask) << field.offset
            elif not field.var.local:
                state |= self._code(field) << field.offset
        return state

    def _code(self, field: Field) -> int:
        value = self.frozen[field.name]
        assert isinstance(value, Const)
        return place(value)


@dataclass(frozen=True)
class Table:
    """A condition over one variable: bit k tells whether it holds where the variable is k."""

    field: Field
    bits: int

    @property
    def every(self) -> int:
        return (1 << (self.field.top + 1)) - 1

    def inverted(self) -> Table:
        return Table(self.field, self.every & ~self.bits)


class Tables:
    """The conditions of a machine that look at one variable only."""

    def __init__(self, lies: Words) -> None:
        self.lies = lies
        self._known: dict[int, tuple[Expr, Table | None]] = {}

    def of(self, expr: Expr) -> Table | None:
        """The table of a condition; None where it looks at several variables, or none."""
        if id(expr) not in self._known:
            self._known[id(expr)] = (expr, self._made(expr))
        return self._known[id(expr)][1]

    def _made(self, expr: Expr) -> Table | None:
        match expr:
            case Var():
                return self._where(expr, 0b10) if expr.sort == BOOL else None
            case Not(arg):
                inner = self.of(arg)
                return None if inner is None else inner.inverted()
            case Eq(Var() as var, Const() as value):
                number = place(value)
                return self._where(var, 1 << number if number >= 0 else 0)
            case Le(Var() as var, Const() as value):
                return self._where(var, (1 << max(0, place(value) + 1)) - 1)
            case Le(Const() as value, Var() as var):
                return self._where(var, ~((1 << max(0, place(value))) - 1))
            case And(args) | Or(args):
                return self._joined([self.of(a) for a in args], conj=isinstance(expr, And))
        return None

    def _where(self, var: Var, bits: int) -> Table | None:
        field = self.lies.layout.by_name[var.name]
        every = (1 << (field.top + 1)) - 1
        return Table(field, bits & every) if field.top < TABLE_BITS else None

    def _joined(self, parts: Sequence[Table | None], *, conj: bool) -> Table | None:
        joined = parts[0] if parts else None
        for part in parts[1:]:
            if joined is None or part is None or part.field is not joined.field:
                return None
            bits = joined.bits & part.bits if conj else joined.bits | part.bits
            joined = Table(joined.field, bits)
        return joined


class Values(Visitor[str]):
    """Expressions as operands of a function. Enum members and counts are i64, truths i1.

    What is computed inside `scope` is forgotten at its end: its block does not come before those
    that follow.
    """

    def __init__(self, f: Function, tables: Tables, words: Sequence[str]) -> None:
        super().__init__()
        self._f = f
        self._tables = tables
        self.words = words

    @contextmanager
    def scope(self) -> Iterator[None]:
        outer = self._seen
        self._seen = dict(outer)
        yield
        self._seen = outer

    def is_cheap(self, expr: Expr) -> bool:
        """Whether a condition is a comparison or two."""
        return self._tables.of(expr) is not None

    def all_of(self, exprs: Sequence[Expr]) -> str:
        """Whether all of some conditions hold."""
        return self._junction(exprs, conj=True)

    def unpacked(self, field: Field) -> str:
        """A variable's number, as i64."""
        at = self._tables.lies.places[field.name]
        word = self.words[at.word]
        moved = self._f.compute("lshr", word, at.shift) if at.shift else word
        return self._f.compute("and", moved, field.mask)

    def _dispatch(self, expr: Expr) -> str:
        table = self._tables.of(expr)
        if table is not None:
            return self._all([table], conj=True)[0]
        match expr:
            case And(args) | Or(args):
                return self._junction(args, conj=isinstance(expr, And))
            case Eq(left, right):
                kind = "i1" if left.sort == BOOL else "i64"
                return self._f.let(f"icmp eq {kind} {self.visit(left)}, {self.visit(right)}")
            case Ite(cond, then, other):
                kind = "i1" if expr.sort == BOOL else "i64"
                test, yes, no = self.visit(cond), self.visit(then), self.visit(other)
                return self._f.let(f"select i1 {test}, {kind} {yes}, {kind} {no}")
        return super()._dispatch(expr)

    def _junction(self, exprs: Sequence[Expr], *, conj: bool) -> str:
        tables: dict[str, Table] = {}
        rest: list[Expr] = []
        for expr in exprs:
            table = self._tables.of(expr)
            if table is None:
                rest.append(expr)
                continue
            known = tables.get(table.field.name)
            if known is not None:
                bits = known.bits & table.bits if conj else known.bits | table.bits
                table = Table(table.field, bits)
            tables[table.field.name] = table
        parts = self._all(list(tables.values()), conj=conj) + [self.visit(e) for e in rest]
        result = parts[0] if parts else str(conj).lower()
        for part in parts[1:]:
            result = self._f.let(f"{'and' if conj else 'or'} i1 {result}, {part}")
        return result

    def _all(self, tables: Sequence[Table], *, conj: bool) -> list[str]:
        """Operands whose conjunction, or disjunction, is that of the tables."""
        parts: list[str] = []
        single: dict[int, tuple[int, int]] = {}
        for table in tables:
            # A disjunction is the negation of a conjunction: there, single values are those left.
            wanted = table if conj else table.inverted()
            if wanted.bits in (0, wanted.every):
                parts.append(str((wanted.bits != 0) == conj).lower())
            elif wanted.bits.bit_count() == 1:
                at = self._tables.lies.places[table.field.name]
                mask, value = single.get(at.word, (0, 0))
                mask |= table.field.mask << at.shift
                value |= (wanted.bits.bit_length() - 1) << at.shift
                single[at.word] = (mask, value)
            else:
                parts.append(self._looked_up(table))
        for word, (mask, value) in single.items():
            kept = self._f.compute("and", self.words[word], mask)
            parts.append(self._f.compare("eq" if conj else "ne", kept, value))
        return parts

    def _looked_up(self, table: Table) -> str:
        inverse = table.inverted()
        if inverse.bits.bit_count() == 1:
            at = self._tables.lies.places[table.field.name]
            kept = self._f.compute("and", self.words[at.word], table.field.mask << at.shift)
            return self._f.compare("ne", kept, (inverse.bits.bit_length() - 1) << at.shift)
        bits = table.bits - (1 << 64) if table.bits >> 63 else table.bits
        bit = self._f.compute("lshr", str(bits), self.unpacked(table.field))
        return self._f.let(f"trunc i64 {bit} to i1")

    def const(self, node: Const) -> str:
        return str(node.value).lower() if node.sort == BOOL else str(place(node))

    def var(self, node: Var) -> str:
        return self.unpacked(self._tables.lies.layout.by_name[node.name])

    def param(self, node: Param) -> str:
        raise AssertionError(f"parameter {node.name} was not replaced")

    def not_(self, arg: str) -> str:
        return self._f.let(f"xor i1 {arg}, true")

    def and_(self, args: list[str]) -> str:
        raise AssertionError("written by _junction")

    def or_(self, args: list[str]) -> str:
        raise AssertionError("written by _junction")

    def eq(self, left: str, right: str) -> str:
        raise AssertionError("written by _dispatch")

    def le(self, left: str, right: str) -> str:
        return self._f.compare("sle", left, right)

    def add(self, left: str, right: str) -> str:
        return self._f.compute("add", left, right)

    def sub(self, left: str, right: str) -> str:
        return self._f.compute("sub", left, right)

    def ite(self, cond: str, then: str, other: str) -> str:
        raise AssertionError("written by _dispatch")
