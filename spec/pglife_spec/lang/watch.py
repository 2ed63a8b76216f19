"""Evidence claims: automata that read the evidence of each step, and their product with a machine.

Begin with Watch, then exactly(), which most of them are made of, then watched(), the product.

The product is a machine again: registers are variables, and edges are effects behind the evidence
that they read. So whatever explores, proves or replays a machine does it with watches too. A
register forgets at the end of each step, so that the product has the states of the machine.
"""

import enum
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from pglife_spec.lang.expr import (
    BOOL,
    FALSE,
    TRUE,
    EnumSort,
    Expr,
    LanguageError,
    Sort,
    Var,
    all_of,
    any_of,
    const,
    lift,
)
from pglife_spec.lang.machine import Action, Claim, Effect, Emit, Machine, When, flatten
from pglife_spec.lang.walk import names_in, replaced

BEGIN, END = "begin", "end"
"""Evidence that every step leaves, first and last; "begin" has the actor as its detail."""


@dataclass(frozen=True)
class Seen:
    """A pattern of evidence.

    Args:
        what: its kind, or BEGIN or END.
        args: its first details; None for any. An expression is compared at that point of the step.
    """

    what: str
    args: tuple[Expr | str | None, ...] = ()

    def meets(self, evidence: Emit) -> Expr:
        """Whether evidence is of this pattern."""
        if evidence.what != self.what or len(evidence.args) < len(self.args):
            return FALSE
        pairs = zip(self.args, evidence.args, strict=False)
        return all_of(*(_same(wanted, found) for wanted, found in pairs if wanted is not None))


def _same(wanted: Expr | str, found: Expr | str) -> Expr:
    if isinstance(wanted, str) or isinstance(found, str):
        return lift(isinstance(wanted, str) and isinstance(found, str) and wanted == found)
    return wanted == found


def seen(what: str, *args: Expr | str | None) -> Seen:
    """A pattern of evidence: its kind and its first details."""
    return Seen(what, args)


@dataclass(frozen=True)
class Edge:
    """At evidence of a pattern, where a guard holds, the automaton goes to a state.

    Args:
        at: the pattern.
        to: the new state, a member of the automaton's enum or an expression; None for the same.
        guard: over the automaton's register, the machine's variables at that point of the step, and
            their values before it, `before(var)`.
        wrong: whether the evidence is not as claimed.
    """

    at: Seen
    to: Expr | enum.Enum | None = None
    guard: Expr = TRUE
    wrong: bool = False


@dataclass(frozen=True)
class Automaton:
    """A register, and its edges; of several that fit, the first is taken."""

    register: Var
    edges: tuple[Edge, ...]


@dataclass(frozen=True)
class Watch:
    """A claim about the evidence of each step: no edge that is wrong is ever taken.

    Args:
        name: a sentence that could be false, as an identifier.
        ids: the rules it rests on.
        doc: the sentence.
        source: where PostgreSQL says or implies it.
        automata: what reads the evidence.
        reaches: a state before which the explorer must come, so that the claim is not empty.
        exception: how real releases break it, in words; empty if none does.
    """

    name: str
    ids: tuple[str, ...]
    doc: str
    source: str
    automata: tuple[Automaton, ...]
    reaches: Expr = TRUE
    exception: str = ""

    @property
    def broken(self) -> Var:
        """Whether the last step left other evidence than claimed."""
        return _flag(self.name)

    def claim(self) -> Claim:
        """The claim that the product must keep."""
        return Claim(
            self.name, self.ids, self.doc, self.source, ~self.broken, self.reaches, self.exception
        )


@cache
def _flag(name: str) -> Var:
    return Var(f"broken.{name}", BOOL, "the last step left other evidence", initial=False)


_BEFORE = "before."


def _local(name: str, sort: Sort, bound: str | None = None) -> Var:
    value = False if sort == BOOL else 0
    first = sort.members[0] if isinstance(sort, EnumSort) else value
    return Var(name, sort, bound=bound, initial=first, local=True)


def register(name: str, sort: Sort) -> Var:
    """The register of an automaton, with the first value of its sort at the begin of each step."""
    return _local(f"seen.{name}", sort)


@cache
def _copy(var: Var) -> Var:
    """The variable that keeps what another one was before the step."""
    return _local(f"{_BEFORE}{var.name}", var.sort, var.bound)


def before(expr: Expr) -> Expr:
    """What an expression over the machine's variables was before the step."""
    return replaced(expr, _copy)


class Times(enum.Enum):
    """How often evidence was seen in a step."""

    NEVER = "never"
    ONCE = "once"


def noted(name: str, *patterns: Seen) -> Automaton:
    """An automaton that only looks: its register tells whether a pattern was seen in the step."""
    seen_it = register(name, BOOL)
    return Automaton(seen_it, tuple(Edge(pattern, TRUE) for pattern in patterns))


def never(name: str, patterns: Iterable[Seen]) -> Automaton:
    """No step leaves evidence of these patterns."""
    return Automaton(register(name, BOOL), tuple(Edge(at, wrong=True) for at in patterns))


def exactly(at: Seen, where: Expr, name: str, *, or_more: bool = False) -> Automaton:
    """Evidence of a pattern is left once by each step that a condition picks, and by no other.

    Args:
        at: the pattern.
        where: over the variables after the step, and before it.
        name: of the register.
        or_more: whether such a step may leave it more than once.
    """
    times = register(name, EnumSort(Times))
    once = times == Times.ONCE
    return Automaton(
        times,
        (
            *([] if or_more else [Edge(at, guard=once, wrong=True)]),
            Edge(at, Times.ONCE),
            Edge(Seen(END), guard=any_of(once & ~where, ~once & where), wrong=True),
        ),
    )


def watched(machine: Machine, watches: Sequence[Watch]) -> Machine:
    """The product of a machine and its watches: the same steps, and the watches' claims beside the
    machine's own."""
    flags = [watch.broken for watch in watches]
    automata = _each_once((w.broken, automaton) for w in watches for automaton in w.automata)
    registers = [automaton.register for _, automaton in automata]
    read = names_in(*(e for _, a in automata for e in _expressions(a)))
    copies = [_copy(var) for var in machine.variables if _copy(var).name in read]
    added = (*registers, *copies, *flags)
    return replace(
        machine,
        variables=(*machine.variables, *added),
        init=(*machine.init, *(var.starts() for var in added)),
        actions=tuple(_watched(a, automata, copies, flags, machine) for a in machine.actions),
        claims=(*machine.claims, *(watch.claim() for watch in watches)),
    )


def _each_once(automata: Iterable[tuple[Var, Automaton]]) -> list[tuple[Var, Automaton]]:
    """An automaton that only looks, for others to ask, may stand in several watches."""
    found: dict[str, tuple[Var, Automaton]] = {}
    for flag, automaton in automata:
        name = automaton.register.name
        if found.setdefault(name, (flag, automaton))[1] is not automaton:
            raise LanguageError(f"two automata have the register {name!r}")
    return list(found.values())


def _expressions(automaton: Automaton) -> Iterator[Expr]:
    for edge in automaton.edges:
        yield edge.guard
        if isinstance(edge.to, Expr):
            yield edge.to
        yield from (arg for arg in edge.at.args if isinstance(arg, Expr))


def _watched(
    action: Action,
    automata: Sequence[tuple[Var, Automaton]],
    copies: Sequence[Var],
    flags: Sequence[Var],
    machine: Machine,
) -> Action:
    def walk(effects: Iterable[Effect]) -> tuple[Effect, ...]:
        made: list[object] = []
        for effect in effects:
            if isinstance(effect, When):
                made.append(When(effect.cond, walk(effect.then), walk(effect.other)))
                continue
            made.append(effect)
            if isinstance(effect, Emit):
                made.append(_moves(effect, automata))
        return flatten(made)

    return replace(
        action,
        effects=flatten(
            [
                [flag.becomes(False) for flag in flags],
                [c.becomes(machine.variable(c.name.removeprefix(_BEFORE))) for c in copies],
                _moves(Emit(BEGIN, (action.actor.value,)), automata),
                walk(action.effects),
                _moves(Emit(END), automata),
                [_forget(var) for var in (*copies, *(a.register for _, a in automata))],
            ]
        ),
    )


def _forget(var: Var) -> Effect:
    assert var.initial is not None
    assert not isinstance(var.initial, tuple)
    return var.becomes(const(var.initial))


def _moves(evidence: Emit, automata: Iterable[tuple[Var, Automaton]]) -> tuple[Effect, ...]:
    """What the automata do at one piece of evidence."""
    made: list[Effect] = []
    for flag, automaton in automata:
        then: tuple[Effect, ...] = ()
        for edge in reversed(automaton.edges):
            fits = all_of(edge.at.meets(evidence), edge.guard)
            if fits is FALSE:
                continue
            to = [] if edge.to is None else [automaton.register.becomes(edge.to)]
            here = flatten([*to, flag.becomes(True) if edge.wrong else ()])
            then = here if fits is TRUE else (When(fits, here, then),)
        made += then
    return tuple(made)
