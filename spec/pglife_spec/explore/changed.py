"""What a change of one action changes: a machine explored again only where it differs.

Begin with Explored, then Explored.judge(). The right machine is explored once; for each changed
action its own step is computed in every state, and only what lies behind a different step is new.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pglife_spec.lang.expr import Expr
from pglife_spec.lang.machine import Action, Claim, Config, Machine
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


class Explored:
    """A machine that is right, explored under one configuration.

    Args:
        machine: a machine that keeps its claims there, and whose steps leave the evidence claimed.
        config: the configuration.
        final: where having no step left is right.
        watches: the claims about evidence; they are asked of the steps of the changed action.
        hidden: kinds of evidence that do not count as a difference.
        most: how many states that the right machine does not reach are explored for a change.
    """

    def __init__(
        self,
        machine: Machine,
        config: Config,
        *,
        final: Expr,
        watches: Sequence[Watch] = (),
        hidden: frozenset[str] = frozenset(),
        most: int = 60_000,
    ) -> None:
        self.program = compile_machine(machine, config)
        self.hidden, self.most = hidden, most
        self._machine, self._watches = machine, watches
        # The product's states are the machine's, with the flags of the watches above them.
        self._product = compile_machine(watched(machine, watches), config)
        last = self.program.layout.fields[-1]
        self._flags_from = last.offset + last.width
        self._broken = self._product.checks([watch.broken for watch in watches])
        self._holds = self.program.checks([claim.holds for claim in machine.claims])
        self._final = self.program.predicate(final)
        self._taking: dict[int, dict[int, int]] = {}
        self.steps = Steps()
        waiting = deque(self.program.initial)
        seen = set(waiting)
        while waiting:
            state = waiting.popleft()
            self.steps[state] = self.program.successors(state)
            for _, after in self.steps[state]:
                if after not in seen:
                    seen.add(after)
                    waiting.append(after)

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
        step = _Step(self._product, self._watched(action), self._flags_from, self._broken)
        taking = self.taking(index)
        changed: dict[int, int] = {}
        for state in self.steps:
            after = step(state)
            if after != taking.get(state, DISABLED):
                changed[state] = after
        if not changed:
            return Outcome(self._leaves_other_evidence(action, index))
        return self._explore_again(index, changed, step)

    def _watched(self, action: Action) -> Action:
        (made,) = watched(self._machine.with_actions([action]), self._watches).actions
        return made

    def _leaves_other_evidence(self, action: Action, index: int) -> bool:
        tell = self.program.teller(action)
        return any(
            self._shown(self.program.emissions(index, state)) != self._shown(tell(state))
            for state in self.taking(index)
        )

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
                    return Outcome(True, self._first(step.wrong[state], self._watches))
                steps = [(a, target) for a, target in steps if a != index]
                if after != DISABLED:
                    steps.append((index, after))
            if not steps and not self._final(state):
                return Outcome(True, "deadlock")
            found[state] = steps
            for _, target in steps:
                if target not in seen:
                    seen.add(target)
                    waiting.append(target)
        return Outcome(True, None, found, new <= self.most)

    @staticmethod
    def _first(bits: int, named: Sequence[Claim | Watch]) -> str:
        """The name of the lowest bit; of none, a count left its bounds."""
        at = (bits & -bits).bit_length() - 1
        return named[at].name if at >= 0 else "a count leaves its bounds"


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
