"""Changing a machine in one place: what mutants are made of.

Begin with without_effect(), without_guard(), without_condition(). A change that changes nothing is
an error, so that no mutant silently becomes the original.
"""

from collections.abc import Callable, Container
from dataclasses import replace

from pglife_spec.lang.expr import And, Assign, Expr, LanguageError, Value, Var, all_of, const, show
from pglife_spec.lang.machine import Action, Effect, Emit, Machine, When, flatten

Rewrite = Callable[[Effect], object]


def rewrite(machine: Machine, change: Rewrite, families: Container[str] | None = None) -> Machine:
    """The machine with every effect replaced by what `change` makes of it, innermost first.

    Args:
        change: takes an effect, gives an effect or a sequence of them.
        families: where; everywhere if None.

    Raises:
        LanguageError: if nothing changes.
    """

    def walk(effects: tuple[Effect, ...]) -> tuple[Effect, ...]:
        made: list[object] = []
        for effect in effects:
            if isinstance(effect, When):
                then, other = walk(effect.then), walk(effect.other)
                if not (_same(then, effect.then) and _same(other, effect.other)):
                    effect = When(effect.cond, then, other)
            made.append(change(effect))
        return flatten(made)

    return _each(
        machine,
        lambda a: (
            replace(a, effects=walk(a.effects)) if families is None or a.family in families else a
        ),
    )


def _same(some: tuple[Effect, ...], others: tuple[Effect, ...]) -> bool:
    """Identity: equality of expressions is itself an expression."""
    return len(some) == len(others) and all(x is y for x, y in zip(some, others, strict=True))


def _each(machine: Machine, change: Callable[[Action], Action]) -> Machine:
    actions = tuple(change(action) for action in machine.actions)
    if all(_same(a.effects, b.effects) for a, b in zip(actions, machine.actions, strict=True)):
        raise LanguageError("this mutation changes nothing: look at the names it was given")
    return machine.with_actions(actions)


def sets(effect: Effect, var: Var, value: Value | None = None) -> bool:
    """Whether an effect assigns the variable (this constant, if one is given)."""
    if not isinstance(effect, Assign) or effect.var is not var:
        return False
    return value is None or show(effect.value) == show(const(value))


def without_effect(
    machine: Machine,
    var: Var,
    value: Value | None = None,
    families: Container[str] | None = None,
) -> Machine:
    """The machine without the assignments of a variable (or of one value to it)."""
    return rewrite(machine, lambda e: () if sets(e, var, value) else e, families)


def with_value(
    machine: Machine,
    var: Var,
    old: Value,
    new: Value,
    families: Container[str] | None = None,
) -> Machine:
    """The machine that assigns another value wherever it assigned this one."""
    changed = var.becomes(new)
    return rewrite(machine, lambda e: changed if sets(e, var, old) else e, families)


def without_guard(machine: Machine, family: str, text: str) -> Machine:
    """The machine in which a family's guards that read like this are gone."""
    changed = False

    def change(action: Action) -> Action:
        nonlocal changed
        if action.family != family:
            return action
        kept = tuple(g for g in action.guards if show(g) != text)
        changed |= len(kept) != len(action.guards)
        return replace(action, guards=kept)

    actions = tuple(change(action) for action in machine.actions)
    if not changed:
        raise LanguageError(f"{family} has no guard {text!r}")
    return machine.with_actions(actions)


def without_condition(
    machine: Machine, texts: Container[str], families: Container[str] | None = None
) -> Machine:
    """The machine whose conditional effects no longer ask for these conjuncts."""

    def change(effect: Effect) -> object:
        if not isinstance(effect, When):
            return effect
        cond = _without(effect.cond, texts)
        return effect if cond is effect.cond else When(cond, effect.then, effect.other)

    return rewrite(machine, change, families)


def _without(cond: Expr, texts: Container[str]) -> Expr:
    parts = cond.args if isinstance(cond, And) else (cond,)
    kept = [part for part in parts if show(part) not in texts]
    return cond if len(kept) == len(parts) else all_of(*kept)


def _says(effect: Effect, text: str) -> bool:
    return isinstance(effect, Emit) and any(
        isinstance(part, str) and part == text for part in effect.args
    )


def always(machine: Machine, says: str, families: Container[str] | None = None) -> Machine:
    """The machine that takes a conditional branch which emits this text in any case."""

    def change(effect: Effect) -> object:
        if isinstance(effect, When) and any(_says(e, says) for e in effect.then):
            return effect.then
        return effect

    return rewrite(machine, change, families)


def never(machine: Machine, says: str, families: Container[str] | None = None) -> Machine:
    """The machine without the conditional branch which emits this text."""

    def change(effect: Effect) -> object:
        if isinstance(effect, When) and any(_says(e, says) for e in effect.then):
            return effect.other
        return effect

    return rewrite(machine, change, families)
