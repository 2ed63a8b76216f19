"""Layered layout: where the nodes, edges and labels of a graph lie on the page.

Begin with   arrange.
Owns         the page geometry. Layers come from grandalf's Sugiyama layout; every label is a node
             of its own there, so that labels never lie on each other or on a node.
Leaves out   colours and fonts (svg.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from grandalf.graphs import Edge as Link  # type: ignore[import-untyped]
from grandalf.graphs import Graph as Links
from grandalf.graphs import Vertex
from grandalf.layouts import SugiyamaLayout  # type: ignore[import-untyped]

Point = tuple[float, float]
Size = tuple[float, float]

X_SPACE = 16
Y_SPACE = 27
MARGIN = 24
DUMMY_WIDTH = 10
STUB = 9
"""How far an edge goes straight up or down before it bends."""
ROUNDS = 30


class _Box:
    """The size of a vertex, as grandalf wants it, and the place it gives."""

    def __init__(self, size: Size) -> None:
        self.w, self.h = size
        self.xy: Point = (0.0, 0.0)


@dataclass
class Page:
    """Where things lie: centres of nodes and of labels, and the points each edge goes through."""

    width: float = 0.0
    height: float = 0.0
    nodes: list[Point] = field(default_factory=list)
    labels: list[Point] = field(default_factory=list)
    routes: list[list[Point]] = field(default_factory=list)


def arrange(sizes: Sequence[Size], edges: Sequence[tuple[int, int, Size]]) -> Page:
    """Lay out a graph whose nodes are given in the order in which they should go down the page.

    Args:
        sizes: width and height of each node.
        edges: source and target by index, and the size of the label. Edges to an earlier node
            run upwards.
    """
    nodes = [_vertex(size) for size in sizes]
    labels = [_vertex(size) for _, _, size in edges]
    links: list[tuple[Link, Link]] = []
    for (source, target, _), label in zip(edges, labels, strict=True):
        upper, lower = nodes[min(source, target)], nodes[max(source, target)]
        links.append((Link(upper, label), Link(label, lower)))
    graph = Links([*nodes, *labels], [link for pair in links for link in pair])
    page = Page()
    left = 0.0
    for part in graph.C:
        layout = _layout(part)
        boxes = [v.view for v in layout.grx]
        shift = left - min(b.xy[0] - b.w / 2 for b in boxes)
        top = min(b.xy[1] - b.h / 2 for b in boxes)
        for box in boxes:
            box.xy = (box.xy[0] + shift + MARGIN, box.xy[1] - top + MARGIN)
        left = max(b.xy[0] + b.w / 2 for b in boxes)
        page.height = max(page.height, max(b.xy[1] + b.h / 2 for b in boxes) + MARGIN)
        for pair, label in zip(links, labels, strict=True):
            if label in layout.grx:
                label.bends = [layout.ctrls.get(link, {}) for link in pair]
    page.width = left + MARGIN
    page.nodes = [v.view.xy for v in nodes]
    page.labels = [v.view.xy for v in labels]
    page.routes = _routes(sizes, edges, nodes, labels)
    return page


def _vertex(size: Size) -> Vertex:
    vertex = Vertex()
    vertex.view = _Box(size)
    return vertex


def _layout(part: Links) -> SugiyamaLayout:
    layout = SugiyamaLayout(part)
    layout.xspace, layout.yspace = X_SPACE, Y_SPACE
    layout.dw, layout.dh = DUMMY_WIDTH, 1
    layout.route_edge = lambda edge, points: None
    layout.init_all(inverted_edges=[])
    layout.draw(ROUNDS)
    return layout


def _routes(
    sizes: Sequence[Size],
    edges: Sequence[tuple[int, int, Size]],
    nodes: Sequence[Vertex],
    labels: Sequence[Vertex],
) -> list[list[Point]]:
    """The points of each edge from source to target, ends spread over the sides of the nodes."""
    inner: list[list[Point]] = []
    for label in labels:
        bends = [v.view.xy for ctrl in label.bends for _, v in sorted(ctrl.items())]
        (x, y), half = label.view.xy, label.view.h / 2
        # Straight through the label, so that the line bends outside of it.
        inner.append(sorted({*bends, (x, y - half), (x, y + half)}, key=lambda p: p[1]))
    ends: dict[tuple[int, str], list[tuple[float, int]]] = defaultdict(list)
    for at, (source, target, _) in enumerate(edges):
        ends[min(source, target), "bottom"].append((inner[at][0][0], at))
        ends[max(source, target), "top"].append((inner[at][-1][0], at))
    tips: dict[tuple[int, str], Point] = {}
    for (node, side), meeting in ends.items():
        (x, y), (w, h) = nodes[node].view.xy, sizes[node]
        for place, (_, at) in enumerate(sorted(meeting)):
            offset = (place + 1) / (len(meeting) + 1) - 0.5
            tips[at, side] = (x + offset * w * 0.9, y + (h if side == "bottom" else -h) / 2)
    routes: list[list[Point]] = []
    for at, (source, target, _) in enumerate(edges):
        first, last = tips[at, "bottom"], tips[at, "top"]
        middle = [p for p in inner[at] if first[1] + STUB < p[1] < last[1] - STUB]
        route = [first, (first[0], first[1] + STUB), *middle, (last[0], last[1] - STUB), last]
        routes.append(route if source < target else route[::-1])
    return routes
