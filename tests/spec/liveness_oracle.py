"""Liveness by a second algorithm: Tarjan's, on states as they come, without arrays.

It was the explorer's own before the arrays, and now judges them. Begin with check_property().

A run breaks the property if from a state with `given` it never meets `then`. On a finite graph it
ends in a cycle, or in rest at one state. The cycle has no step of the environment, for faults and
clients come to rest (but for those whose fairness the property assumes); the way to it may have
any. It is fair if every fair action is disabled somewhere on it or taken somewhere on it. If any
cycle of a strongly connected component is fair, then so is the one through the whole component, so
it is enough to judge components.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from pglife_spec.explore.liveness import Verdict
from pglife_spec.explore.search import Exploration, follow
from pglife_spec.lang.machine import Property
from pglife_spec.meanings.python.program import Program
from pglife_spec.traces.trace import Trace, trace_of

Edge = tuple[int, int, int]
"""State, action, next state."""


def check_property(found: Exploration, prop: Property) -> Verdict:
    """Look for a fair run of an explored machine that breaks a property."""
    pending = _Pending(found, prop)
    component = pending.first_fair_component()
    lasso = None if component is None else pending.lasso(component)
    return Verdict(prop, len(pending.parents), lasso, 0.0, found.complete)


class _Pending:
    """The states in which `given` has been met and `then` has not come true since.

    `parents` has them in order of their distance from the initial states, each with the pending
    state it was reached from, or itself where `given` holds and the way before does not matter.
    """

    def __init__(self, found: Exploration, prop: Property) -> None:
        self.found = found
        self.program: Program = found.program
        actions = self.program.actions
        fair = [any(f.selects(a) for f in prop.fairness) for a in actions]
        self.fair = frozenset(i for i, is_fair in enumerate(fair) if is_fair)
        names = {actions[i].name for i in self.fair}
        self.inner = self.program.successors_by(
            lambda a: not a.actor.is_environment or a.name in names
        )
        self.checks = self.program.checks([prop.given, prop.then])
        self.parents: dict[int, int] = {}
        self._gather()

    def _gather(self) -> None:
        """Breadth first from all states with `given`, each entering at its own distance."""
        frontier: list[int] = []
        levels = self.found.by_level()
        while True:
            level = next(levels, [])
            if not level and not frontier:
                return
            for state in level:
                if state not in self.parents and self.checks(state) == 1:
                    self.parents[state] = state
                    frontier.append(state)
            following: list[int] = []
            for state in frontier:
                for _, after in self.program.successors(state):
                    if (
                        after not in self.parents
                        and after in self.found.space
                        and not self.checks(after) & 2
                    ):
                        self.parents[after] = state
                        following.append(after)
            frontier = following

    def edges(self, state: int) -> list[tuple[int, int]]:
        """The steps from a pending state that a cycle may have."""
        return [(a, t) for a, t in self.inner(state) if t in self.parents]

    def first_fair_component(self) -> set[int] | None:
        """The fair component nearest to the initial states."""
        best: set[int] | None = None
        place = {state: index for index, state in enumerate(self.parents)}
        nearest = len(place)
        for component in components(self.parents, self.edges):
            entry = min(map(place.__getitem__, component))
            if entry < nearest and self.is_fair(component):
                best, nearest = set(component), entry
        return best

    def is_fair(self, component: Sequence[int]) -> bool:
        """Whether a run may stay in a component for ever although the fair actions are fair."""
        members = frozenset(component)
        unmet = set(self.fair)
        for state in component:
            steps = self.inner(state)
            unmet -= {a for a, t in steps if t in members}
            # Most states have a fair step that leads out: no need to ask what else is enabled.
            if len(members) > 1 or not any(a in unmet for a, _ in steps):
                unmet &= set(self.program.enabled(state))
        return not unmet

    def lasso(self, component: set[int]) -> Trace:
        """A shortest stem into a component, and a cycle there that is fair."""
        entry = next(s for s in self.parents if s in component)
        back = [entry]
        while self.parents[back[-1]] != back[-1]:
            back.append(self.parents[back[-1]])
        back.reverse()
        stem = self.found.path_to(back[0]) + follow(self.program, back)[1:]
        path = stem + self._cycle(entry, component)
        at_rest = len(path) == len(stem)
        loop = len(stem) - 1
        if not at_rest:
            path.pop()
        said = "at rest for ever" if at_rest else f"from the last state back to state {loop}"
        return trace_of(self.program, path, loop=loop, description=said)

    def _cycle(self, entry: int, component: set[int]) -> list[tuple[int | None, int]]:
        """A way through a component back to its entry that meets every fair action's demand."""
        way: list[tuple[int | None, int]] = []
        now = entry
        unmet = self.fair - self._disabled(entry)
        while unmet:
            step = self._walk(now, component, partial(self._meets, unmet))
            for edge in step:
                unmet = unmet - {edge[1]} - self._disabled(edge[2])
                way.append((edge[1], edge[2]))
            now = step[-1][2]
        if now != entry:
            home = self._walk(now, component, lambda e: e[2] == entry)
            way.extend((a, t) for _, a, t in home)
        return way

    def _meets(self, unmet: frozenset[int], edge: Edge) -> bool:
        return edge[1] in unmet or bool(unmet & self._disabled(edge[2]))

    def _disabled(self, state: int) -> frozenset[int]:
        return self.fair - frozenset(self.program.enabled(state))

    def _walk(self, start: int, component: set[int], wanted: Callable[[Edge], bool]) -> list[Edge]:
        """A shortest way inside a component whose last step is wanted."""
        came: dict[int, Edge | None] = {start: None}
        queue = deque([start])
        while queue:
            state = queue.popleft()
            for action, after in sorted(self.edges(state)):
                if after not in component:
                    continue
                edge = (state, action, after)
                if wanted(edge):
                    return _back(came, edge)
                if after not in came:
                    came[after] = edge
                    queue.append(after)
        raise AssertionError("a fair component does not have the way that its fairness promises")


def _back(came: dict[int, Edge | None], last: Edge) -> list[Edge]:
    way = [last]
    while (edge := came[way[-1][0]]) is not None:
        way.append(edge)
    way.reverse()
    return way


def components(
    states: Iterable[int], edges: Callable[[int], Sequence[tuple[int, int]]]
) -> Iterator[list[int]]:
    """The strongly connected components of a graph, by Tarjan's algorithm without recursion."""
    number: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    for root in states:
        if root in number:
            continue
        work: list[tuple[int, Iterator[int]]] = []
        _enter(root, number, low, stack, work, edges)
        while work:
            state, rest = work[-1]
            for after in rest:
                if after not in number:
                    _enter(after, number, low, stack, work, edges)
                    break
                if after in low:
                    low[state] = min(low[state], number[after])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[state])
                if low[state] == number[state]:
                    at = len(stack) - 1
                    while stack[at] != state:
                        at -= 1
                    component = stack[at:]
                    del stack[at:]
                    for member in component:
                        del low[member]
                    yield component


def _enter(
    state: int,
    number: dict[int, int],
    low: dict[int, int],
    stack: list[int],
    work: list[tuple[int, Iterator[int]]],
    edges: Callable[[int], Sequence[tuple[int, int]]],
) -> None:
    number[state] = low[state] = len(number)
    stack.append(state)
    work.append((state, iter([t for _, t in edges(state)])))
