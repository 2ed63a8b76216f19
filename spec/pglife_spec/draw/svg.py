"""Graphs as SVG: dark on light, the normal path strong, what only a crash does in red.

Begin with   to_svg.
Owns         colours, fonts and the text of tooltips.
Leaves out   where things lie (layout.py).
"""

from __future__ import annotations

from html import escape

from pglife_spec.draw.graph import Edge, Graph, Role
from pglife_spec.draw.layout import Page, Point, arrange
from pglife_spec.draw.palette import FILL, INK, SAID, TEXT, WIDTH

NODE_FONT = 14
LABEL_FONT = 11
NODE_HEIGHT = 34
LABEL_HEIGHT = 18
HEAD = 44
FOOT = 34
FONT = "font-family=\"'DejaVu Sans', Verdana, Arial, sans-serif\""


def to_svg(graph: Graph) -> str:
    """The graph as an SVG document."""
    names = list(graph.nodes)
    index = {name: at for at, name in enumerate(names)}
    sizes = [(_width(name, NODE_FONT) + 28, NODE_HEIGHT) for name in names]
    edges = [e for e in graph.edges if e.source != e.target]
    page = arrange(
        sizes,
        [
            (index[e.source], index[e.target], (_width(e.label, LABEL_FONT) + 8, LABEL_HEIGHT))
            for e in edges
        ],
    )
    width = max(page.width, _width(graph.title, 18) + 40, 640)
    height = page.height + HEAD + FOOT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" {FONT} role="img">',
        f"<title>{escape(graph.title)}</title>",
        _markers(),
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        f'<text x="24" y="30" font-size="18" font-weight="bold" fill="{TEXT}">'
        f"{escape(graph.title)}</text>",
        f'<g transform="translate({(width - page.width) / 2:.1f} {HEAD})">',
    ]
    order = sorted(range(len(edges)), key=lambda k: edges[k].role is Role.NORMAL)
    parts += [_line(edges[k], page.routes[k]) for k in order]
    parts += [_label(edges[k], page.labels[k]) for k in order]
    parts += [_node(graph, name, page, at, sizes[at][0]) for at, name in enumerate(names)]
    parts += ["</g>", _legend(height), "</svg>"]
    return "\n".join(parts) + "\n"


def _width(text: str, size: float) -> float:
    """A generous guess at how wide a text is."""
    wide = sum(
        0.82 if c.isupper() or c in "_mw+" else 0.42 if c in "il.,() tj" else 0.66 for c in text
    )
    return wide * size


def _markers() -> str:
    shapes = "".join(
        f'<marker id="{role.value}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="9" '
        f'markerHeight="9" markerUnits="userSpaceOnUse" orient="auto-start-reverse">'
        f'<path d="M0 0 L10 5 L0 10 z" fill="{INK[role]}"/></marker>'
        for role in Role
    )
    return f"<defs>{shapes}</defs>"


def _line(edge: Edge, route: list[Point]) -> str:
    """A smooth line, upright wherever it meets a point of its route."""
    x, y = route[0]
    path = [f"M{x:.1f} {y:.1f}"]
    for next_x, next_y in route[1:]:
        half = (y + next_y) / 2
        path.append(f"C{x:.1f} {half:.1f} {next_x:.1f} {half:.1f} {next_x:.1f} {next_y:.1f}")
        x, y = next_x, next_y
    ink, width = INK[edge.role], WIDTH[edge.role]
    return (
        f'<path d="{" ".join(path)}" fill="none" stroke="{ink}" stroke-width="{width}" '
        f'marker-end="url(#{edge.role.value})">{_tooltip(edge)}</path>'
    )


def _tooltip(edge: Edge) -> str:
    return f"<title>{escape(f'{edge.source} to {edge.target}: {edge.story}')}</title>"


def _label(edge: Edge, place: Point) -> str:
    x, y = place
    width = _width(edge.label, LABEL_FONT) + 6
    return (
        f'<g>{_tooltip(edge)}<rect x="{x - width / 2:.1f}" y="{y - LABEL_HEIGHT / 2:.1f}" '
        f'width="{width:.1f}" height="{LABEL_HEIGHT}" fill="#ffffff"/>'
        f'<text x="{x:.1f}" y="{y + LABEL_FONT * 0.36:.1f}" font-size="{LABEL_FONT}" '
        f'text-anchor="middle" fill="{INK[edge.role]}">{escape(edge.label)}</text></g>'
    )


def _node(graph: Graph, name: str, page: Page, at: int, width: float) -> str:
    x, y = page.nodes[at]
    role = graph.roles.get(name, Role.OTHER)
    round_ = NODE_HEIGHT / 2 if name in graph.ends or name in graph.start else 6
    thick = 2.4 if role is Role.NORMAL else 1.4
    return (
        f"<g><title>{escape(f'{name}: {graph.nodes[name]} states')}</title>"
        f'<rect x="{x - width / 2:.1f}" y="{y - NODE_HEIGHT / 2:.1f}" width="{width:.1f}" '
        f'height="{NODE_HEIGHT}" rx="{round_}" fill="{FILL[role]}" stroke="{INK[role]}" '
        f'stroke-width="{thick}"/>'
        f'<text x="{x:.1f}" y="{y + NODE_FONT * 0.36:.1f}" font-size="{NODE_FONT}" '
        f'text-anchor="middle" font-weight="bold" fill="{TEXT}">{escape(name)}</text></g>'
    )


def _legend(height: float) -> str:
    parts: list[str] = []
    x = 24.0
    for role in Role:
        y = height - 16
        parts.append(
            f'<path d="M{x:.0f} {y:.0f} h34" stroke="{INK[role]}" stroke-width="{WIDTH[role]}" '
            f'marker-end="url(#{role.value})"/>'
            f'<text x="{x + 42:.0f}" y="{y + 4:.0f}" font-size="12" fill="{TEXT}">'
            f"{SAID[role]}</text>"
        )
        x += 66 + _width(SAID[role], 12)
    return "\n".join(parts)
