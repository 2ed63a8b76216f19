"""Declaring actions, claims and properties: decorators over functions that return data.

Begin with action(), Step and claim(). A function with a docstring becomes one Action for each
combination of its choices, in the order in which they are given; or one Claim.
"""

import enum
import inspect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TypeVar

from pglife_spec.lang.expr import TRUE, Expr, LanguageError, Param, Var, lift
from pglife_spec.lang.machine import Action, Actor, Claim, Machine, Mutant, flatten
from pglife_spec.lang.watch import Automaton, Watch

Named = TypeVar("Named", Var, Param)


def declared(sort: type[Named], *modules: ModuleType) -> tuple[Named, ...]:
    """The variables, or the parameters, of some modules, in order of declaration.

    They stand at module level, or in dictionaries at module level.
    """
    found: dict[str, Named] = {}
    for module in modules:
        for value in vars(module).values():
            for item in value.values() if isinstance(value, dict) else (value,):
                if isinstance(item, sort):
                    found.setdefault(item.name, item)
    return tuple(found.values())


@dataclass(frozen=True)
class Step:
    """The guards of an action, one condition each, and its effects, in order."""

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
        actor: the party that takes the step.
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
    """The condition of a claim, and a state that shows that the claim is not empty."""

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


def watch(
    *ids: str, source: str, reaches: Expr = TRUE, exception: str = ""
) -> Callable[[Callable[[], Sequence[Automaton]]], Watch]:
    """Declare a claim about evidence from a function whose name and docstring state it."""

    def declare(function: Callable[[], Sequence[Automaton]]) -> Watch:
        return Watch(
            name=function.__name__,
            ids=ids,
            doc=_statement(function),
            source=source,
            automata=tuple(function()),
            reaches=reaches,
            exception=exception,
        )

    return declare


def mutant(killed_by: str, config: str) -> Callable[[Callable[[Machine], Machine]], Mutant]:
    """Declare a wrong model from a function that changes the machine.

    Args:
        killed_by: the claim that must fail.
        config: the name of a small configuration in which it fails.
    """

    def declare(function: Callable[[Machine], Machine]) -> Mutant:
        return Mutant(function.__name__, _statement(function), killed_by, config, function)

    return declare
