"""Breadth-first search over all reachable states: claims, witnesses, deadlocks, coverage.

Begin with explore(), which gives an Exploration. States are met in order of distance, so every
trace is a shortest one.
"""

from __future__ import annotations

import enum
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from pglife_spec.explore.space import PythonSpace, Space
from pglife_spec.lang.errors import SpecError
from pglife_spec.lang.expr import Expr
from pglife_spec.lang.machine import Claim, Config, Machine
from pglife_spec.meanings.python.program import CUT, Program, compile_machine
from pglife_spec.meanings.store import CodeStore
from pglife_spec.traces.trace import Trace, trace_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pglife_spec.explore.graph import Graph

REPORT_EVERY = 0.2
"""Seconds between two calls of the progress callback."""

FEW, MANY = 5_000, 1 << 18
"""States between two looks at the clock: in Python, and natively."""

WORTH_IT = 4_000
"""So many states pay for compiling native code."""

LARGE = 64
"""A machine of so many actions takes as long to compile to Python as natively."""


class Stop(enum.Enum):
    """Why a search ended before it had seen every state."""

    LIMIT = "stopped at the limit"
    MEMORY = "out of the memory it may take"
    INTERRUPTED = "interrupted"
    VIOLATED = "stopped at a claim that fails"
    WITNESSED = "stopped at the last witness"


@dataclass(frozen=True)
class Progress:
    """How far a search has come."""

    states: int
    transitions: int
    depth: int
    waiting: int
    rate: float
    """New states in a second."""


@dataclass
class Exploration:
    """What a search has found.

    Args:
        program: the machine that was searched.
        space: every state reached, in order of distance.
        levels: the number of states at each distance from the initial states.
        expanded: so many states, the first ones, have had their steps taken.
        taken: how often each action was taken, by index.
        violated: for each claim that fails, a nearest state in which it does.
        witnessed: for each claim whose witness was reached, a nearest such state.
        cuts: how often each action was left out because there would be more than its bound.
        underflows: for actions that would take a counter below zero, the first state where.
        stopped: why not every state was reached; None if every one was.
        seconds: how long it took.
    """

    program: Program
    space: Space
    levels: list[int] = field(default_factory=list)
    expanded: int = 0
    taken: list[int] = field(default_factory=list)
    violated: dict[str, int] = field(default_factory=dict)
    witnessed: dict[str, int] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    underflows: dict[int, int] = field(default_factory=dict)
    stopped: Stop | None = None
    seconds: float = 0.0

    @property
    def states(self) -> int:
        return len(self.space)

    @property
    def transitions(self) -> int:
        """How many steps lie between the states reached."""
        return sum(self.taken)

    @property
    def complete(self) -> bool:
        """Whether every state was reached."""
        return self.stopped is None

    @property
    def deadlocks(self) -> list[int]:
        """States with no step left that are not meant to be final."""
        return self.space.deadlocks

    @property
    def finals(self) -> int:
        """How many states have no step left and are meant to be final."""
        return self.space.finals

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
        actions = zip(self.program.actions, self.cuts, strict=True)
        return [a.name for a, times in actions if times and not a.actor.is_environment]

    def first_cut(self, action: str) -> int:
        """A nearest state in which a bound has cut this action."""
        index = self.program.index(action)
        return next(s for s in self.space if self.program.step(index, s) == CUT)

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

    def without_case(self) -> list[str]:
        """Claims that the configuration alone decides: they say nothing of its states."""
        claims = self.program.machine.claims
        return [c.name for c in claims if self.program.is_constant(c.holds)]

    def missing_witnesses(self) -> list[str]:
        """Claims whose witness was not reached: they may hold for lack of cases."""
        decided = {*self.witnessed, *self.without_case()}
        return [c.name for c in self.program.machine.claims if c.name not in decided]

    def path_to(self, state: int) -> list[tuple[int | None, int]]:
        """A shortest way to a state reached: pairs of action and state, the first initial."""
        index = self.space.index(state)
        if index is None:
            raise SpecError("no way leads to a state that was not reached")
        return follow(self.program, self.space.way(index))

    def trace_to(self, state: int, description: str = "") -> Trace:
        """A shortest trace to a state reached."""
        return trace_of(self.program, self.path_to(state), description=description)

    def by_level(self) -> Iterator[list[int]]:
        """The states at each distance, nearest first."""
        states = iter(self.space)
        for size in self.levels:
            yield [next(states) for _ in range(size)]

    def graph(self) -> Graph:
        """The states and steps as arrays, cut steps among them; needs numpy."""
        return self.space.graph(self.levels, self.expanded)

    def bits(self, exprs: Sequence[Expr]) -> npt.NDArray[np.uint64]:
        """For each state in order, bit k tells whether expression k holds; needs numpy."""
        if len(exprs) > 64:
            raise ValueError(f"at most 64 expressions at once, got {len(exprs)}")
        return self.space.bits(exprs)


def follow(program: Program, states: Sequence[int]) -> list[tuple[int | None, int]]:
    """The states with the first action that leads to each from the one before."""
    path: list[tuple[int | None, int]] = [(None, states[0])]
    for before, after in pairwise(states):
        action = min(a for a, t in program.successors(before) if t == after)
        path.append((action, after))
    return path


class _Watch:
    """Claims to be kept and witnesses still to be reached."""

    def __init__(self, claims: Sequence[Claim], found: Exploration) -> None:
        self._claims = list(claims)
        self._found = found
        self._exprs = [~c.holds for c in claims], [c.reaches for c in claims]
        self._seen = found.violated, found.witnessed
        said = [not found.program.is_constant(claim.holds) for claim in claims]
        witnesses = sum(1 << at for at, has_case in enumerate(said) if has_case)
        self._open = [(1 << len(claims)) - 1, witnesses]
        self.search()

    def search(self) -> None:
        """Search the states as they are kept now."""
        self._searches = [
            (self._found.space.scanner(exprs), self._found.program.checks(exprs), seen)
            for exprs, seen in zip(self._exprs, self._seen, strict=True)
        ]

    @property
    def witnessed(self) -> bool:
        """Whether every witness was reached."""
        return not self._open[1]

    def look(self, first: int, end: int) -> None:
        """Test the states in order."""
        for kind, (scan, checks, seen) in enumerate(self._searches):
            at = first
            while self._open[kind] and (at := scan(at, end, self._open[kind])) < end:
                state = self._found.space.state(at)
                bits = checks(state) & self._open[kind]
                self._open[kind] &= ~bits
                for bit, claim in enumerate(self._claims):
                    if bits >> bit & 1:
                        seen[claim.name] = state


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C sets what the given function tells, so that no round is left half done."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: asked.set())
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)


def native_available() -> bool:
    """Whether the packages of the extra `fast` are installed."""
    try:
        import llvmlite
        import numpy
    except ModuleNotFoundError:
        return False
    return bool(llvmlite and numpy)


def explore(
    machine: Machine,
    config: Config,
    *,
    final: Expr | None = None,
    claims: Sequence[Claim] | None = None,
    limit: int | None = None,
    max_memory: int | None = None,
    stop_at_violation: bool = False,
    until_witnessed: bool = False,
    progress: Callable[[Progress], None] | None = None,
    program: Program | None = None,
    native: bool | None = None,
    threads: int = 2,
    store: CodeStore | None = None,
) -> Exploration:
    """Search all states that a machine reaches under a configuration.

    Args:
        machine: what to search.
        config: values of its parameters and bounds of its counters.
        final: where having no step left is right; without it, every such state is a deadlock.
        claims: what to check, instead of all claims of the machine.
        limit: stop after the level in which this many states are passed.
        max_memory: stop before the states take more bytes.
        stop_at_violation: stop after the level in which a claim first fails.
        until_witnessed: stop after the level in which the last witness is reached.
        progress: called a few times a second.
        program: the machine already compiled under this configuration.
        native: whether to step by native code, which finds the same; by default, where the extra
            `fast` is installed, once the machine or the states found pay for compiling it.
        threads: how many step natively, 1 or 2.
        store: keeps native code for the next process.
    """
    started = time.monotonic()
    program = program or compile_machine(machine, config)
    found = Exploration(program, PythonSpace(program, final))
    speed = _Speed(found, native_available() if native is None else native, threads, store)
    if native:
        speed.go_native()
    watch = _Watch(machine.claims if claims is None else claims, found)

    def enough() -> Stop | None:
        if until_witnessed and watch.witnessed:
            return Stop.WITNESSED
        if found.violated and stop_at_violation:
            return Stop.VIOLATED
        return Stop.LIMIT if limit is not None and found.states > limit else None

    with _interruptible() as interrupted:
        rounds = _Rounds(found, progress, interrupted, max_memory)
        _search(found, watch, speed, lambda first, end: enough() or rounds.run(first, end))
    found.taken, found.cuts, found.underflows = found.space.counts()
    found.seconds = time.monotonic() - started
    return found


def _search(
    found: Exploration,
    watch: _Watch,
    speed: _Speed,
    step: Callable[[int, int], Stop | None],
) -> None:
    """Level by level, until there is no new state or `step` says why to stop."""
    first = 0
    while first < found.states and found.stopped is None:
        end = found.states
        if speed.may_change:
            speed.go_native()
            watch.search()
        found.levels.append(end - first)
        watch.look(first, end)
        found.stopped = step(first, end)
        first = end
    if first < found.states:
        found.levels.append(found.states - first)
        watch.look(first, found.states)


@dataclass
class _Speed:
    """Goes on natively once that pays."""

    found: Exploration
    allowed: bool
    threads: int
    store: CodeStore | None

    @property
    def may_change(self) -> bool:
        """Whether it is time to go on natively."""
        in_python = isinstance(self.found.space, PythonSpace)
        pays = self.found.states > WORTH_IT or len(self.found.program.actions) > LARGE
        return self.allowed and in_python and pays

    def go_native(self) -> None:
        """Go on with native code from the states found so far."""
        from pglife_spec.explore.native import NativeSpace

        begun = self.found.space
        assert isinstance(begun, PythonSpace)
        self.found.space = NativeSpace(
            self.found.program, begun.final, threads=self.threads, store=self.store, begun=begun
        )


class _Rounds:
    """Steps the states of a level, some at a time, and tells how far it is."""

    def __init__(
        self,
        found: Exploration,
        progress: Callable[[Progress], None] | None,
        interrupted: Callable[[], bool],
        max_memory: int | None,
    ) -> None:
        self._found = found
        self._progress = progress
        self._interrupted = interrupted
        self._max_memory = sys.maxsize if max_memory is None else max_memory
        self._due = self._began = time.monotonic()

    def run(self, first: int, end: int) -> Stop | None:
        """Step the states from one index up to another; tells why it stopped before."""
        space = self._found.space
        size = FEW if isinstance(space, PythonSpace) else MANY
        for start in range(first, end, size):
            if self._interrupted():
                return Stop.INTERRUPTED
            if space.memory() > self._max_memory:
                return Stop.MEMORY
            stop = min(end, start + size)
            space.expand(start, stop)
            self._found.expanded = stop
            now = time.monotonic()
            if self._progress is not None and now >= self._due:
                self._due = now + REPORT_EVERY
                self._say(now)
        return None

    def _say(self, now: float) -> None:
        found, space = self._found, self._found.space
        assert self._progress is not None
        states, rate = len(space), len(space) / max(now - self._began, 1e-9)
        steps = sum(space.counts()[0])
        waiting = states - found.expanded
        self._progress(Progress(states, steps, found.depth, waiting, rate))
