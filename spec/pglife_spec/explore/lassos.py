"""Fair cycles on the explored graph, by arrays. Begin with Pending.

A cycle is weakly fair to an action that is disabled somewhere on it or taken somewhere on it, and
strongly fair to one that is disabled everywhere on it or taken somewhere on it. If any cycle of a
strongly connected component is fair, then so is one through the whole component, so it is enough
to judge components; for strong fairness, those that are left without the states that enable an
action which the component never takes.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import chain, repeat

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from pglife_spec.explore.graph import Graph
from pglife_spec.explore.search import Exploration, follow
from pglife_spec.lang.machine import Property
from pglife_spec.traces.trace import Trace, trace_of

Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Edge = tuple[int, int, int]
"""State, action, next state; states by their index in the graph."""


class Pending:
    """The states in which `given` has been met and `then` has not come true since.

    `order` has them in order of their distance from the initial states; `parents` says for each
    state from which pending state it was reached: itself where `given` holds and the way before
    does not matter, -1 where it is not pending. The steps of pending states are rows: `source` and
    `target` are places in `order`, the target -1 where the step leads out or was cut.
    """

    def __init__(self, found: Exploration, graph: Graph, prop: Property) -> None:
        self.found, self.graph = found, graph
        actions = found.program.actions
        weak = [any(f.selects(a) for f in prop.fairness if not f.strong) for a in actions]
        strong = [any(f.selects(a) for f in prop.fairness if f.strong) for a in actions]
        self.strong: Mask = np.array(strong, dtype=np.bool_)
        self.fair: Mask = np.array(weak, dtype=np.bool_) | self.strong
        own = [not a.actor.is_environment for a in actions]
        self.may_cycle = self.fair | np.array(own, dtype=np.bool_)
        self._gather(found.bits([prop.given, prop.then]))
        place = np.full(len(graph) + 1, -1, dtype=np.int32)
        place[self.order] = np.arange(len(self.order))
        rows = _rows(graph, self.order)
        self.source = np.repeat(np.arange(len(self.order)), _counts(graph, self.order))
        self.action = graph.actions[rows].astype(np.int64)
        # A step that was cut has the target -1: the last place, which is never pending.
        self.target = place[graph.targets[rows]]
        self.inner: Mask = self.may_cycle[self.action] & (self.target >= 0)
        self.is_fair_row = self.fair[self.action]

    def _gather(self, bits: npt.NDArray[np.uint64]) -> None:
        """Breadth first from all states with `given`, each entering at its own distance."""
        graph = self.graph
        is_open = bits & np.uint64(2) == 0
        enters = is_open & (bits & np.uint64(1) == 1)
        self.parents = np.full(len(graph), -1, dtype=np.int32)
        frontier = np.empty(0, dtype=np.int64)
        levels: list[Indices] = []
        begin = 0
        for size in chain(graph.levels, repeat(0)):
            level = np.arange(begin, begin + size)
            begin += size
            new = level[enters[level] & (self.parents[level] < 0)]
            self.parents[new] = new
            frontier = np.concatenate([frontier, new])
            if begin == len(graph) and not len(frontier):
                break
            levels.append(frontier)
            after = graph.targets[_rows(graph, frontier)]
            source = np.repeat(frontier, _counts(graph, frontier))
            fresh = (after >= 0) & is_open[after] & (self.parents[after] < 0)
            frontier, firsts = np.unique(after[fresh].astype(np.int64), return_index=True)
            self.parents[frontier] = source[fresh][firsts]
        self.order = np.concatenate(levels) if levels else frontier

    def first_fair_component(self) -> Indices | None:
        """The fair component nearest to the initial states, by places in `order`."""
        if not len(self.order):
            return None
        alive = np.ones(len(self.order), dtype=np.bool_)
        while True:
            component = self._components(alive)
            again = alive & ~self._starving(component)
            if (again == alive).all():
                break
            alive = again
        bad = self._unfair(component) | ~alive | (self.order >= self.graph.expanded)
        bad_components = np.zeros(component.max(initial=0) + 1, dtype=np.bool_)
        bad_components[component[bad]] = True
        good = np.flatnonzero(~bad_components[component])
        return np.flatnonzero(component == component[good[0]]) if len(good) else None

    def _components(self, alive: Mask) -> Indices:
        """The number of each pending state's component among the living states."""
        rows = self.inner & alive[self.source] & alive[self.target]
        ends = np.cumsum(np.bincount(self.source[rows], minlength=len(alive)))
        steps = (np.ones(rows.sum(), dtype=np.int8), self.target[rows], np.append(0, ends))
        graph = csr_matrix(steps, shape=(len(alive), len(alive)))
        _, component = connected_components(graph, directed=True, connection="strong")
        return component.astype(np.int64)

    def _keys(self, component: Indices, rows: Mask) -> Indices:
        """Pairs of component and action of these rows, as numbers."""
        return component[self.source[rows]] * len(self.fair) + self.action[rows]

    def _inside(self, component: Indices) -> Mask:
        """The rows that stay in their component."""
        inside: Mask = component[self.source] == component[self.target]
        return self.inner & inside

    def _starving(self, component: Indices) -> Mask:
        """The states that enable an action, to be treated strongly, that their component has not.

        States alone in their component are left to weak fairness, which asks the same of them.
        """
        starving = np.zeros(len(self.order), dtype=np.bool_)
        rows = self.strong[self.action] & (np.bincount(component)[component] > 1)[self.source]
        if rows.any():
            taken = self._keys(component, rows & self._inside(component))
            without = ~np.isin(self._keys(component, rows), taken)
            starving[self.source[rows][without]] = True
        return starving

    def _unfair(self, component: Indices) -> Mask:
        """The states of components in which some fair action always waits and is never taken."""
        unfair = np.zeros(len(self.order), dtype=np.bool_)
        size = np.bincount(component)
        alone = (size[component] == 1)[self.source]
        leaving = alone & self.is_fair_row & (self.target != self.source)
        unfair[self.source[leaving]] = True
        rows = ~alone & self.is_fair_row
        keys, firsts, times = np.unique(
            self._keys(component, rows), return_index=True, return_counts=True
        )
        taken = self._keys(component, rows & self._inside(component))
        waits = (times == size[keys // len(self.fair)]) & ~np.isin(keys, taken)
        unfair[self.source[rows][firsts[waits]]] = True
        return unfair

    def lasso(self, component: Indices) -> Trace:
        """A shortest stem into a component, and a cycle there that is fair."""
        members = set(self.order[component].tolist())
        entry = int(self.order[component[0]])
        back = [entry]
        while self.parents[back[-1]] != back[-1]:
            back.append(int(self.parents[back[-1]]))
        states = [self.graph.state(index) for index in reversed(back)]
        program = self.found.program
        stem = self.found.path_to(states[0]) + follow(program, states)[1:]
        path = stem + [(a, self.graph.state(t)) for a, t in self._cycle(entry, members)]
        at_rest = len(path) == len(stem)
        loop = len(stem) - 1
        if not at_rest:
            path.pop()
        said = "at rest for ever" if at_rest else f"from the last state back to state {loop}"
        return trace_of(program, path, loop=loop, description=said)

    def _cycle(self, entry: int, members: set[int]) -> list[tuple[int, int]]:
        """A way through a component back to its entry that meets every fair action's demand."""
        way: list[tuple[int, int]] = []
        now = entry
        fair = frozenset(np.flatnonzero(self.fair).tolist())
        strong = frozenset(np.flatnonzero(self.strong).tolist())
        enabled = frozenset(a for state in members for a in self._enabled(state))
        unmet = (fair & self._enabled(entry)) | (strong & enabled)
        while unmet:
            step = self._walk(now, members, partial(self._meets, unmet, strong))
            for _, action, after in step:
                unmet &= (self._enabled(after) | strong) - {action}
                way.append((action, after))
            now = step[-1][2]
        if now != entry:
            home = self._walk(now, members, lambda e: e[2] == entry)
            way.extend((a, t) for _, a, t in home)
        return way

    def _enabled(self, state: int) -> frozenset[int]:
        return frozenset(a for a, _ in self.graph.steps(state))

    def _meets(self, unmet: frozenset[int], strong: frozenset[int], edge: Edge) -> bool:
        return edge[1] in unmet or bool(unmet - strong - self._enabled(edge[2]))

    def _walk(self, start: int, members: set[int], wanted: Callable[[Edge], bool]) -> list[Edge]:
        """A shortest way inside a component whose last step is wanted."""
        came: dict[int, Edge | None] = {start: None}
        queue = deque([start])
        while queue:
            state = queue.popleft()
            for action, after in self.graph.steps(state):
                if after not in members or not self.may_cycle[action]:
                    continue
                edge = (state, action, after)
                if wanted(edge):
                    return _back(came, edge)
                if after not in came:
                    came[after] = edge
                    queue.append(after)
        raise AssertionError("a fair component does not have the way that its fairness promises")


def _counts(graph: Graph, states: Indices) -> Indices:
    return graph.first[states + 1] - graph.first[states]


def _rows(graph: Graph, states: Indices) -> Indices:
    """The rows of some states, one after the other."""
    counts = _counts(graph, states)
    ends = np.cumsum(counts)
    return np.repeat(graph.first[states] - (ends - counts), counts) + np.arange(counts.sum())


def _back(came: dict[int, Edge | None], last: Edge) -> list[Edge]:
    way = [last]
    while (edge := came[way[-1][0]]) is not None:
        way.append(edge)
    way.reverse()
    return way
