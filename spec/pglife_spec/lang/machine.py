"""Machines as data: actions, effects and claims, declared once and read by every back end.

Begin with Machine, then Action and its effects (Assign, When, Emit), then Claim and Property.
Effects run in order, each after those before it; what no effect mentions stays as it was.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from pglife_spec.lang.expr import BOOL, Assign, Expr, LanguageError, Param, Value, Var, lift
from pglife_spec.lang.walk import names_in


@dataclass(frozen=True)
class When:
    """Effects that take place only where a condition holds at this point of the step."""

    cond: Expr
    then: tuple[Effect, ...]
    other: tuple[Effect, ...] = ()

    @cached_property
    def assigns(self) -> tuple[str, ...]:
        """The variables that some branch may assign, each once, in order."""
        found: dict[str, None] = {}
        for effect in (*self.then, *self.other):
            if isinstance(effect, When):
                found |= dict.fromkeys(effect.assigns)
            elif isinstance(effect, Assign):
                found[effect.var.name] = None
        return tuple(found)


@dataclass(frozen=True)
class Emit:
    """Something an observer can see at this point of the step: a log line, a signal, a refusal.

    Args:
        what: the kind of evidence, such as "log", "signal", "pmstate", "fork".
        args: constants, or expressions read at this point of the step.
    """

    what: str
    args: tuple[Expr | str, ...] = ()


Effect = Assign | When | Emit


def _read_by(effects: Iterable[Effect]) -> Iterator[Expr]:
    for effect in effects:
        if isinstance(effect, When):
            yield effect.cond
            yield from _read_by((*effect.then, *effect.other))
        elif isinstance(effect, Assign):
            yield effect.value


def when(cond: object, then: object, other: object = ()) -> When:
    """A conditional effect; each branch is an effect or a (nested) sequence of effects."""
    return When(lift(cond), flatten(then), flatten(other))


def emit(what: str, *args: object) -> Emit:
    """Evidence of one sort, such as "log", with strings or expressions as details."""
    return Emit(what, tuple(a if isinstance(a, str) else lift(a) for a in args))


def flatten(effects: object) -> tuple[Effect, ...]:
    """Nested sequences of effects as one flat sequence, in order."""
    if isinstance(effects, Assign | When | Emit):
        return (effects,)
    if isinstance(effects, Iterable):
        return tuple(e for part in effects for e in flatten(part))
    raise LanguageError(f"not an effect or a sequence of effects: {effects!r}")


class Actor(enum.Enum):
    """The party that takes a step. Fairness and fault assumptions speak of actors."""

    POSTMASTER = "postmaster"
    CHILD = "child"
    CLIENT = "client"
    OPERATOR = "operator"
    FAULT = "fault"

    @property
    def is_environment(self) -> bool:
        """Whether the server has no control over the step: it may happen or not."""
        return self in (Actor.CLIENT, Actor.OPERATOR, Actor.FAULT)


@dataclass(frozen=True)
class Action:
    """One atomic step, enabled where all guards are true.

    Args:
        name: unique; for a family of actions the family's name with its choices in brackets.
        family: name without the choices.
        actor: the party that takes it.
        doc: its statement.
        source: C file and function.
        rules: ids of the rules it retells.
        guards: one condition each, so that a disabled action can tell which was false.
        effects: run in order.
        choices: the values of its parameters, by name.
    """

    name: str
    family: str
    actor: Actor
    doc: str
    source: str
    rules: tuple[str, ...]
    guards: tuple[Expr, ...]
    effects: tuple[Effect, ...]
    choices: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for guard in self.guards:
            if guard.sort != BOOL:
                raise LanguageError(f"{self.name}: a guard must be Bool: {guard!r}")

    @cached_property
    def reads(self) -> frozenset[str]:
        """The variables and parameters on which its guards and its effects on the state depend."""
        return names_in(*self.guards, *_read_by(self.effects))


@dataclass(frozen=True)
class Claim:
    """A safety invariant: a condition that is true in every reachable state.

    Args:
        ids: the rules it rests on, the first being its own invariant id.
        name: a sentence that could be false, as an identifier.
        doc: the sentence.
        source: where PostgreSQL says or implies it.
        holds: the condition.
        reaches: a state that the explorer must reach, so that the claim is not empty.
        exception: how real releases break it, in words; empty if none does.
        explored_only: whether no inductive proof is known; then a proof neither assumes nor claims
            it, and explorations check it configuration by configuration.
    """

    name: str
    ids: tuple[str, ...]
    doc: str
    source: str
    holds: Expr
    reaches: Expr
    exception: str = ""
    explored_only: bool = False


@dataclass(frozen=True)
class Fairness:
    """Weak fairness of the selected actions: none is enabled for ever without being taken.

    Strong fairness: none is enabled again and again without being taken.
    """

    name: str
    doc: str
    selects: Callable[[Action], bool] = field(compare=False)
    strong: bool = False


@dataclass(frozen=True)
class Property:
    """A liveness property: whenever `given` is true, `then` becomes true eventually.

    It holds under fairness. The environment acts finitely often: a cycle with one of its steps is
    no counterexample.
    """

    name: str
    ids: tuple[str, ...]
    doc: str
    source: str
    given: Expr
    then: Expr
    fairness: tuple[Fairness, ...]
    exception: str = ""


@dataclass(frozen=True)
class Possible:
    """What nothing may keep from happening: where a condition holds, some action can be taken.

    Args:
        name: a sentence that could be false, as an identifier.
        ids: the rules it rests on.
        doc: the sentence.
        source: where PostgreSQL says or implies it.
        cases: conditions, each with the actions of which one can be taken where it holds.
    """

    name: str
    ids: tuple[str, ...]
    doc: str
    source: str
    cases: Sequence[tuple[Expr, Sequence[Action]]]


@dataclass(frozen=True)
class Mutant:
    """A wrong model: one change, and the claim that it must break.

    Args:
        name: of the change.
        doc: what is wrong.
        killed_by: name of the claim that fails.
        config: name of a small configuration in which it fails.
        apply: makes the wrong machine of the right one.
    """

    name: str
    doc: str
    killed_by: str
    config: str
    apply: Callable[[Machine], Machine] = field(compare=False)


@dataclass(frozen=True)
class Machine:
    """A whole machine: variables, parameters, initial states, actions, claims, properties."""

    name: str
    variables: tuple[Var, ...]
    params: tuple[Param, ...]
    assumptions: tuple[Expr, ...]
    init: tuple[Expr, ...]
    actions: tuple[Action, ...]
    claims: tuple[Claim, ...] = ()
    properties: tuple[Property, ...] = ()

    def __post_init__(self) -> None:
        for what, names in (
            ("variable", [v.name for v in self.variables]),
            ("parameter", [p.name for p in self.params]),
            ("action", [a.name for a in self.actions]),
            ("claim", [c.name for c in self.claims]),
        ):
            twice = {n for n in names if names.count(n) > 1}
            if twice:
                raise LanguageError(f"{what} declared twice: {', '.join(sorted(twice))}")

    def variable(self, name: str) -> Var:
        """The variable of that name; LanguageError if it does not exist."""
        for var in self.variables:
            if var.name == name:
                return var
        raise LanguageError(f"no variable named {name!r}")

    def action(self, name: str) -> Action:
        """The action of that name; LanguageError if it does not exist."""
        for action in self.actions:
            if action.name == name:
                return action
        raise LanguageError(f"no action named {name!r}")

    def with_actions(self, actions: Iterable[Action]) -> Machine:
        """The same machine with other actions."""
        return replace(self, actions=tuple(actions))


@dataclass(frozen=True)
class Config:
    """Values for a machine's parameters, and bounds for counters, by which explorers run.

    Args:
        name: its name in reports.
        params: a value for every parameter, by name.
        bounds: for each bound that variables name, the largest sum of those variables: how many
            there may be of something, wherever each is in its life. A step beyond it is cut.
        purpose: what it is for, in a few words.
    """

    name: str
    params: Mapping[str, Value]
    bounds: Mapping[str, int] = field(default_factory=dict)
    purpose: str = ""
