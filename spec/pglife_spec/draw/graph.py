"""Graphs of an explored machine: the values of one variable, and what leads between them.

Begin with   View, which says what to look at, then state_graph.
Owns         which edges there are, how often they were taken, and which are the normal path.
Leaves out   where things lie on the page (layout.py) and how they look (svg.py, text.py).

A step may pass through several values at once: reaping the last child takes the postmaster through
four states. Such a step leaves evidence of each, and the graph follows the evidence.
"""

from __future__ import annotations

import enum
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from pglife_spec.explore.search import Exploration
from pglife_spec.lang.expr import EnumSort, Expr, LanguageError, Var
from pglife_spec.lang.machine import Actor
from pglife_spec.meanings.pack import Field, label
from pglife_spec.meanings.python.program import Program


class Role(enum.Enum):
    """What a part of a picture stands for."""

    NORMAL = "normal"
    OTHER = "other"
    CRASH = "crash"


@dataclass
class Edge:
    """A way from one node to another.

    Args:
        source: the node it leaves.
        target: the node it enters.
        families: how often actions of each family took it.
        role: on the normal path, taken without a crash too, or only when something has crashed.
    """

    source: str
    target: str
    families: Counter[str] = field(default_factory=Counter)
    role: Role = Role.OTHER

    @property
    def count(self) -> int:
        return sum(self.families.values())

    @property
    def label(self) -> str:
        """The family that takes it most, and how many others do."""
        ranked = sorted(self.families, key=lambda f: (-self.families[f], f))
        more = f" +{len(ranked) - 1}" if len(ranked) > 1 else ""
        return ranked[0].replace("_", " ") + more

    @property
    def story(self) -> str:
        """All families with their counts."""
        ranked = sorted(self.families, key=lambda f: (-self.families[f], f))
        return ", ".join(f"{name} ({self.families[name]})" for name in ranked)


@dataclass
class Graph:
    """Nodes in the order of declaration, with how many states each stands for."""

    title: str
    nodes: dict[str, int]
    edges: list[Edge]
    start: tuple[str, ...] = ()
    ends: frozenset[str] = frozenset()
    roles: dict[str, Role] = field(default_factory=dict)

    def edge(self, source: str, target: str) -> Edge:
        """The edge between two nodes; KeyError if there is none."""
        for edge in self.edges:
            if (edge.source, edge.target) == (source, target):
                return edge
        raise KeyError((source, target))


@dataclass(frozen=True)
class View:
    """What a picture shows.

    Args:
        variable: its values are the nodes.
        title: above the picture.
        passed: kind of evidence, with old and new value, that a step leaves for each change.
        left: tells how the process ended; each of its values but the first is a node, an end.
        troubled: where this holds before or after a step, the step belongs to a crash.
        stimuli: actions of the environment that a normal life has, in order; the model does the
            rest by itself.
    """

    variable: Var
    title: str
    passed: str = ""
    left: Var | None = None
    troubled: Expr | None = None
    stimuli: tuple[str, ...] = ()


class _Reader:
    """Finds the nodes of states and the ways that steps take between them."""

    def __init__(self, program: Program, view: View) -> None:
        fields = program.layout.by_name
        self.program = program
        self.view = view
        self.field = fields[view.variable.name]
        self.left = fields[view.left.name] if view.left is not None else None
        self.names = _names(self.field)
        self.ends = _names(self.left)[1:] if self.left is not None else []
        self.mask = self.field.mask << self.field.offset
        if self.left is not None:
            self.mask |= self.left.mask << self.left.offset

    def node(self, state: int) -> str:
        """The value of the variable; once the process has left, how."""
        if self.left is not None:
            gone = state >> self.left.offset & self.left.mask
            if gone:
                return self.ends[gone - 1]
        return self.names[state >> self.field.offset & self.field.mask]

    def ways(self, state: int, action: int, after: int) -> list[tuple[str, str]]:
        """The edges a step takes, in order."""
        passed = [self.node(state)]
        if self.view.passed:
            _, evidence = self.program.emissions(action, state)
            passed += [str(e[-1]) for e in evidence if e[0] == self.view.passed]
        if passed[-1] != self.node(after):
            passed.append(self.node(after))
        return [(a, b) for a, b in pairwise(passed) if a != b]


def state_graph(found: Exploration, view: View) -> Graph:
    """The values of a variable and the steps between them, over all states explored."""
    program = found.program
    reader = _Reader(program, view)
    troubled = program.predicate(view.troubled) if view.troubled is not None else lambda _: False
    faults = {i for i, a in enumerate(program.actions) if a.actor is Actor.FAULT}
    edges: dict[tuple[str, str], Edge] = {}
    calm: set[tuple[str, str]] = set()
    for state in found.parents:
        for action, after in program.successors(state):
            if not (state ^ after) & reader.mask:
                continue
            for way in reader.ways(state, action, after):
                edge = edges.setdefault(way, Edge(*way))
                edge.families[program.actions[action].family] += 1
                if not (action in faults or troubled(state) or troubled(after)):
                    calm.add(way)
    normal = _normal_ways(reader)
    for way, edge in edges.items():
        edge.role = Role.NORMAL if way in normal else Role.OTHER if way in calm else Role.CRASH
    return _graph(reader, Counter(map(reader.node, found.parents)), list(edges.values()))


def _graph(reader: _Reader, sizes: Counter[str], edges: list[Edge]) -> Graph:
    order = {name: index for index, name in enumerate([*reader.names, *reader.ends])}
    met = {name for edge in edges for name in (edge.source, edge.target)} | set(sizes)
    start = reader.node(reader.program.initial[0])
    order = _along_normal_life(order, start, edges)
    roles: dict[str, Role] = {}
    for name in (n for n in order if n in met):
        around = {e.role for e in edges if name in (e.source, e.target)}
        roles[name] = next((r for r in Role if r in around), Role.OTHER)
    return Graph(
        reader.view.title,
        {name: sizes[name] for name in roles},
        sorted(edges, key=lambda e: (order[e.source], order[e.target])),
        tuple(dict.fromkeys(map(reader.node, reader.program.initial))),
        frozenset(reader.ends) & met,
        roles,
    )


def _along_normal_life(order: dict[str, int], start: str, edges: list[Edge]) -> dict[str, int]:
    """The order of declaration; if a normal life goes back in it, the order of that life."""
    onward = {e.source: e.target for e in edges if e.role is Role.NORMAL and e.target != start}
    if all(order[a] < order[b] for a, b in onward.items()):
        return order
    life = [start]
    while (after := onward.get(life[-1])) is not None and after not in life:
        life.append(after)
    names = [*life, *(name for name in order if name not in life)]
    return {name: index for index, name in enumerate(names)}


def _normal_ways(reader: _Reader) -> set[tuple[str, str]]:
    """The edges of a life without faults: to rest, then one stimulus after the other, to rest."""
    program = reader.program
    own = program.successors_by(lambda a: not a.actor.is_environment)
    ways: set[tuple[str, str]] = set()

    def walk(path: list[tuple[int, int, int]]) -> int:
        for step in path:
            if (step[0] ^ step[2]) & reader.mask:
                ways.update(reader.ways(*step))
        return path[-1][2]

    state = program.initial[0]
    for stimulus in (None, *reader.view.stimuli):
        if stimulus is not None:
            after = program.step(stimulus, state)
            if after < 0:
                break
            state = walk([(state, program.index(stimulus), after)])
        rest = _to_rest(own, state)
        if rest:
            state = walk(rest)
    return ways


def _to_rest(own: Callable[[int], list[tuple[int, int]]], start: int) -> list[tuple[int, int, int]]:
    """A shortest way by the machine's own steps to a state in which it has none left."""
    came: dict[int, tuple[int, int, int] | None] = {start: None}
    queue = deque([start])
    while queue:
        state = queue.popleft()
        steps = sorted(own(state))
        if not steps:
            way: list[tuple[int, int, int]] = []
            edge = came[state]
            while edge is not None:
                way.append(edge)
                edge = came[edge[0]]
            return way[::-1]
        for action, after in steps:
            if after not in came:
                came[after] = (state, action, after)
                queue.append(after)
    return []


def _names(field: Field) -> list[str]:
    if not isinstance(field.sort, EnumSort):
        raise LanguageError(f"{field.name} is not of an enum: it cannot be drawn")
    return [label(member) for member in field.sort.members]
