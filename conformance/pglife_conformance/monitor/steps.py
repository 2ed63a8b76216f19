"""What may happen in a state of the model, as somebody outside sees it.

Begin with   Element and Steps.of().
Owns         which steps happen unasked, and what of each is visible; remembered for all servers
             that run the same program.
Leaves out   the search over them (search.py), what observations mean (judge.py).

The death of a child that was sent SIGQUIT is taken only together with its reaping: nothing outside
sees it earlier, nothing else needs it, and no later signal changes its status. Without this a crash
of eight children has 3 to the 8th power of ways to be half over, with it 2 to the 8th.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from pglife_conformance.monitor.labels import Label
from pglife_spec.lang.machine import Action, Actor, Emit, When
from pglife_spec.meanings.python.program import Evidence, Program

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
    """The steps from a state, by what it takes that one happens.

    Args:
        silent: the states after those that happen unasked and leave no label, which are most.
        spoken: the others that happen unasked.
    """

    silent: tuple[int, ...] = ()
    spoken: tuple[Move, ...] = ()
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
        self._label_of: dict[Evidence, Label | None] = {}

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
        silent: list[int] = []
        spoken, admissions, by_token = [], [], []
        for action, after in self.program.successors(state):
            before = state
            if action in self._quits:
                before, action = after, self._quits[action]
                after = self.program.step(action, before)
                if after < 0:
                    continue
            labels = self._labels(action, before)
            if self._internal[action] and not labels:
                silent.append(after)
                continue
            move = Move(action, after, labels, self._changes_kids[action])
            if self._internal[action]:
                spoken.append(move)
            elif self._admission[action]:
                admissions.append(move)
            else:
                by_token.append(move)
        return Moves(tuple(silent), tuple(spoken), tuple(admissions), tuple(by_token))

    def _labels(self, action: int, before: int) -> tuple[Label, ...]:
        if not self._speaks[action]:
            return ()
        labels = map(self._label, self.program.emissions(action, before)[1])
        return tuple(label for label in labels if label is not None)

    def _label(self, item: Evidence) -> Label | None:
        """What is seen of this evidence, if it is of a visible kind."""
        if item not in self._label_of:
            is_visible = item[0] in self._visible
            self._label_of[item] = tuple(str(part) for part in item) if is_visible else None
        return self._label_of[item]

    def decision(self, action: int, before: int) -> Outcome:
        """What an admission tells its client."""
        evidence = self.program.emissions(action, before)[1]
        return next((str(item[1]) for item in evidence if item[0] == "refusal"), ADMITTED)


#: One for each program: scenarios by the hundred run the same.
steps_of = cache(Steps)
