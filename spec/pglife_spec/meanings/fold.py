"""Expressions rewritten smaller, with some names replaced by their known values.

Begin with Pool.fold(), then conjuncts() and settle(), which draw conclusions from guards. Within
one Pool equal expressions are the same object.
"""

from collections.abc import Iterable, Mapping, Sequence

from pglife_spec.lang.expr import (
    BOOL,
    INT,
    Add,
    And,
    Const,
    EnumSort,
    Eq,
    Expr,
    Ite,
    Le,
    Not,
    Or,
    Param,
    Sort,
    Sub,
    Value,
    Var,
    Visitor,
)


class Pool:
    """Keeps one object for each expression, so that `is` tells whether two are equal."""

    def __init__(self) -> None:
        self._known: dict[object, Expr] = {}
        self.true = self.const(True, BOOL)
        self.false = self.const(False, BOOL)
        self._plain = _Folder(self, {})

    def const(self, value: Value, sort: Sort) -> Const:
        made = self._keep(("const", sort, value), Const(value, sort))
        assert isinstance(made, Const)
        return made

    def var(self, node: Var) -> Expr:
        return self._keep(("var", node.name), node)

    def param(self, node: Param) -> Expr:
        return self._keep(("param", node.name), node)

    def fold(self, expr: Expr, known: Mapping[str, Expr] | None = None) -> Expr:
        """The expression with the known variables and parameters put in, made smaller."""
        folder = _Folder(self, known) if known else self._plain
        return folder.visit(expr)

    def folder(self, known: Mapping[str, Expr]) -> Visitor[Expr]:
        """A folder to use many times under the same knowledge."""
        return _Folder(self, known)

    def not_(self, arg: Expr) -> Expr:
        if isinstance(arg, Const):
            return self.false if arg.value else self.true
        if isinstance(arg, Not):
            return arg.arg
        return self._keep(("not", id(arg)), Not(arg))

    def junction(self, kind: type[And] | type[Or], args: Iterable[Expr]) -> Expr:
        """And or Or: flat, without repetitions; a contradiction decides it."""
        neutral, decided = (self.true, self.false) if kind is And else (self.false, self.true)
        kept: dict[int, Expr] = {}
        for arg in args:
            for part in arg.args if isinstance(arg, kind) else (arg,):
                if part is decided or id(self.not_(part)) in kept:
                    return decided
                if part is not neutral:
                    kept[id(part)] = part
        if kind is And and _two_values(kept.values()):
            return decided
        parts = tuple(kept.values())
        if not parts:
            return neutral
        if len(parts) == 1:
            return parts[0]
        return self._keep((kind.__name__, tuple(kept)), kind(parts))

    def eq(self, left: Expr, right: Expr) -> Expr:
        if left is right:
            return self.true
        if isinstance(left, Const):
            left, right = right, left
        if isinstance(right, Const):
            if isinstance(left, Const):
                return self.true if left.value == right.value else self.false
            if right.sort == BOOL:
                return left if right.value else self.not_(left)
            if isinstance(left, Ite) and _has_constant_branch(left):
                return self.ite(left.cond, self.eq(left.then, right), self.eq(left.other, right))
        return self._keep(("eq", id(left), id(right)), Eq(left, right))

    def le(self, left: Expr, right: Expr) -> Expr:
        if left is right:
            return self.true
        if isinstance(left, Const) and isinstance(right, Const):
            return self.true if place(left) <= place(right) else self.false
        return self._keep(("le", id(left), id(right)), Le(left, right))

    def add(self, left: Expr, right: Expr) -> Expr:
        if isinstance(left, Const) and isinstance(right, Const):
            return self.const(place(left) + place(right), INT)
        if isinstance(right, Const) and place(right) == 0:
            return left
        if isinstance(left, Const) and place(left) == 0:
            return right
        return self._keep(("add", id(left), id(right)), Add(left, right))

    def sub(self, left: Expr, right: Expr) -> Expr:
        if isinstance(left, Const) and isinstance(right, Const):
            return self.const(place(left) - place(right), INT)
        if isinstance(right, Const) and place(right) == 0:
            return left
        return self._keep(("sub", id(left), id(right)), Sub(left, right))

    def ite(self, cond: Expr, then: Expr, other: Expr) -> Expr:
        if isinstance(cond, Const):
            return then if cond.value else other
        if then is other:
            return then
        if isinstance(cond, Not):
            cond, then, other = cond.arg, other, then
        if then.sort == BOOL:
            if then is self.true:
                return self.junction(Or, (cond, other))
            if then is self.false:
                return self.junction(And, (self.not_(cond), other))
            if other is self.true:
                return self.junction(Or, (self.not_(cond), then))
            if other is self.false:
                return self.junction(And, (cond, then))
        return self._keep(("ite", id(cond), id(then), id(other)), Ite(cond, then, other))

    def _keep(self, key: object, made: Expr) -> Expr:
        return self._known.setdefault(key, made)


def place(node: Const) -> int:
    """A constant as a number; an enum member by its position in the declaration."""
    if isinstance(node.sort, EnumSort):
        return node.sort.code(node.value)  # type: ignore[arg-type]
    return int(node.value)  # type: ignore[arg-type]


def _has_constant_branch(node: Ite) -> bool:
    return isinstance(node.then, Const) or isinstance(node.other, Const)


def _two_values(parts: Iterable[Expr]) -> bool:
    """Whether some variable would have to equal two different constants."""
    wanted: dict[int, Expr] = {}
    equalities = (p for p in parts if isinstance(p, Eq) and isinstance(p.right, Const))
    return any(wanted.setdefault(id(p.left), p.right) is not p.right for p in equalities)


class _Folder(Visitor[Expr]):
    """Rebuilds an expression in a pool, with known names replaced."""

    def __init__(self, pool: Pool, known: Mapping[str, Expr]) -> None:
        super().__init__()
        self._pool = pool
        self._values = known

    def const(self, node: Const) -> Expr:
        return self._pool.const(node.value, node.sort)

    def var(self, node: Var) -> Expr:
        value = self._values.get(node.name)
        return self._pool.var(node) if value is None else value

    def param(self, node: Param) -> Expr:
        value = self._values.get(node.name)
        return self._pool.param(node) if value is None else value

    def not_(self, arg: Expr) -> Expr:
        return self._pool.not_(arg)

    def and_(self, args: list[Expr]) -> Expr:
        return self._pool.junction(And, args)

    def or_(self, args: list[Expr]) -> Expr:
        return self._pool.junction(Or, args)

    def eq(self, left: Expr, right: Expr) -> Expr:
        return self._pool.eq(left, right)

    def le(self, left: Expr, right: Expr) -> Expr:
        return self._pool.le(left, right)

    def add(self, left: Expr, right: Expr) -> Expr:
        return self._pool.add(left, right)

    def sub(self, left: Expr, right: Expr) -> Expr:
        return self._pool.sub(left, right)

    def ite(self, cond: Expr, then: Expr, other: Expr) -> Expr:
        return self._pool.ite(cond, then, other)


def conjuncts(exprs: Iterable[Expr]) -> list[Expr]:
    """The parts that must all hold, flat and in order."""
    parts: list[Expr] = []
    for expr in exprs:
        parts.extend(expr.args if isinstance(expr, And) else (expr,))
    return parts


def decided(pool: Pool, parts: Iterable[Expr]) -> dict[str, Expr]:
    """The variables whose value a list of conjuncts fixes."""
    facts: dict[str, Expr] = {}
    for part in parts:
        match part:
            case Var():
                facts[part.name] = pool.true
            case Not(arg=Var() as var):
                facts[var.name] = pool.false
            case Eq(left=Var() as var, right=Const() as value):
                facts[var.name] = value
    return facts


def settle(pool: Pool, exprs: Sequence[Expr]) -> tuple[list[Expr], dict[str, Expr]] | None:
    """Conjuncts with all that they fix put into each other, and what they fix.

    Returns None where they contradict each other.
    """
    parts = [p for p in conjuncts(exprs) if p is not pool.true]
    facts: dict[str, Expr] = {}
    if any(p is pool.false for p in parts):
        return None
    while True:
        new = {n: v for n, v in decided(pool, parts).items() if n not in facts}
        if not new:
            return parts, facts
        facts |= new
        folder = pool.folder(facts)
        folded: dict[int, Expr] = {}
        for part in parts:
            own = decided(pool, [part])
            if own and all(facts[n] is v for n, v in own.items()):
                folded[id(part)] = part
                continue
            for piece in conjuncts([folder.visit(part)]):
                if piece is pool.false:
                    return None
                if piece is not pool.true:
                    folded[id(piece)] = piece
        parts = list(folded.values())
