"""Changing a machine in one place: what mutants are made of.

Begin with without_effect(), without_guard() and without_condition() for a change that is meant, and
with OnePlace for all that may be made blindly. A change that changes nothing is an error,
so that no mutant silently becomes the original.
"""

import random
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from pglife_spec.lang.expr import (
    BOOL,
    TRUE,
    Add,
    And,
    Assign,
    Const,
    EnumSort,
    Eq,
    Expr,
    Ite,
    LanguageError,
    Le,
    Not,
    Or,
    Sub,
    Value,
    Var,
    all_of,
    any_of,
    const,
    show,
)
from pglife_spec.lang.machine import Action, Effect, Emit, Machine, When, flatten

Rewrite = Callable[[Effect], object]
Drawn = TypeVar("Drawn")


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


# Blind changes: everything that may be changed in one place.


@dataclass(frozen=True)
class Change:
    """One blind change of one action.

    Args:
        what: says it, without the action's name.
        action: the changed action.
    """

    what: str
    action: Action

    def __str__(self) -> str:
        return f"{self.action.name}: {self.what}"

    def apply(self, machine: Machine) -> Machine:
        """The machine with the changed action in place of the one of its name."""
        name = self.action.name
        return machine.with_actions(self.action if a.name == name else a for a in machine.actions)


class OnePlace:
    """Every change of an action in one place: a guard or an effect is dropped, a condition is
    negated or loses a part, another value, signal or target stands in the place of one.

    Of the other values that may stand in one place it draws one, always the same for one seed.

    Args:
        machine: whose words of evidence may stand for each other.
        seed: of the draw.
    """

    def __init__(self, machine: Machine, seed: int) -> None:
        self._seed = seed
        self._words: dict[tuple[str, int], set[str]] = {}
        todo: list[Effect] = [e for action in machine.actions for e in action.effects]
        while todo:
            effect = todo.pop()
            if isinstance(effect, When):
                todo += [*effect.then, *effect.other]
            elif isinstance(effect, Emit):
                for place, word in enumerate(effect.args):
                    if isinstance(word, str):
                        self._words.setdefault((effect.what, place), set()).add(word)

    def changes(self, action: Action) -> Iterator[Change]:
        """All of one action."""
        for at, guard in enumerate(action.guards):
            before, after = action.guards[:at], action.guards[at + 1 :]
            for said, other in self._conditions(guard):
                guards = (*before, other, *after)
                yield Change(f"guard {said}", replace(action, guards=guards))
        for said, effects in self._sequences(action.effects):
            yield Change(said, replace(action, effects=flatten(effects)))

    def _sequences(self, effects: Sequence[Effect]) -> Iterator[tuple[str, tuple[Effect, ...]]]:
        for at, effect in enumerate(effects):
            before, after = tuple(effects[:at]), tuple(effects[at + 1 :])
            yield f"{_brief(effect)} is dropped", (*before, *after)
            if _announces(effect) and after:
                yield f"{_brief(effect)} is dropped with its effect", (*before, *after[1:])
            for said, other in self._others(effect):
                yield said, (*before, other, *after)

    def _others(self, effect: Effect) -> Iterator[tuple[str, Effect]]:
        """What may stand in the place of one effect."""
        match effect:
            case Assign(var, value):
                for said, other in self._values(value, var.name):
                    yield f"{var.name} becomes {said}", var.becomes(other)
            case Emit(what, args):
                for at, word in enumerate(args):
                    others = self._words.get((what, at), set()) - {word}
                    if isinstance(word, str) and others:
                        new = self._draw(f"{_brief(effect)} {at}", sorted(others))
                        changed = replace(effect, args=(*args[:at], new, *args[at + 1 :]))
                        yield f"{_brief(effect)} has {new!r} for {word!r}", changed
            case When(cond, then, other):
                for said, new_cond in self._conditions(cond):
                    yield f"when {said}", When(new_cond, then, other)
                for said, inner in self._sequences(then):
                    yield said, When(cond, inner, other)
                for said, inner in self._sequences(other):
                    yield said, When(cond, then, inner)

    def _conditions(self, cond: Expr) -> Iterator[tuple[str, Expr]]:
        """What may stand in the place of a condition."""
        text = _cut(show(cond))
        yield f"{text} is dropped", TRUE
        yield f"{text} is negated", ~cond
        yield from self._parts(cond)

    def _parts(self, cond: Expr) -> Iterator[tuple[str, Expr]]:
        """A condition with one part changed."""
        if isinstance(cond, And | Or):
            join = all_of if isinstance(cond, And) else any_of
            for at, part in enumerate(cond.args):
                before, after = cond.args[:at], cond.args[at + 1 :]
                yield f"{_cut(show(cond))} loses {_cut(show(part))}", join(*before, *after)
                for said, other in self._parts(part):
                    yield said, join(*before, other, *after)
        elif isinstance(cond, Not):
            for said, other in self._parts(cond.arg):
                yield f"not ({said})", ~other
        elif isinstance(cond, Eq | Le):
            for said, other in self._values(cond.right, show(cond)):
                yield f"{show(cond)} has {said}", replace(cond, right=other)

    def _values(self, value: Expr, place: str) -> Iterator[tuple[str, Expr]]:
        """What may stand in the place of a value: another constant, or a part of the expression."""
        found: list[Expr] = []
        match value:
            case Const(value=now, sort=EnumSort() as sort):
                members = [member for member in sort.members if member is not now]
                found = [const(self._draw(f"{place} {now}", members))]
            case Const(value=bool(now)):
                found = [const(not now)]
            case Const(value=int(now)):
                found = [const(now + 1), *([const(now - 1)] if now else [])]
            case Add(left, right):
                found = [left, left - right]
            case Sub(left, right):
                found = [left, left + right]
            case Ite(_, then, other):
                found = [then, other]
            case _ if value.sort == BOOL:
                found = [~value]
        for other in found:
            yield show(other), other

    def _draw(self, place: str, others: Sequence[Drawn]) -> Drawn:
        return random.Random(f"{self._seed} {place}").choice(others)


def _announces(effect: Effect) -> bool:
    """Whether it is evidence only, of what the next effect does."""
    if isinstance(effect, When):
        return all(isinstance(e, Emit) for e in (*effect.then, *effect.other))
    return isinstance(effect, Emit)


def _brief(effect: Effect) -> str:
    match effect:
        case Assign(var, value):
            return f"{var.name} := {_cut(show(value))}"
        case Emit(what, args):
            return f"{what} {' '.join(a if isinstance(a, str) else show(a) for a in args)}".strip()
        case When(cond, then, other):
            inner = "; ".join(_brief(e) for e in (*then, *other)[:2])
            return f"when {_cut(show(cond))} [{_cut(inner)}]"


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
