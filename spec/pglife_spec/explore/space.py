"""The states reached so far and how they are stepped: in Python here, natively in native.py.

Begin with Space. A state is known by its index in the order of discovery: level by level, in order
of the states before and then of the actions. Every space gives the same indexes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from pglife_spec.lang.expr import FALSE, Expr
from pglife_spec.meanings.pack import WORD_BITS
from pglife_spec.meanings.python.program import Program

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pglife_spec.explore.graph import Graph

Scanner = Callable[[int, int, int], int]
"""`scan(first, end, wanted)`: the first state in which a wanted expression holds, or `end`; bit k
of `wanted` is for expression k."""


class Space(ABC):
    """States that a program reaches. At first it has the initial ones.

    Args:
        program: the machine.
        final: where having no step left is right.
    """

    def __init__(self, program: Program, final: Expr | None) -> None:
        self.program = program
        self.final = FALSE if final is None else final
        self.deadlocks: list[int] = []
        self.finals = 0

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def state(self, index: int) -> int:
        """The state of an index, as the program reads it."""

    @abstractmethod
    def index(self, state: int) -> int | None:
        """The index of a state, or None if it was not reached."""

    @abstractmethod
    def parent(self, index: int) -> int:
        """The state from which one was first reached; itself for an initial one."""

    @abstractmethod
    def expand(self, first: int, end: int) -> None:
        """Step some states, add the new ones, and sort those without a step."""

    @abstractmethod
    def scanner(self, exprs: Sequence[Expr]) -> Scanner:
        """A search among the states for those where expressions hold."""

    @abstractmethod
    def bits(self, exprs: Sequence[Expr]) -> npt.NDArray[np.uint64]:
        """For each state, bit k tells whether expression k holds; at most 64 expressions."""

    @abstractmethod
    def graph(self, levels: Sequence[int], expanded: int) -> Graph:
        """States and steps as arrays."""

    @abstractmethod
    def counts(self) -> tuple[list[int], list[int], dict[int, int]]:
        """For each action how often it was taken and cut; for those that went below zero, the
        first state from which they did."""

    @abstractmethod
    def memory(self) -> int:
        """How many bytes the states take, at the next growth; 0 if unknown."""

    def __iter__(self) -> Iterator[int]:
        return map(self.state, range(len(self)))

    def __contains__(self, state: int) -> bool:
        return self.index(state) is not None

    def way(self, index: int) -> list[int]:
        """The states from an initial one to this one."""
        back = [index]
        while (before := self.parent(back[-1])) != back[-1]:
            back.append(before)
        return [self.state(i) for i in reversed(back)]


class PythonSpace(Space):
    """States as numbers in lists and a dictionary, stepped by generated Python."""

    def __init__(self, program: Program, final: Expr | None) -> None:
        super().__init__(program, final)
        program.cuts[:] = [0] * len(program.actions)
        program.underflows.clear()
        self._states = list(program.initial)
        self._index = {state: at for at, state in enumerate(self._states)}
        self._parents = list(range(len(self._states)))
        self._taken = [0] * len(program.actions)
        self._is_final = program.predicate(self.final)

    def __len__(self) -> int:
        return len(self._states)

    def __iter__(self) -> Iterator[int]:
        return iter(self._states)

    def state(self, index: int) -> int:
        return self._states[index]

    def index(self, state: int) -> int | None:
        return self._index.get(state)

    def parent(self, index: int) -> int:
        return self._parents[index]

    def expand(self, first: int, end: int) -> None:
        """The hot loop: keep it bare."""
        successors, known, taken = self.program.successors, self._index, self._taken
        states, parents = self._states, self._parents
        for at in range(first, end):
            steps = successors(states[at])
            if not steps:
                self._end(states[at])
                continue
            steps.sort()
            for action, after in steps:
                taken[action] += 1
                if after not in known:
                    known[after] = len(states)
                    states.append(after)
                    parents.append(at)

    def _end(self, state: int) -> None:
        """Tell final states from deadlocks; a state whose only steps were cut is neither."""
        if self._is_final(state):
            self.finals += 1
        elif not self.program.enabled(state):
            self.deadlocks.append(state)

    def scanner(self, exprs: Sequence[Expr]) -> Scanner:
        checks, made_for = self.program.checks([]), 0

        def scan(first: int, end: int, wanted: int) -> int:
            nonlocal checks, made_for
            if wanted != made_for:
                made_for = wanted
                chosen = [e if wanted >> bit & 1 else FALSE for bit, e in enumerate(exprs)]
                checks = self.program.checks(chosen)
            states = self._states
            for at in range(first, end):
                if checks(states[at]):
                    return at
            return end

        return scan

    def bits(self, exprs: Sequence[Expr]) -> npt.NDArray[np.uint64]:
        import numpy as np

        return np.fromiter(
            map(self.program.checks(exprs), self._states), dtype=np.uint64, count=len(self)
        )

    def graph(self, levels: Sequence[int], expanded: int) -> Graph:
        import numpy as np

        from pglife_spec.explore.graph import CUT_STEP, Graph, words_of

        first, steps = [0], []
        for at, state in enumerate(self._states):
            if at < expanded:
                after = dict(self.program.successors(state))
                enabled = self.program.enabled(state)
                steps += [(self._index[after[a]] if a in after else CUT_STEP, a) for a in enabled]
            first.append(len(steps))
        return Graph(
            states=words_of(self._states, self.program.layout.words * WORD_BITS),
            parents=np.array(self._parents, dtype=np.int32),
            levels=tuple(levels),
            first=np.array(first, dtype=np.int64),
            targets=np.array([t for t, _ in steps], dtype=np.int32),
            actions=np.array([a for _, a in steps], dtype=np.int16),
            expanded=expanded,
        )

    def counts(self) -> tuple[list[int], list[int], dict[int, int]]:
        return self._taken, list(self.program.cuts), dict(self.program.underflows)

    def memory(self) -> int:
        """States, their numbers and places: measured on CPython, within a tenth."""
        return 170 * len(self)
