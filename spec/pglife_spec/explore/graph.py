"""The explored graph as arrays: states in order of discovery, steps as compressed sparse rows.

Begin with Graph. `Exploration.graph()` makes one.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WORD = 60
"""Bits of a state in one 64-bit word: two words of `meanings.pack`."""

CUT_STEP = -1
"""The target of a step that was left out because there would be more than a bound."""


@dataclass(frozen=True)
class Graph:
    """What was explored. A state is known by its index in the order of discovery.

    Args:
        states: one row a state, its lowest 60 bits first; uint64.
        parents: the state from which each was first reached, itself for an initial one; int32.
        levels: the number of states at each distance from the initial states.
        first: where the steps of each state begin, and one more for the end; int64.
        targets: where each step leads, or CUT_STEP; int32.
        actions: which action each step takes, rising within a state; int16.
        expanded: so many states, the first ones, have had their steps taken. The others have no
            rows: they were met when the search stopped.
    """

    states: npt.NDArray[np.uint64]
    parents: npt.NDArray[np.int32]
    levels: tuple[int, ...]
    first: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int32]
    actions: npt.NDArray[np.int16]
    expanded: int

    def __len__(self) -> int:
        return len(self.states)

    def state(self, index: int) -> int:
        """The state of an index as the int that a Program reads."""
        return sum(int(word) << WORD * at for at, word in enumerate(self.states[index]))

    def steps(self, index: int) -> list[tuple[int, int]]:
        """The steps of one state: pairs of action and target, cut ones among them."""
        rows = slice(int(self.first[index]), int(self.first[index + 1]))
        return list(zip(self.actions[rows].tolist(), self.targets[rows].tolist(), strict=True))


def words_of(states: list[int], bits: int) -> npt.NDArray[np.uint64]:
    """Packed states as rows of words."""
    low = (1 << WORD) - 1
    places = range(0, max(bits, 1), WORD)
    rows = [[state >> at & low for at in places] for state in states]
    return np.array(rows, dtype=np.uint64).reshape(len(states), len(places))
