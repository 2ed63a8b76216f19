"""Layered layout: where the nodes, edges and labels of a graph lie on the page.

Begin with `arrange`. fast-sugiyama finds the layers and the order in each; every label is a node of
its own there, so that labels never lie on each other or on a node. It knows no widths, so the
coordinates are found here: every edge has one upright line, which passes through its label.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil

import networkx as nx
from fast_sugiyama import from_edges

Point = tuple[float, float]
Size = tuple[float, float]

X_SPACE = 10.0
Y_SPACE = 10.0
MARGIN = 16.0
PORTS = 0.9
"""How much of the side of a node its edges are spread over."""
_ROOT = "root"


@dataclass
class Page:
    """Where things lie: centres of nodes and of labels, and the points each edge goes through."""

    width: float = 0.0
    height: float = 0.0
    nodes: list[Point] = field(default_factory=list)
    labels: list[Point] = field(default_factory=list)
    routes: list[list[Point]] = field(default_factory=list)


@dataclass
class _Layers:
    """What stands in each layer, from left to right.

    Vertices are the nodes, then the labels, then the points where an edge crosses a layer. Each
    belongs to a column, whose members share one x: a node has its own, an edge has one with its
    label and its points. `edges` has the vertices of each edge downwards, by its label.
    """

    rows: list[list[int]]
    column: dict[int, int]
    edges: dict[int, list[int]]


@dataclass(frozen=True)
class _Link:
    """A node and an edge that meets it.

    Args:
        node: the node.
        label: the label of the edge.
        column: the column of the edge, where they meet.
        below: whether they meet at the bottom of the node.
        offset: how far right of the node's centre.
        weight: how much to avoid a bend there.
    """

    node: int
    label: int
    column: int
    below: bool
    offset: int
    weight: int


def arrange(
    sizes: Sequence[Size],
    edges: Sequence[tuple[int, int, Size]],
    weights: Sequence[int] | None = None,
) -> Page:
    """Lay out a graph whose nodes are given in the order in which they should go down the page.

    Args:
        sizes: width and height of each node.
        edges: source and target by index, and the size of the label. Edges to an earlier node
            run upwards.
        weights: how straight to draw each edge, 1 for an ordinary one.
    """
    count = len(sizes)
    every = [*sizes, *(size for _, _, size in edges)]
    links = nx.DiGraph()
    links.add_nodes_from(range(len(every)))
    for at, (source, target, _) in enumerate(edges):
        links.add_edge(min(source, target), count + at)
        links.add_edge(count + at, max(source, target))
    rising = {count + at for at, (source, target, _) in enumerate(edges) if source > target}
    parts = [
        _layers(links.subgraph(part), count, rising)
        for part in nx.weakly_connected_components(links)
    ]
    x: dict[int, float] = {}
    y: dict[int, float] = {}
    ports: list[_Link] = []
    left, bottom = MARGIN, MARGIN
    for part in parts:
        met = _links(part, sizes, edges, weights or [1] * len(edges))
        ports += met
        placed = _columns(part, every, met)
        edge_of = {v: every[v][0] / 2 if v < len(every) else 0.0 for row in part.rows for v in row}
        shift = left - min(placed[part.column[v]] - half for v, half in edge_of.items())
        x |= {v: placed[part.column[v]] + shift for v in edge_of}
        left = max(x[v] + half for v, half in edge_of.items()) + X_SPACE
        top = MARGIN
        for row in part.rows:
            height = max((every[v][1] for v in row if v < len(every)), default=0.0)
            y |= dict.fromkeys(row, top + height / 2)
            top += height + Y_SPACE
        bottom = max(bottom, top - Y_SPACE)
    page = Page(left - X_SPACE + MARGIN, bottom + MARGIN)
    page.nodes = [(x[v], y[v]) for v in range(count)]
    page.labels = [(x[v], y[v]) for v in range(count, len(every))]
    lines = {at: vs for part in parts for at, vs in part.edges.items()}
    tips = {(p.label, p.below): x[p.node] + p.offset for p in ports}
    for at, (source, target, _) in enumerate(edges):
        upper, lower = min(source, target), max(source, target)
        label = count + at
        first = tips[label, True], y[upper] + sizes[upper][1] / 2
        last = tips[label, False], y[lower] - sizes[lower][1] / 2
        route = _route(first, [(x[v], y[v]) for v in lines[label]], last)
        page.routes.append(route if source < target else route[::-1])
    return page


def _layers(links: nx.DiGraph, count: int, rising: Collection[int]) -> _Layers:
    """The layers of a connected part, and which vertices share a column."""
    names = sorted(links)
    if len(names) == 1:
        return _Layers([names], {names[0]: names[0]}, {})
    # Small ints, so that the order of a set of them, and with it the layout, is always the same.
    small = {name: at for at, name in enumerate(names)}
    made = from_edges(
        [(small[a], small[b]) for a, b in sorted(links.edges)],
        minimum_length=1,
        dummy_vertices=True,
        crossing_minimization="median",
        transpose=True,
    )
    ((positions, _, _, found),) = made
    new = max(names[-1] + 1, 1_000_000)
    name = dict(enumerate(names))
    by_layer: dict[float, list[tuple[float, int]]] = defaultdict(list)
    for vertex, (x, y) in positions:
        assert isinstance(vertex, int)
        name.setdefault(vertex, new + vertex)
        by_layer[y].append((x, name[vertex]))
    rows = [[v for _, v in sorted(by_layer[y])] for y in sorted(by_layer, reverse=True)]
    chain = nx.DiGraph([(name[int(a)], name[int(b)]) for a, b in found or ()])
    place = {v: at for at, row in enumerate(rows) for v in row}
    upright = chain.subgraph(v for v in chain if v >= count).to_undirected()
    column = {v: v for row in rows for v in row}
    edges = {min(p): sorted(p, key=lambda v: place[v]) for p in nx.connected_components(upright)}
    for label, members in edges.items():
        column |= dict.fromkeys(members, label)
        _put_at_source(label, members, rows, rising)
    _part_crossing(rows, column)
    return _Layers(rows, column, edges)


def _put_at_source(
    label: int, members: list[int], rows: list[list[int]], rising: Collection[int]
) -> None:
    """Let a label change places with the point of its edge that is nearest to the source."""
    point = members[-1] if label in rising else members[0]
    swapped = {label: point, point: label}
    members[:] = [swapped.get(v, v) for v in members]
    for row in rows:
        row[:] = [swapped.get(v, v) for v in row]


def _part_crossing(rows: list[list[int]], column: dict[int, int]) -> None:
    """Take columns apart that cross each other: each of their members then has its own x."""
    while True:
        order = nx.DiGraph((column[a], column[b]) for row in rows for a, b in pairwise(row))
        knot = next((part for part in nx.strongly_connected_components(order) if len(part) > 1), ())
        if not knot:
            return
        longest = max(sorted(knot), key=lambda c: sum(v == c for v in column.values()))
        column |= {v: v for v, c in column.items() if c == longest}


def _links(
    part: _Layers,
    sizes: Sequence[Size],
    edges: Sequence[tuple[int, int, Size]],
    weights: Sequence[int],
) -> list[_Link]:
    """Where edges meet nodes: spread over top and bottom in the order of their columns."""
    place = {v: at for row in part.rows for at, v in enumerate(row)}
    meeting: dict[tuple[int, bool], list[int]] = defaultdict(list)
    for label in part.edges:
        source, target, _ = edges[label - len(sizes)]
        meeting[min(source, target), True].append(label)
        meeting[max(source, target), False].append(label)
    links: list[_Link] = []
    for (node, below), labels in meeting.items():
        end = 0 if below else -1
        labels.sort(key=lambda label: place[part.edges[label][end]])
        for at, label in enumerate(labels):
            share = (at + 1) / (len(labels) + 1) - 0.5
            column = part.column[part.edges[label][end]]
            offset, weight = round(share * sizes[node][0] * PORTS), weights[label - len(sizes)]
            links.append(_Link(node, label, column, below, offset, weight))
    return links


def _columns(part: _Layers, sizes: Sequence[Size], links: Sequence[_Link]) -> dict[int, float]:
    """The x of each column: links as short as they can be, and neighbours clear of each other.

    As in graphviz: to minimize the weighted lengths |x - y| where neighbours keep their distance
    is the dual of a flow of least cost, and the potentials of the flow are the places.
    """
    apart = nx.DiGraph()
    apart.add_nodes_from(part.column.values(), demand=0)
    for row in part.rows:
        for a, b in pairwise(row):
            half = sum(sizes[v][0] / 2 for v in (a, b) if v < len(sizes))
            _keep(apart, part.column[a], part.column[b], ceil(half + X_SPACE))
    pairs = [(link.node, link.column, link.offset, link.weight) for link in links]
    for vertices in part.edges.values():
        own = [part.column[v] for v in vertices]
        pairs += [(a, b, 0, 2 * links[0].weight) for a, b in pairwise(own) if a != b]
    for at, (a, b, offset, weight) in enumerate(pairs):
        left = -1 - at
        apart.add_node(left, demand=-2 * weight)
        for column, shift in ((a, -offset), (b, 0)):
            apart.nodes[column]["demand"] += weight
            _keep(apart, left, column, shift)
    cost = nx.DiGraph()
    cost.add_nodes_from(apart.nodes(data=True))
    cost.add_weighted_edges_from((a, b, -far) for a, b, far in apart.edges(data="far"))
    _, flow = nx.network_simplex(cost)
    used = [(b, a, far) for a, b, far in apart.edges(data="far") if flow[a][b]]
    leftmost = _longest(cost, used)
    rightmost = _longest(cost.reverse(), [(a, b, far) for b, a, far in used])
    width = max(leftmost.values())
    # Both are best, and so is what lies half-way between them.
    return {c: (leftmost[c] + width - rightmost[c]) / 2 for c in part.column.values()}


def _keep(apart: nx.DiGraph, left: int, right: int, far: int) -> None:
    """Keep two columns at least so far apart."""
    known = apart.get_edge_data(left, right, {"far": far})["far"]
    apart.add_edge(left, right, far=max(far, known))


def _longest(cost: nx.DiGraph, back: Iterable[tuple[int, int, int]]) -> dict[int, float]:
    """The longest way to each node, where the edges that carry a flow count both ways."""
    residual = nx.DiGraph(cost)
    for a, b, weight in back:
        known = residual.get_edge_data(a, b, {"weight": weight})["weight"]
        residual.add_edge(a, b, weight=min(weight, known))
    residual.add_weighted_edges_from((_ROOT, node, 0) for node in list(residual))
    found = nx.single_source_bellman_ford_path_length(residual, _ROOT)
    return {node: -length for node, length in found.items()}


def _route(first: Point, line: Sequence[Point], last: Point) -> list[Point]:
    """The points of an edge downwards: it bends next to the nodes, and is upright between."""
    down, up = (line[0][0], first[1] + Y_SPACE), (line[-1][0], last[1] - Y_SPACE)
    between = [p for p in line if down[1] < p[1] < up[1]]
    return [first, down, *_bends([down, *between, up]), up, last]


def _bends(points: Sequence[Point]) -> list[Point]:
    """The inner points of a line at which its x changes."""
    around = zip(points, points[1:], points[2:], strict=False)
    return [b for a, b, c in around if not a[0] == b[0] == c[0]]
