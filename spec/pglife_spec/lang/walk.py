"""The variables and parameters that an expression mentions. Begin with names_in()."""

from pglife_spec.lang.expr import Const, Expr, Param, Var, Visitor

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
