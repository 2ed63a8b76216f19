"""Sets of model states, moved by labels and filtered by facts.

Begin with   Tracker.after_look() and Tracker.apply().
Owns         Element, and the search for everything that can have happened between two looks.
Leaves out   what observations mean (judge.py).

A look tells lines of the log, and facts that held at one moment since the look before. A step of
the model is atomic, the server's is not: a look may fall into the middle of one, when some of its
lines are written and some are not, or a process is reaped and its line is not written yet. Such a
step is *in flight*: the element promises the labels that must come next.

The death of a child that was sent SIGQUIT is taken only together with its reaping: nothing outside
sees it earlier, nothing else needs it, and no later signal changes its status. Without this a crash
of eight children has 3 to the 8th power of ways to be half over, with it 2 to the 8th.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

from pglife_conformance.monitor.labels import Label, agree
from pglife_spec.lang.machine import Action, Actor, Emit, When
from pglife_spec.lang.python import Program

Outcome = str
PENDING: Outcome = "not accepted yet"
ADMITTED: Outcome = "admitted"

#: More than this many candidates at one look are not worth the time; the verdict is then open.
LIMIT = 400_000

_INTERNAL_FAMILIES = frozenset({"client_leaves", "operator_requests_reload"})
_ADMISSION = frozenset({"admit_client", "refuse_client", "client_meets_fork_failure"})


_KIND_OF_REAPER = {
    "reap_startup": "startup",
    "reap_checkpointer": "checkpointer",
    "reap_logical_replication_launcher": "bg_worker",
}


class TooMany(Exception):
    """More candidates than LIMIT."""


class Element(NamedTuple):
    """One explanation of all that was seen so far.

    Args:
        state: the model's state.
        promised: labels of a step in flight that must be the next lines.
        clients: for each client whose answer has not been heard, what was decided about it.
        tokens: sets of environment actions of which one may still happen, once.
    """

    state: int
    promised: tuple[Label, ...] = ()
    clients: tuple[tuple[int, Outcome], ...] = ()
    tokens: tuple[frozenset[int], ...] = ()


@dataclass(frozen=True)
class Facts:
    """What held at one moment between two looks.

    Args:
        exactly: whether a state agrees with it.
        midway: whether it may be seen in the middle of a step between two states.
    """

    exactly: Callable[[int], bool]
    midway: Callable[[int, int], bool]


def _emits(action: Action, *kinds: str) -> bool:
    stack = list(action.effects)
    while stack:
        effect = stack.pop()
        if isinstance(effect, Emit) and effect.what in kinds:
            return True
        if isinstance(effect, When):
            stack += [*effect.then, *effect.other]
    return False


class Move(NamedTuple):
    """One step from a state.

    Args:
        action: its index.
        after: the state after it.
        labels: what it says, of what is visible.
        changes_kids: whether a look may fall between its words and its forks or reapings.
    """

    action: int
    after: int
    labels: tuple[Label, ...]
    changes_kids: bool


class Moves(NamedTuple):
    """The steps from a state, by what it takes that one happens."""

    unasked: tuple[Move, ...] = ()
    admissions: tuple[Move, ...] = ()
    by_token: tuple[Move, ...] = ()


class Steps:
    """What can be said of one program once, and is asked by every server that runs it."""

    def __init__(self, program: Program, visible: frozenset[str]) -> None:
        self.program = program
        actions = program.machine.actions
        self._visible = visible
        self._internal = [
            a.actor in (Actor.POSTMASTER, Actor.CHILD) or a.family in _INTERNAL_FAMILIES
            for a in actions
        ]
        self._admission = [a.family in _ADMISSION for a in actions]
        self._speaks = [_emits(a, *visible) for a in actions]
        self._changes_kids = [
            _emits(a, "fork") or a.family.startswith("reap_") or a.family == "end_reaping"
            for a in actions
        ]
        self._quits = self._reaps_of_quits()
        self._known: dict[int, Moves] = {}

    def _reaps_of_quits(self) -> dict[int, int]:
        """For each child's death by SIGQUIT the action that reaps it."""
        by_kind = {}
        for action in self.program.machine.actions:
            if action.family.startswith("reap_") and action.choices.get("life") == "crashed":
                kind = action.choices.get("kind", _KIND_OF_REAPER.get(action.family))
                by_kind[kind] = self.program.index(action)
        return {
            self.program.index(action): by_kind[action.choices["kind"]]
            for action in self.program.machine.actions
            if action.family == "child_quits"
        }

    def of(self, state: int) -> Moves:
        """Every step from a state."""
        known = self._known.get(state)
        if known is None:
            if len(self._known) > LIMIT:
                self._known.clear()
            known = self._known[state] = self._find(state)
        return known

    def _find(self, state: int) -> Moves:
        unasked, admissions, by_token = [], [], []
        for action, after in self.program.successors(state):
            before = state
            if action in self._quits:
                before, action = after, self._quits[action]
                after = self.program.step(action, before)
                if after < 0:
                    continue
            move = Move(action, after, self._labels(action, before), self._changes_kids[action])
            if self._internal[action]:
                unasked.append(move)
            elif self._admission[action]:
                admissions.append(move)
            else:
                by_token.append(move)
        return Moves(tuple(unasked), tuple(admissions), tuple(by_token))

    def _labels(self, action: int, before: int) -> tuple[Label, ...]:
        if not self._speaks[action]:
            return ()
        evidence = self.program.emissions(action, before)[1]
        return tuple(
            tuple(str(part) for part in item) for item in evidence if item[0] in self._visible
        )

    def decision(self, action: int, before: int) -> Outcome:
        """What an admission tells its client."""
        evidence = self.program.emissions(action, before)[1]
        return next((str(item[1]) for item in evidence if item[0] == "refusal"), ADMITTED)


#: One for each program: scenarios by the hundred run the same.
steps_of = cache(Steps)


class Tracker:
    """Moves sets of elements of one program."""

    def __init__(self, program: Program, visible: frozenset[str]) -> None:
        self.program = program
        self._steps = steps_of(program, visible)

    def _next(self, element: Element) -> Iterable[tuple[Move, Element]]:
        """Every step that may happen unasked, or by a token or a client that is waiting."""
        state, promised, clients, tokens = element
        moves = self._steps.of(state)
        for move in moves.unasked:
            yield move, Element(move.after, promised, clients, tokens)
        if clients:
            for move in moves.admissions:
                yield from self._admissions(element, move)
        if tokens:
            for move in moves.by_token:
                for place, token in enumerate(tokens):
                    if move.action in token:
                        rest = tokens[:place] + tokens[place + 1 :]
                        yield move, Element(move.after, promised, clients, rest)
                        break

    def _admissions(self, element: Element, move: Move) -> Iterable[tuple[Move, Element]]:
        for place, (client, decided) in enumerate(element.clients):
            if decided == PENDING:
                told = (client, self._steps.decision(move.action, element.state))
                clients = (*element.clients[:place], told, *element.clients[place + 1 :])
                yield move, Element(move.after, element.promised, clients, element.tokens)
                return

    def after_look(
        self, elements: Iterable[Element], lines: tuple[Label, ...], facts: Facts
    ) -> set[Element]:
        """The elements that explain these lines, and facts that held at some moment among them."""
        facts = Facts(cache(facts.exactly), facts.midway)
        ended: set[Element] = set()
        seen: set[tuple[Element, int, bool]] = set()
        stack: list[tuple[Element, int, bool]] = []
        for element in elements:
            self._keep_promise(element, lines, facts, stack, ended)
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            if len(seen) > LIMIT:
                raise TooMany
            element, at, agreed = node
            if not agreed and facts.exactly(element.state):
                agreed = True
            if agreed and at == len(lines):
                ended.add(element)
                continue
            if agreed and (element, at, True) not in seen:
                seen.add((element, at, True))
            self._expand(element, at, agreed, lines, facts, stack, ended)
        return ended

    def _keep_promise(
        self,
        element: Element,
        lines: tuple[Label, ...],
        facts: Facts,
        stack: list[tuple[Element, int, bool]],
        ended: set[Element],
    ) -> None:
        """A step in flight goes on: its labels come first; the facts may lie before its end."""
        promised = element.promised
        length = min(len(promised), len(lines))
        if not all(agree(promised[i], lines[i]) for i in range(length)):
            return
        landed = element._replace(promised=promised[length:])
        if landed.promised:
            ended.add(landed)
        else:
            stack.append((landed, length, False))
            if length and facts.midway(landed.state, landed.state):
                stack.append((landed, length, True))

    def _expand(
        self,
        element: Element,
        at: int,
        agreed: bool,
        lines: tuple[Label, ...],
        facts: Facts,
        stack: list[tuple[Element, int, bool]],
        ended: set[Element],
    ) -> None:
        rest = len(lines) - at
        for (_, _, labels, changes_kids), after in self._next(element):
            if not labels:
                stack.append((after, at, agreed))
                continue
            common = min(len(labels), rest)
            if not all(agree(labels[i], lines[at + i]) for i in range(common)):
                continue
            # The moment of the facts may lie between this step's line and its fork.
            midway = changes_kids and not agreed and facts.midway(element.state, after.state)
            if len(labels) <= rest:
                stack.append((after, at + len(labels), agreed))
                if midway:
                    stack.append((after, at + len(labels), True))
            elif rest or midway:
                ended.add(after._replace(promised=labels[rest:]))

    def closure(self, elements: Iterable[Element]) -> set[Element]:
        """Everything that can have happened since, without leaving a line."""
        found = set(elements)
        stack = list(found)
        while stack:
            element = stack.pop()
            if element.promised:
                continue
            for move, after in self._next(element):
                if not move.labels and after not in found:
                    found.add(after)
                    stack.append(after)
            if len(found) > LIMIT:
                raise TooMany
        return found

    def apply(self, elements: Iterable[Element], action: str) -> set[Element]:
        """Let somebody outside take an action now; where it is disabled nothing happens."""
        index = self.program.index(action)
        moved: set[Element] = set()
        for element in self.closure(elements):
            after = self.program.step(index, element.state)
            moved.add(element._replace(state=after) if after >= 0 else element)
        return moved

    def grant(self, elements: Iterable[Element], actions: Iterable[str]) -> set[Element]:
        """Somebody outside has caused one of these actions to happen, now or later, once."""
        token = frozenset(self.program.index(name) for name in actions)
        return {
            e._replace(tokens=(*e.tokens, token)) if token else e for e in self.closure(elements)
        }

    @cached_property
    def families(self) -> dict[str, list[str]]:
        """Action names by family."""
        names: dict[str, list[str]] = {}
        for action in self.program.machine.actions:
            names.setdefault(action.family, []).append(action.name)
        return names
