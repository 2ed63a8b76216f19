"""By how much a step makes a sum of counters grow, as far as its effects tell.

A bound limits how many children there are, wherever each is in its life. Most steps move children
from one counter to another: for those the sum need not be tested. Begin with moved().
"""

from pglife_spec.lang.expr import Add, Const, Expr, Sub
from pglife_spec.meanings.fold import place

Growth = dict[int, int] | None
"""How often each expression of a pool was added, by its identity, and under 0 the constant; None
where that is not known."""


def moved(grown: Growth, before: Expr, after: Expr) -> Growth:
    """The growth after one counter has changed."""
    if grown is None:
        return None
    return _plus(grown, _plus(_terms(after), _terms(before), -1))


def forget(grown: Growth, name: Expr) -> Growth:
    """The growth once a name stands for another value than when it was added."""
    return None if grown is None or id(name) in grown else grown


def larger(left: Growth, right: Growth) -> Growth:
    """A growth that is at least as large as either."""
    if left is None or right is None:
        return None
    rest = {key: number for key, number in left.items() if key}
    if rest != {key: number for key, number in right.items() if key}:
        return None
    return rest | {0: max(left.get(0, 0), right.get(0, 0))}


def may_grow(grown: Growth) -> bool:
    """Whether the sum may be larger than before."""
    return grown is None or grown.get(0, 0) > 0 or any(key for key in grown)


def _terms(expr: Expr) -> dict[int, int]:
    match expr:
        case Const():
            return {0: place(expr)}
        case Add():
            return _plus(_terms(expr.left), _terms(expr.right))
        case Sub():
            return _plus(_terms(expr.left), _terms(expr.right), -1)
        case _:
            return {id(expr): 1}


def _plus(left: dict[int, int], right: dict[int, int], times: int = 1) -> dict[int, int]:
    both = {key: left.get(key, 0) + times * right.get(key, 0) for key in {*left, *right}}
    return {key: number for key, number in both.items() if number}
