"""Liveness of a graph that is at hand as a dictionary of steps, with arrays.

Begin with Fair.first_broken(). It only says whether a property fails; how, `liveness.py` shows.
"""

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components

from pglife_spec.explore.changed import Steps
from pglife_spec.lang.machine import Property
from pglife_spec.meanings.python.program import Program

Ints = npt.NDArray[np.int64]
Truths = npt.NDArray[np.bool_]


class Fair:
    """The properties of a machine, asked of graphs of its program or of a changed one."""

    def __init__(self, program: Program, properties: Sequence[Property]) -> None:
        self._program = program
        self._asked = properties
        self._fail_anyway: frozenset[str] | None = None
        self._checks = cache(program.checks([e for p in properties for e in (p.given, p.then)]))
        self._outside = np.array([a.actor.is_environment for a in program.actions])
        self._fair = [
            np.array([any(f.selects(a) for f in p.fairness) for a in program.actions])
            for p in properties
        ]

    def first_broken(self, steps: Steps, right: Steps) -> str | None:
        """The first property that fails of a graph, and holds of the right one."""
        for name in self._broken(steps):
            if self._fail_anyway is None:
                self._fail_anyway = frozenset(self._broken(right))
            if name not in self._fail_anyway:
                return name
        return None

    def _broken(self, steps: Steps) -> Iterator[str]:
        if not self._asked:
            return
        index = {state: at for at, state in enumerate(steps)}
        size = len(index)
        flat = [(at, index[t], a) for at, out in enumerate(steps.values()) for a, t in out]
        edges = np.array(flat, dtype=np.int64).reshape(-1, 3)
        bits = np.array([self._checks(state) for state in steps], dtype=np.uint64)
        for at, prop in enumerate(self._asked):
            given = (bits >> np.uint64(2 * at) & np.uint64(1)).astype(bool)
            then = (bits >> np.uint64(2 * at + 1) & np.uint64(1)).astype(bool)
            if self._fails(edges, size, given & ~then, ~then, self._fair[at]):
                yield prop.name

    def _fails(self, edges: Ints, size: int, start: Truths, open_: Truths, fair: Truths) -> bool:
        source, target, action = edges.T
        inside = open_[source] & open_[target]
        pending = _reached(source[inside], target[inside], start, size)
        stays = pending[source] & pending[target] & (~self._outside[action] | fair[action])
        graph = csr_matrix(
            (np.ones(stays.sum(), dtype=np.int8), (source[stays], target[stays])), (size, size)
        )
        count, component = connected_components(graph, directed=True, connection="strong")
        alive = np.zeros(count, dtype=bool)
        alive[component[pending]] = True
        members = np.bincount(component[pending], minlength=count)
        for one in np.flatnonzero(fair):
            by = action == one
            within = by & stays & (component[source] == component[target])
            met = np.zeros(count, dtype=bool)
            met[component[source[within]]] = True
            enabled = np.zeros(size, dtype=bool)
            enabled[source[by]] = True
            # Somewhere in the component it is disabled.
            met |= np.bincount(component[pending & enabled], minlength=count) < members
            alive &= met
        return bool(alive.any())


def _reached(source: Ints, target: Ints, start: Truths, size: int) -> Truths:
    """The states reached from where it starts, those included."""
    root = size
    entries = np.flatnonzero(start)
    if not len(entries):
        return np.zeros(size, dtype=bool)
    rows = np.concatenate([source, np.full(len(entries), root)])
    columns = np.concatenate([target, entries])
    graph = csr_matrix((np.ones(len(rows), dtype=np.int8), (rows, columns)), (size + 1, size + 1))
    order = breadth_first_order(graph, root, return_predecessors=False)
    found = np.zeros(size + 1, dtype=bool)
    found[order] = True
    return found[:size]
