"""What a change of one action changes: a machine explored again only where it differs.

Begin with Explored, then Explored.judge(). The right machine is explored once; for each changed
action its own step is computed in every state, and only what lies behind a different step is new.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field

from pglife_spec.explore.graph import CUT_STEP, WORD
from pglife_spec.explore.search import Exploration, explore
from pglife_spec.lang.expr import Expr
from pglife_spec.lang.machine import Action, Claim, Config, Machine, Possible
from pglife_spec.lang.watch import Watch, watched
from pglife_spec.meanings.python.program import (
    CUT,
    DISABLED,
    Evidence,
    Program,
    compile_machine,
)

WRONG = -3
"""The next state of a step that is wrong in itself."""

Steps = dict[int, list[tuple[int, int]]]
"""For each state its steps: the index of an action, and the next state."""


@dataclass(frozen=True)
class Outcome:
    """What became of a machine with a changed action.

    Args:
        differs: whether some state reached has another step, or a step with other evidence.
        killed_by: the claim that fails, or what else is wrong; None if nothing is.
        steps: the changed graph, where nothing was found wrong with its states.
        complete: false if it has more states than were explored.
    """

    differs: bool
    killed_by: str | None = None
    steps: Steps = field(default_factory=dict)
    complete: bool = True


class Watching:
    """The product of a machine with claims about its evidence, for all configurations."""

    def __init__(self, machine: Machine, watches: Sequence[Watch]) -> None:
        self._machine, self.watches = machine, watches
        self.product = watched(machine, watches)
        self._last: tuple[Action, Action] | None = None

    def action(self, action: Action) -> Action:
        """The action of the product for a changed one of the machine; the last is kept."""
        if self._last is None or self._last[0] is not action:
            (made,) = watched(self._machine.with_actions([action]), self.watches).actions
            self._last = action, made
        return self._last[1]


class Explored:
    """A machine that is right, explored under one configuration.

    Args:
        machine: a machine that keeps its claims there, and whose steps leave the evidence claimed.
        config: the configuration.
        final: where having no step left is right.
        watching: the claims about evidence; they are asked of the steps of the changed action.
        possible: what nothing may keep from happening.
        hidden: kinds of evidence that do not count as a difference.
        limit: how many states of the right machine are explored, nearest first.
        most: how many states that the right machine does not reach are explored for a change.
    """

    def __init__(
        self,
        machine: Machine,
        config: Config,
        *,
        final: Expr,
        watching: Watching | None = None,
        possible: Sequence[Possible] = (),
        hidden: frozenset[str] = frozenset(),
        limit: int | None = None,
        most: int = 30_000,
    ) -> None:
        found = explore(machine, config, final=final, claims=(), limit=limit)
        self.program = found.program
        self.hidden, self.most = hidden, most
        self._machine, self._watching = machine, watching or Watching(machine, ())
        # The product's states are the machine's, with the flags of the watches above them.
        self._product = compile_machine(self._watching.product, config)
        last = self.program.layout.fields[-1]
        self._flags_from = last.offset + last.width
        self._broken = self._product.checks([watch.broken for watch in self._watching.watches])
        self._holds = self.program.checks([claim.holds for claim in machine.claims])
        self._possible = [
            (self.program.predicate(here), {self.program.index(a) for a in some}, each.name)
            for each in possible
            for here, some in each.cases
        ]
        self._final = self.program.predicate(final)
        self._taking: dict[int, dict[int, int]] = {}
        self.steps, self._beyond = _steps(found)
        self.complete = found.complete

    def taking(self, index: int) -> dict[int, int]:
        """The states that have a step of this action, with the next state."""
        if index not in self._taking:
            self._taking[index] = {
                state: after
                for state, steps in self.steps.items()
                for taken, after in steps
                if taken == index
            }
        return self._taking[index]

    def judge(self, action: Action) -> Outcome:
        """What becomes of the machine with this action in place of the one of its name."""
        index = self.program.index(action)
        taking, changed = self.taking(index), self._changed(action, index)
        otherwise = self._leaving_other_evidence(action, index, taking.keys() - changed.keys())
        if not changed and not otherwise:
            return Outcome(False)
        step = _Step(self._product, self._watching.action(action), self._flags_from, self._broken)
        for state in (*changed, *otherwise):
            after = step(state)
            if after != taking.get(state, DISABLED):
                changed[state] = after
        return self._explore_again(index, changed, step)

    def _leaving_other_evidence(self, action: Action, index: int, states: Set[int]) -> set[int]:
        """The states whose step leaves other evidence; a changed guard changes none."""
        if action.effects is self.program.actions[index].effects:
            return set()
        tell = self.program.teller(action)
        return {
            state
            for state in states
            if self._shown(self.program.emissions(index, state)) != self._shown(tell(state))
        }

    def _changed(self, action: Action, index: int) -> dict[int, int]:
        """The states with another step, and where it leads."""
        step, taking = self.program.stepper(action), self.taking(index)
        below = self.program.underflows
        below.pop(index, None)
        found = {}
        for state in self.steps:
            after = step(state)
            if after == CUT and action.actor.is_environment and index not in below:
                after = DISABLED
            if after != taking.get(state, DISABLED):
                found[state] = after
        return found

    def _shown(self, left: tuple[int, list[Evidence]]) -> list[Evidence]:
        return [evidence for evidence in left[1] if evidence[0] not in self.hidden]

    def _explore_again(self, index: int, changed: dict[int, int], step: _Step) -> Outcome:
        found = Steps()
        waiting = deque(self.program.initial)
        seen = set(waiting)
        new = 0
        wanted = (1 << len(self._machine.claims)) - 1
        while waiting:
            state = waiting.popleft()
            if state in self._beyond:
                continue
            if state in self.steps:
                steps = self.steps[state]
                after = changed.get(state)
            else:
                new += 1
                holds = self._holds(state)
                if holds != wanted:
                    return Outcome(True, self._first(wanted & ~holds, self._machine.claims))
                if new > self.most:
                    continue
                steps, after = self.program.successors(state), step(state)
            if after is not None:
                if after == WRONG:
                    return Outcome(True, self._first(step.wrong[state], self._watching.watches))
                steps = [(a, target) for a, target in steps if a != index]
                if after != DISABLED:
                    steps.append((index, after))
                elif (kept := self._prevented(index, state, steps)) is not None:
                    return Outcome(True, kept)
            if not steps and not self._final(state):
                return Outcome(True, "deadlock")
            found[state] = steps
            for _, target in steps:
                if target not in seen:
                    seen.add(target)
                    waiting.append(target)
        return Outcome(True, None, found, self.complete and new <= self.most)

    def _prevented(self, index: int, state: int, steps: Sequence[tuple[int, int]]) -> str | None:
        """What can happen no more, now that a state has no step of this action."""
        left = {action for action, _ in steps}
        wanted = ((here, some, name) for here, some, name in self._possible if index in some)
        return next((n for here, some, n in wanted if not some & left and here(state)), None)

    @staticmethod
    def _first(bits: int, named: Sequence[Claim | Watch]) -> str:
        """The name of the lowest bit; of none, a count left its bounds."""
        at = (bits & -bits).bit_length() - 1
        return named[at].name if at >= 0 else "a count leaves its bounds"


def _steps(found: Exploration) -> tuple[Steps, frozenset[int]]:
    """The steps of each state that was expanded, and the other states that were met."""
    graph = found.graph()
    states = [0] * len(graph)
    for at, column in enumerate(graph.states.T.tolist()):
        states = [state | word << WORD * at for state, word in zip(states, column, strict=True)]
    first, targets, actions = graph.first.tolist(), graph.targets.tolist(), graph.actions.tolist()
    steps = Steps()
    for at in range(graph.expanded):
        rows = range(first[at], first[at + 1])
        steps[states[at]] = [
            (actions[row], states[targets[row]]) for row in rows if targets[row] != CUT_STEP
        ]
    return steps, frozenset(states[graph.expanded :])


class _Step:
    """The step of a changed action, without the flags of the watches.

    A step that leaves wrong evidence or takes a count out of its bounds is WRONG; `wrong` has the
    bits of the watches that say so, by state. Clients and faults do not go beyond a bound.
    """

    def __init__(
        self, product: Program, action: Action, flags_from: int, broken: Callable[[int], int]
    ) -> None:
        self._step = product.stepper(action)
        self._flags_from, self._broken = flags_from, broken
        self._index, self._below = product.index(action), product.underflows
        self._below.pop(self._index, None)
        self._outside = action.actor.is_environment
        self.wrong: dict[int, int] = {}

    def __call__(self, state: int) -> int:
        after = self._step(state)
        if after >> self._flags_from > 0:
            self.wrong[state] = self._broken(after)
            return WRONG
        if after == CUT:
            if self._outside and self._index not in self._below:
                return DISABLED
            self.wrong[state] = 0
            return WRONG
        return after
