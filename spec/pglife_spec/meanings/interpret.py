"""The plainest meaning of the language: recursion over the tree, states as dictionaries.

Begin with value_of(), then take(). Slow and obvious on purpose: the generated Python and the prover
are checked by it, and it judges counterexamples.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from pglife_spec.lang.expr import (
    BOOL,
    INT,
    Assign,
    Const,
    EnumSort,
    Expr,
    LanguageError,
    Param,
    Sort,
    Value,
    Var,
    Visitor,
    show,
)
from pglife_spec.lang.machine import Action, Effect, Emit, Machine, When

Values = Mapping[str, Value]
State = dict[str, Value]


class CountBelowZeroError(LanguageError):
    """A step would make a count negative; the model lacks a guard."""


class _Evaluate(Visitor[Value]):
    """An expression's value where every variable and parameter has one."""

    def __init__(self, state: Values, params: Values) -> None:
        super().__init__()
        self.state = state
        self.params = params

    def const(self, node: Const) -> Value:
        return node.value

    def var(self, node: Var) -> Value:
        return self.state[node.name]

    def param(self, node: Param) -> Value:
        return self.params[node.name]

    def not_(self, arg: Value) -> Value:
        return not arg

    def and_(self, args: list[Value]) -> Value:
        return all(args)

    def or_(self, args: list[Value]) -> Value:
        return any(args)

    def eq(self, left: Value, right: Value) -> Value:
        return left == right

    def le(self, left: Value, right: Value) -> Value:
        return place(left) <= place(right)

    def add(self, left: Value, right: Value) -> Value:
        return place(left) + place(right)

    def sub(self, left: Value, right: Value) -> Value:
        return place(left) - place(right)

    def ite(self, cond: Value, then: Value, other: Value) -> Value:
        return then if cond else other


def place(value: Value) -> int:
    """The number that stands for a value: an enum member's place in its declaration."""
    if isinstance(value, enum.Enum):
        return list(type(value)).index(value)
    return int(value)


def value_at(sort: Sort, code: int) -> Value:
    """The value of a sort that `place` maps to a number."""
    if isinstance(sort, EnumSort):
        return sort.members[code]
    return bool(code) if sort == BOOL else code


def value_of(expr: Expr, state: Values, params: Values) -> Value:
    """The value of an expression in a state."""
    return _Evaluate(state, params).visit(expr)


def holds(expr: Expr, state: Values, params: Values) -> bool:
    """Whether a Boolean expression is true in a state."""
    return value_of(expr, state, params) is True


def false_guards(action: Action, state: Values, params: Values) -> list[Expr]:
    """The guards that keep an action from being taken; empty where it is enabled."""
    return [guard for guard in action.guards if not holds(guard, state, params)]


@dataclass(frozen=True)
class Evidence:
    """What an Emit showed: its kind, and its details with their values at that moment."""

    what: str
    args: tuple[Value | str, ...]


@dataclass(frozen=True)
class Taken:
    """A step that was taken: the state after it and the evidence in order."""

    after: State
    evidence: tuple[Evidence, ...]


def take(action: Action, state: Values, params: Values) -> Taken:
    """Take a step, whether or not its guards hold.

    Raises:
        CountBelowZeroError: a count would fall below zero.
    """
    after: State = dict(state)
    evidence: list[Evidence] = []
    for effect in action.effects:
        _run(effect, after, params, evidence, action)
    return Taken(after, tuple(evidence))


def _run(
    effect: Effect, state: State, params: Values, evidence: list[Evidence], action: Action
) -> None:
    match effect:
        case Assign(var, expr):
            value = value_of(expr, state, params)
            if var.sort == INT and place(value) < 0:
                raise CountBelowZeroError(f"{action.name}: {var.name} := {show(expr)} = {value}")
            state[var.name] = value
        case When(cond, then, other):
            for part in then if holds(cond, state, params) else other:
                _run(part, state, params, evidence, action)
        case Emit(what, args):
            shown = tuple(a if isinstance(a, str) else value_of(a, state, params) for a in args)
            evidence.append(Evidence(what, shown))


def is_initial(machine: Machine, state: Values, params: Values) -> bool:
    """Whether a machine may start in a state."""
    return all(holds(part, state, params) for part in machine.init)
