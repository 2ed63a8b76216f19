"""What a tree mentions, and the tree with its variables replaced.

Begin with names_in(), then replaced().
"""

from collections.abc import Callable

from pglife_spec.lang.expr import (
    Add,
    Const,
    Eq,
    Expr,
    Ite,
    Le,
    Param,
    Sub,
    Var,
    Visitor,
    all_of,
    any_of,
)

Names = frozenset[str]
NOTHING: Names = frozenset()


class _Names(Visitor[Names]):
    """The names below a node."""

    def const(self, node: Const) -> Names:
        return NOTHING

    def var(self, node: Var) -> Names:
        return frozenset({node.name})

    def param(self, node: Param) -> Names:
        return frozenset({node.name})

    def not_(self, arg: Names) -> Names:
        return arg

    def and_(self, args: list[Names]) -> Names:
        return NOTHING.union(*args)

    def or_(self, args: list[Names]) -> Names:
        return NOTHING.union(*args)

    def eq(self, left: Names, right: Names) -> Names:
        return left | right

    def le(self, left: Names, right: Names) -> Names:
        return left | right

    def add(self, left: Names, right: Names) -> Names:
        return left | right

    def sub(self, left: Names, right: Names) -> Names:
        return left | right

    def ite(self, cond: Names, then: Names, other: Names) -> Names:
        return cond | then | other


def names_in(*exprs: Expr) -> Names:
    """The variables and parameters that expressions mention."""
    reader = _Names()
    return NOTHING.union(*(reader.visit(expr) for expr in exprs))


class _Replaced(Visitor[Expr]):
    """The tree with other expressions in place of its variables."""

    def __init__(self, other: Callable[[Var], Expr]) -> None:
        super().__init__()
        self._other = other

    def const(self, node: Const) -> Expr:
        return node

    def var(self, node: Var) -> Expr:
        return self._other(node)

    def param(self, node: Param) -> Expr:
        return node

    def not_(self, arg: Expr) -> Expr:
        return ~arg

    def and_(self, args: list[Expr]) -> Expr:
        return all_of(*args)

    def or_(self, args: list[Expr]) -> Expr:
        return any_of(*args)

    def eq(self, left: Expr, right: Expr) -> Expr:
        return Eq(left, right)

    def le(self, left: Expr, right: Expr) -> Expr:
        return Le(left, right)

    def add(self, left: Expr, right: Expr) -> Expr:
        return Add(left, right)

    def sub(self, left: Expr, right: Expr) -> Expr:
        return Sub(left, right)

    def ite(self, cond: Expr, then: Expr, other: Expr) -> Expr:
        return Ite(cond, then, other)


def replaced(expr: Expr, other: Callable[[Var], Expr]) -> Expr:
    """An expression with what a function gives in place of each variable."""
    return _Replaced(other).visit(expr)
