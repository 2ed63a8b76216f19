"""Breadth-first search over all reachable states: claims, witnesses, deadlocks, coverage.

Begin with   explore, which gives an Exploration.
Owns         the search and the shortest traces it yields.
Leaves out   liveness (liveness.py).

A state is kept once, with the state it was first reached from; the action is found again by
stepping that state. States are met in order of distance, so every trace is a shortest one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from pglife_spec.lang.expr import Expr
from pglife_spec.lang.machine import Claim, Config, Machine
from pglife_spec.meanings.pack import WORD_BITS
from pglife_spec.meanings.python.program import CUT, Program, compile_machine
from pglife_spec.traces.trace import Trace, trace_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pglife_spec.explore.graph import Graph

REPORT_EVERY = 0.2
"""Seconds between two calls of the progress callback."""


@dataclass(frozen=True)
class Progress:
    """How far a search has come."""

    states: int
    transitions: int
    depth: int
    waiting: int


@dataclass
class Exploration:
    """What a search has found.

    Args:
        program: the machine that was searched.
        parents: every state reached, in order of distance, with the state it was reached from.
        levels: the number of states at each distance from the initial states.
        transitions: how many steps lie between the states reached.
        taken: how often each action was taken, by index.
        violated: for each claim that fails, a nearest state in which it does.
        witnessed: for each claim whose witness was reached, a nearest such state.
        deadlocks: states with no step left that are not meant to be final.
        finals: how many states have no step left and are meant to be final.
        cuts: how often each action was left out because there would be more than its bound.
        underflows: for actions that would take a counter below zero, the first state where.
        complete: false if the search stopped before every state was reached.
        seconds: how long it took.
    """

    program: Program
    parents: dict[int, int] = field(default_factory=dict)
    levels: list[int] = field(default_factory=list)
    transitions: int = 0
    taken: list[int] = field(default_factory=list)
    violated: dict[str, int] = field(default_factory=dict)
    witnessed: dict[str, int] = field(default_factory=dict)
    deadlocks: list[int] = field(default_factory=list)
    finals: int = 0
    cuts: list[int] = field(default_factory=list)
    underflows: dict[int, int] = field(default_factory=dict)
    complete: bool = True
    seconds: float = 0.0

    @property
    def states(self) -> int:
        return len(self.parents)

    @property
    def depth(self) -> int:
        """The distance of the farthest state."""
        return len(self.levels) - 1

    @property
    def ok(self) -> bool:
        """Whether no claim failed, no state is stuck, no counter went below zero and no step of
        the server was cut."""
        return not (self.violated or self.deadlocks or self.underflows or self.wrong_cuts())

    def wrong_cuts(self) -> list[str]:
        """Actions of the postmaster or a child that a bound has cut: the bound is wrong."""
        actions = zip(self.program.actions, self.cuts, strict=False)
        return [a.name for a, times in actions if times and not a.actor.is_environment]

    def first_cut(self, action: str) -> int:
        """A nearest state in which a bound has cut this action."""
        index = self.program.index(action)
        return next(s for s in self.parents if self.program.step(index, s) == CUT)

    def dead_actions(self) -> list[str]:
        """Actions that some state could enable by their form, and none did."""
        ruled_out = set(self.program.disabled)
        return [
            action.name
            for index, action in enumerate(self.program.actions)
            if not self.taken[index] and index not in ruled_out
        ]

    def coverage(self) -> dict[str, int]:
        """How often each action was taken, by name."""
        return {a.name: n for a, n in zip(self.program.actions, self.taken, strict=True)}

    def missing_witnesses(self) -> list[str]:
        """Claims whose witness was not reached: they may hold for lack of cases."""
        return [c.name for c in self.program.machine.claims if c.name not in self.witnessed]

    def path_to(self, state: int) -> list[tuple[int | None, int]]:
        """A shortest way to a state reached: pairs of action and state, the first initial."""
        back = [state]
        while self.parents[back[-1]] != back[-1]:
            back.append(self.parents[back[-1]])
        back.reverse()
        return follow(self.program, back)

    def trace_to(self, state: int, description: str = "") -> Trace:
        """A shortest trace to a state reached."""
        return trace_of(self.program, self.path_to(state), description=description)

    def by_level(self) -> Iterator[list[int]]:
        """The states at each distance, nearest first."""
        states = iter(self.parents)
        for size in self.levels:
            yield [next(states) for _ in range(size)]

    @property
    def expanded(self) -> int:
        """How many states have had their steps taken: the first ones, all of a complete search."""
        return self.states - (0 if self.complete else self.levels[-1])

    def graph(self) -> Graph:
        """The states and steps as arrays, cut steps among them; needs numpy."""
        import numpy as np

        from pglife_spec.explore.graph import CUT_STEP, Graph, words_of

        index = {state: at for at, state in enumerate(self.parents)}
        states = list(index)
        first, steps = [0], []
        for at, state in enumerate(states):
            if at < self.expanded:
                after = dict(self.program.successors(state))
                enabled = self.program.enabled(state)
                steps += [(index[after[a]] if a in after else CUT_STEP, a) for a in enabled]
            first.append(len(steps))
        return Graph(
            states=words_of(states, self.program.layout.words * WORD_BITS),
            parents=np.array([index[p] for p in self.parents.values()], dtype=np.int32),
            levels=tuple(self.levels),
            first=np.array(first, dtype=np.int64),
            targets=np.array([t for t, _ in steps], dtype=np.int32),
            actions=np.array([a for _, a in steps], dtype=np.int16),
            expanded=self.expanded,
        )

    def bits(self, exprs: Sequence[Expr]) -> npt.NDArray[np.uint64]:
        """For each state in order, bit k tells whether expression k holds; needs numpy."""
        import numpy as np

        if len(exprs) > 64:
            raise ValueError(f"at most 64 expressions at once, got {len(exprs)}")
        checks = self.program.checks(exprs)
        return np.fromiter(map(checks, self.parents), dtype=np.uint64, count=self.states)


def follow(program: Program, states: Sequence[int]) -> list[tuple[int | None, int]]:
    """The states with the first action that leads to each from the one before."""
    path: list[tuple[int | None, int]] = [(None, states[0])]
    for before, after in pairwise(states):
        action = min(a for a, t in program.successors(before) if t == after)
        path.append((action, after))
    return path


class _Watch:
    """Claims to be kept and witnesses still to be reached."""

    def __init__(self, program: Program, claims: Sequence[Claim], found: Exploration) -> None:
        self._program = program
        self._found = found
        self._claims = list(claims)
        self.waiting = list(claims)
        self._holds = program.checks([c.holds for c in claims])
        self._open = (1 << len(claims)) - 1
        self._reaches = program.checks([c.reaches for c in claims])

    def look(self, states: Sequence[int]) -> None:
        """Test the states in order."""
        holds, wanted = self._holds, self._open
        for state in states:
            if holds(state) & wanted != wanted:
                self._violated(state, wanted & ~holds(state))
                wanted = self._open
        if self.waiting:
            self._look_for_witnesses(states)

    def _violated(self, state: int, bits: int) -> None:
        self._open &= ~bits
        for bit, claim in enumerate(self._claims):
            if bits >> bit & 1:
                self._found.violated[claim.name] = state

    def _look_for_witnesses(self, states: Sequence[int]) -> None:
        for state in states:
            reached = self._reaches(state)
            if not reached:
                continue
            for bit, claim in enumerate(self.waiting):
                if reached >> bit & 1:
                    self._found.witnessed[claim.name] = state
            self.waiting = [c for c in self.waiting if c.name not in self._found.witnessed]
            if not self.waiting:
                return
            self._reaches = self._program.checks([c.reaches for c in self.waiting])


def explore(
    machine: Machine,
    config: Config,
    *,
    final: Expr | None = None,
    claims: Sequence[Claim] | None = None,
    limit: int | None = None,
    stop_at_violation: bool = False,
    until_witnessed: bool = False,
    progress: Callable[[Progress], None] | None = None,
    program: Program | None = None,
) -> Exploration:
    """Search all states that a machine reaches under a configuration.

    Args:
        machine: what to search.
        config: values of its parameters and bounds of its counters.
        final: where having no step left is right; without it, every such state is a deadlock.
        claims: what to check, instead of all claims of the machine.
        limit: stop after the level in which this many states are passed.
        stop_at_violation: stop after the level in which a claim first fails.
        until_witnessed: stop after the level in which the last witness is reached.
        progress: called a few times a second.
        program: the machine already compiled under this configuration.
    """
    started = time.monotonic()
    program = program or compile_machine(machine, config)
    program.cuts[:] = [0] * len(program.actions)
    found = Exploration(program, taken=[0] * len(program.actions))
    watch = _Watch(program, machine.claims if claims is None else claims, found)
    is_final = program.predicate(final) if final is not None else lambda _: False
    frontier = list(program.initial)
    found.parents.update((s, s) for s in frontier)
    due = started
    most = sys.maxsize if limit is None else limit
    while frontier:
        found.levels.append(len(frontier))
        watch.look(frontier)
        enough = until_witnessed and not watch.waiting
        if enough or (found.violated and stop_at_violation) or found.states > most:
            found.complete = False
            break
        following: list[int] = []
        for start in range(0, len(frontier), 5000):
            ends = _expand(found, frontier[start : start + 5000], following)
            _sort_ends(found, ends, is_final)
            if progress is not None and time.monotonic() >= due:
                due = time.monotonic() + REPORT_EVERY
                waiting = len(frontier) - start + len(following)
                progress(Progress(found.states, found.transitions, found.depth, waiting))
        frontier = following
    found.cuts = list(program.cuts)
    found.underflows = dict(program.underflows)
    found.seconds = time.monotonic() - started
    return found


def _expand(found: Exploration, states: Sequence[int], following: list[int]) -> list[int]:
    """Step every state; gives those without a step. The hot loop: keep it bare."""
    successors, parents, taken = found.program.successors, found.parents, found.taken
    add = following.append
    ends: list[int] = []
    transitions = 0
    for state in states:
        steps = successors(state)
        if not steps:
            ends.append(state)
            continue
        transitions += len(steps)
        for action, after in steps:
            taken[action] += 1
            if after not in parents:
                parents[after] = state
                add(after)
    found.transitions += transitions
    return ends


def _sort_ends(found: Exploration, ends: Sequence[int], is_final: Callable[[int], bool]) -> None:
    """Tell final states from deadlocks; a state whose only steps were cut is neither."""
    for state in ends:
        if is_final(state):
            found.finals += 1
        elif not found.program.enabled(state):
            found.deadlocks.append(state)
