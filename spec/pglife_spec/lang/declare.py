"""Declaring actions, claims and properties: decorators over functions that return data.

Begin with   action(), Step, claim().
Owns         how a function with a docstring becomes an Action or a Claim; one Action for each
             combination of its choices, in the order they are given.
"""

from __future__ import annotations

import enum
import inspect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pglife_spec.lang.expr import TRUE, Expr, LanguageError, lift
from pglife_spec.lang.machine import Action, Actor, Claim, flatten


@dataclass(frozen=True)
class Step:
    """What an action needs, one guard a line, and what it does, in order."""

    when: Sequence[Expr]
    then: object


def _statement(function: Callable[..., object]) -> str:
    doc = inspect.getdoc(function)
    if not doc:
        raise LanguageError(f"{function.__name__} needs a docstring: it is its statement")
    return " ".join(doc.split())


def _name_of(value: object) -> str:
    return value.name.lower() if isinstance(value, enum.Enum) else str(value)


def action(
    actor: Actor, source: str, *rules: str, **choices: Sequence[object]
) -> Callable[[Callable[..., Step]], list[Action]]:
    """Declare an action, or a family with one action for each combination of its choices.

    Args:
        actor: who takes the step.
        source: C file and function.
        rules: ids of the rules it retells.
        choices: for each parameter of the function, the values it takes.
    """

    def declare(function: Callable[..., Step]) -> list[Action]:
        family, doc = function.__name__, _statement(function)
        made = []
        for values in itertools.product(*choices.values()):
            bound = dict(zip(choices, values, strict=True))
            step = function(**bound)
            names = {key: _name_of(value) for key, value in bound.items()}
            made.append(
                Action(
                    name=f"{family}({', '.join(names.values())})" if names else family,
                    family=family,
                    actor=actor,
                    doc=doc,
                    source=source,
                    rules=rules,
                    guards=tuple(step.when),
                    effects=flatten(step.then),
                    choices=names,
                )
            )
        return made

    return declare


@dataclass(frozen=True)
class Statement:
    """What a claim says, and a state that shows it is not vacuous."""

    holds: Expr
    reaches: Expr = TRUE


def claim(
    *ids: str, source: str, exception: str = ""
) -> Callable[[Callable[[], Statement]], Claim]:
    """Declare a safety claim from a function whose name and docstring state it."""

    def declare(function: Callable[[], Statement]) -> Claim:
        said = function()
        return Claim(
            name=function.__name__,
            ids=ids,
            doc=_statement(function),
            source=source,
            holds=lift(said.holds),
            reaches=lift(said.reaches),
            exception=exception,
        )

    return declare
