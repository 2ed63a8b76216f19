"""The values of one variable over all states explored, and the steps between them.

Begin with `LifeView`, which says what to look at, then `life_graph`.

A step may pass through several values at once: reaping the last child takes the postmaster through
four states. Such a step leaves evidence of each, and the graph follows the evidence.
"""

import enum
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypedDict

import networkx as nx
import numpy as np
import numpy.typing as npt

from pglife_spec.explore.search import Exploration
from pglife_spec.lang.expr import FALSE, EnumSort, Eq, Expr, LanguageError, Var, const
from pglife_spec.lang.machine import Actor
from pglife_spec.meanings.pack import Field, label
from pglife_spec.meanings.python.program import Program

Way = tuple[str, str]
"""Two values between which a step leads."""


class Role(enum.Enum):
    """What a node or an edge stands for, the strongest first."""

    NORMAL = "normal"
    OTHER = "other"
    CRASH = "crash"
    FINDING = "finding"


class LifeNode(TypedDict):
    """Attributes of a value.

    `states` is the number of states with it; `start` whether it is initial; `end` whether the
    process has ended there; `role` the strongest role of its edges.
    """

    states: int
    start: bool
    end: bool
    role: Role


class LifeEdge(TypedDict):
    """Attributes of an edge: one action that leads from one value to another.

    `action` is also the key of the edge; `family` its name without choices, which `choices` has;
    `count` the number of states in which it does; `role` what the way stands for.
    """

    action: str
    family: str
    choices: tuple[str, ...]
    actor: str
    count: int
    role: Role


@dataclass(frozen=True)
class LifeView:
    """What a graph shows.

    Args:
        variable: its values are the nodes. For a counted kind: the counter of each local state,
            by name; `absent` is the node where all are 0.
        title: above a picture.
        passed: kind of evidence, with old and new value, that a step leaves for each change.
        left: says how the process ended; each of its values but the first is a node, an end.
        troubled: where this holds before or after a step, the step belongs to a crash.
        stimuli: actions of the environment that a normal life has, in order; the model does the
            rest by itself.
        words: shorter words for the choices of actions.
    """

    variable: Var | Mapping[str, Var]
    title: str
    passed: str = ""
    left: Var | None = None
    troubled: Expr | None = None
    stimuli: tuple[str, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)
    absent: str = "ABSENT"


class _Reader:
    """Finds the nodes of states and the ways that steps take between them."""

    def __init__(self, program: Program, view: LifeView) -> None:
        fields = program.layout.by_name
        self.program = program
        self.view = view
        if isinstance(view.variable, Var):
            self.field: Field | None = fields[view.variable.name]
            self.names = _names(self.field)
            self.counters: list[tuple[Field, str]] = []
        else:
            self.field = None
            self.counters = [(fields[var.name], name) for name, var in view.variable.items()]
            self.names = [view.absent, *view.variable]
        self.left = fields[view.left.name] if view.left is not None else None
        self.ends = _names(self.left)[1:] if self.left is not None else []
        watched = [self.field, self.left, *(counter for counter, _ in self.counters)]
        self.mask = 0
        for each in watched:
            if each is not None:
                self.mask |= each.mask << each.offset

    def node(self, state: int) -> str:
        """The value in a state; once the process has ended, how."""
        if self.left is not None:
            ended = state >> self.left.offset & self.left.mask
            if ended:
                return self.ends[ended - 1]
        if self.field is not None:
            return self.names[state >> self.field.offset & self.field.mask]
        for counter, name in self.counters:
            if state >> counter.offset & counter.mask:
                return name
        return self.view.absent

    @property
    def all_names(self) -> list[str]:
        """All nodes that there may be."""
        absent = [] if self.field is not None else [self.view.absent]
        return [*self.ends, *(name for name in self.names if name not in absent), *absent]

    def places(self, found: Exploration) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        """For each state explored its node, as an index of `all_names`; whether in trouble."""
        exprs: list[Expr] = []
        if self.left is not None:
            exprs += [Eq(self.left.var, const(m)) for m in _members(self.left)[1:]]
        if self.field is not None:
            exprs += [Eq(self.field.var, const(m)) for m in _members(self.field)]
        exprs += [counter.var >= 1 for counter, _ in self.counters]
        bits = found.bits([*exprs, self.view.troubled if self.view.troubled is not None else FALSE])
        holds = [
            (bits >> np.uint64(at) & np.uint64(1)).astype(bool) for at in range(len(exprs) + 1)
        ]
        return np.select(holds[:-1], range(len(exprs)), len(exprs)), holds[-1]

    def ways(self, state: int, action: int, after: int) -> list[Way]:
        """The edges that a step takes, in order."""
        passed = [self.node(state)]
        if self.view.passed:
            _, evidence = self.program.emissions(action, state)
            passed += [str(e[-1]) for e in evidence if e[0] == self.view.passed]
        if passed[-1] != self.node(after):
            passed.append(self.node(after))
        return [(a, b) for a, b in pairwise(passed) if a != b]


class _Taken:
    """How often each way was taken by each action, and which ways need no crash."""

    def __init__(self, found: Exploration, reader: _Reader) -> None:
        self.counts: Counter[tuple[Way, int]] = Counter()
        self.calm: set[Way] = set()
        self.sizes: Counter[str] = Counter()
        nodes, troubled = reader.places(found)
        self.sizes.update(
            {reader.all_names[at]: int(n) for at, n in enumerate(np.bincount(nodes)) if n}
        )
        graph = found.graph()
        before = np.repeat(np.arange(len(graph.first) - 1), np.diff(graph.first))
        moves = (graph.targets >= 0) & (nodes[before] != nodes[graph.targets])
        before, after, actions = before[moves], graph.targets[moves], graph.actions[moves]
        fault = np.array([a.actor is Actor.FAULT for a in found.program.actions])
        crash = fault[actions] | troubled[before] | troubled[after]
        if reader.view.passed:
            edges = np.stack([before, after, actions, crash])
        else:
            edges = np.stack([nodes[before], nodes[after], actions, crash])
        kinds, times = np.unique(edges, axis=1, return_counts=True)
        for (source, target, action, in_crash), count in zip(kinds.T, times, strict=True):
            if reader.view.passed:
                states = graph.state(source), graph.state(target)
                ways = reader.ways(states[0], int(action), states[1])
            else:
                ways = [(reader.all_names[source], reader.all_names[target])]
            for way in ways:
                self.counts[way, int(action)] += int(count)
                if not in_crash:
                    self.calm.add(way)

    @property
    def ways(self) -> set[Way]:
        return {way for way, _ in self.counts}


def life_graph(
    found: Exploration, view: LifeView, *, repaired: Exploration | None = None
) -> nx.MultiDiGraph:
    """The values of a variable and the steps between them, over all states explored.

    Nodes have the attributes of `LifeNode` and stand in the order in which a normal life meets
    them; edges have those of `LifeEdge`. The graph's own attribute is `title`.

    Args:
        found: the exploration.
        view: what to look at.
        repaired: an exploration of the same machine without its known defects. An edge that it
            does not have is a `Role.FINDING`.
    """
    program, reader = found.program, _Reader(found.program, view)
    taken = _Taken(found, reader)
    normal = _normal_ways(reader)
    sound = None if repaired is None else _Taken(repaired, _Reader(repaired.program, view)).ways
    roles = {way: _role(way, normal, taken.calm, sound) for way in taken.ways}
    sizes = taken.sizes
    start = {reader.node(state) for state in program.initial}
    met = {name for way in roles for name in way} | set(sizes)
    graph = nx.MultiDiGraph(title=view.title)
    for name in _in_order(reader, roles):
        if name in met:
            around = {role for way, role in roles.items() if name in way}
            role = next((r for r in Role if r in around), Role.OTHER)
            end = name in reader.ends
            node = LifeNode(states=sizes[name], start=name in start, end=end, role=role)
            graph.add_node(name, **node)
    place = {name: index for index, name in enumerate(graph)}
    for (way, index), count in sorted(
        taken.counts.items(), key=lambda item: (*(place[n] for n in item[0][0]), item[0][1])
    ):
        action = program.actions[index]
        edge = LifeEdge(
            action=action.name,
            family=action.family,
            choices=tuple(view.words.get(c, c) for c in action.choices.values()),
            actor=action.actor.value,
            count=count,
            role=roles[way],
        )
        graph.add_edge(*way, key=action.name, **edge)
    return graph


def _role(way: Way, normal: set[Way], calm: set[Way], sound: set[Way] | None) -> Role:
    if sound is not None and way not in sound:
        return Role.FINDING
    return Role.NORMAL if way in normal else Role.OTHER if way in calm else Role.CRASH


def _in_order(reader: _Reader, roles: Mapping[Way, Role]) -> list[str]:
    """The order of declaration; if a normal life goes back in it, the order of that life."""
    names = [*reader.names, *reader.ends]
    start = reader.node(reader.program.initial[0])
    life = nx.DiGraph([w for w, r in roles.items() if r is Role.NORMAL and w[1] != start])
    if all(names.index(a) < names.index(b) for a, b in life.edges):
        return names
    met = list(nx.dfs_preorder_nodes(life, start)) if start in life else []
    return [*met, *(name for name in names if name not in met)]


def _normal_ways(reader: _Reader) -> set[Way]:
    """The edges of a life without faults: one stimulus after the other, each until all is idle."""
    program = reader.program
    own = program.successors_by(lambda a: not a.actor.is_environment)
    ways: set[Way] = set()

    def walk(path: Sequence[tuple[int, int, int]]) -> int:
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
        path = _until_idle(own, state)
        if path:
            state = walk(path)
    return ways


def _until_idle(
    own: Callable[[int], list[tuple[int, int]]], start: int
) -> list[tuple[int, int, int]]:
    """A shortest way by the machine's own steps to a state in which it has none left.

    The search makes its graph while it runs: the whole one is not there yet, nor needed.
    """
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
    return [label(member) for member in _members(field)]


def _members(field: Field) -> Sequence[enum.Enum]:
    if not isinstance(field.sort, EnumSort):
        raise LanguageError(f"{field.name} is not of an enum: it cannot be drawn")
    return field.sort.members
