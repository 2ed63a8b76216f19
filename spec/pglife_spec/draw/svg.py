"""Life graphs as SVG: dark on light, the normal path strong, what only a crash does in red.

Begin with `to_svg`. Where things lie is found in `layout.py`.
"""

from collections.abc import Sequence
from html import escape

import networkx as nx

from pglife_spec.draw.arrows import Arrow, arrows
from pglife_spec.draw.layout import Page, Point, arrange
from pglife_spec.draw.palette import DASH, FILL, INK, MEANING, SOFT, TEXT, WIDTH
from pglife_spec.graphs.lives import Role

TITLE_FONT, NODE_FONT, LABEL_FONT, NOTE_FONT = 17, 12.5, 10.5, 10
NODE_HEIGHT, LABEL_HEIGHT, NOTE_HEIGHT, LEGEND_HEIGHT = 24, 14, 13, 22
HEAD = 26
EDGE = 16
"""Free space around everything."""
FONT = "font-family=\"'DejaVu Sans', Verdana, Arial, sans-serif\""


def to_svg(graph: nx.MultiDiGraph) -> str:
    """The graph as an SVG document."""
    names = list(graph)
    index = {name: at for at, name in enumerate(names)}
    sizes = [(_width(name, NODE_FONT) + 22, NODE_HEIGHT) for name in names]
    drawn = arrows(graph)
    page = arrange(
        sizes,
        [
            (index[a.source], index[a.target], (_width(a.label, LABEL_FONT) + 6, LABEL_HEIGHT))
            for a in drawn
        ],
        [4 if a.role is Role.NORMAL else 1 for a in drawn],
    )
    title = graph.graph["title"]
    foot = [*_legend(drawn), *_notes(drawn)]
    width = max(page.width, _width(title, TITLE_FONT) + 2 * EDGE, *(w for w, _, _ in foot))
    height = HEAD + page.height + sum(h for _, h, _ in foot) + EDGE / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" {FONT} role="img">',
        f"<title>{escape(title)}</title>",
        _markers(),
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        f'<text x="{EDGE}" y="27" font-size="{TITLE_FONT}" font-weight="bold" fill="{TEXT}">'
        f"{escape(title)}</text>",
        f'<g transform="translate({(width - page.width) / 2:.1f} {HEAD})">',
    ]
    order = sorted(range(len(drawn)), key=lambda k: drawn[k].role is Role.NORMAL)
    parts += [_line(drawn[k], page.routes[k]) for k in order]
    parts += [_label(drawn[k], page.labels[k]) for k in order]
    parts += [_node(graph, name, page, at, sizes[at][0]) for at, name in enumerate(names)]
    parts.append("</g>")
    y = HEAD + page.height
    for _, row_height, text in foot:
        parts.append(f'<g transform="translate(0 {y:.0f})">{text}</g>')
        y += row_height
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _width(text: str, size: float) -> float:
    """A generous guess at how wide a text is."""
    wide = sum(
        0.8 if c.isupper() or c in "_mw+→" else 0.42 if c in "il.,() tj" else 0.62 for c in text
    )
    return wide * size


def _markers() -> str:
    shapes = "".join(
        f'<marker id="{role.value}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" '
        f'markerHeight="8" markerUnits="userSpaceOnUse" orient="auto-start-reverse">'
        f'<path d="M0 0 L10 5 L0 10 z" fill="{INK[role]}"/></marker>'
        for role in Role
    )
    return f"<defs>{shapes}</defs>"


def _line(arrow: Arrow, route: Sequence[Point]) -> str:
    """A smooth line, upright wherever it meets a point of its route."""
    x, y = route[0]
    path = [f"M{x:.1f} {y:.1f}"]
    for next_x, next_y in route[1:]:
        half = (y + next_y) / 2
        path.append(f"C{x:.1f} {half:.1f} {next_x:.1f} {half:.1f} {next_x:.1f} {next_y:.1f}")
        x, y = next_x, next_y
    return f'<path d="{" ".join(path)}" fill="none" {_stroke(arrow.role)}>{_tooltip(arrow)}</path>'


def _stroke(role: Role) -> str:
    dash = f' stroke-dasharray="{DASH[role]}"' if DASH[role] else ""
    return (
        f'stroke="{INK[role]}" stroke-width="{WIDTH[role]}"{dash} marker-end="url(#{role.value})"'
    )


def _tooltip(arrow: Arrow) -> str:
    return f"<title>{escape(f'{arrow.source} to {arrow.target}: {arrow.counts}')}</title>"


def _label(arrow: Arrow, place: Point) -> str:
    x, y = place
    width = _width(arrow.label, LABEL_FONT) + 4
    return (
        f'<g>{_tooltip(arrow)}<rect x="{x - width / 2:.1f}" y="{y - LABEL_HEIGHT / 2:.1f}" '
        f'width="{width:.1f}" height="{LABEL_HEIGHT}" fill="#ffffff"/>'
        f'<text x="{x:.1f}" y="{y + LABEL_FONT * 0.36:.1f}" font-size="{LABEL_FONT}" '
        f'text-anchor="middle" fill="{INK[arrow.role]}">{escape(arrow.label)}</text></g>'
    )


def _node(graph: nx.MultiDiGraph, name: str, page: Page, at: int, width: float) -> str:
    x, y = page.nodes[at]
    data = graph.nodes[name]
    role, states = data["role"], data["states"]
    round_ = NODE_HEIGHT / 2 if data["end"] or data["start"] else 5
    thick = 2.2 if role is Role.NORMAL else 1.3
    return (
        f"<g><title>{escape(f'{name}: {states} states')}</title>"
        f'<rect x="{x - width / 2:.1f}" y="{y - NODE_HEIGHT / 2:.1f}" width="{width:.1f}" '
        f'height="{NODE_HEIGHT}" rx="{round_}" fill="{FILL[role]}" stroke="{INK[role]}" '
        f'stroke-width="{thick}"/>'
        f'<text x="{x:.1f}" y="{y + NODE_FONT * 0.36:.1f}" font-size="{NODE_FONT}" '
        f'text-anchor="middle" font-weight="bold" fill="{TEXT}">{escape(name)}</text></g>'
    )


Row = tuple[float, float, str]
"""Width, height and elements of a row below the picture."""


def _legend(drawn: Sequence[Arrow]) -> list[Row]:
    """What each colour stands for, of those that are drawn."""
    parts: list[str] = []
    x = float(EDGE)
    for role in (r for r in Role if r in {a.role for a in drawn}):
        parts.append(
            f'<path d="M{x:.0f} 8 h30" {_stroke(role)}/>'
            f'<text x="{x + 37:.0f}" y="12" font-size="11" fill="{TEXT}">{MEANING[role]}</text>'
        )
        x += 58 + _width(MEANING[role], 11)
    return [(x, LEGEND_HEIGHT, "".join(parts))] if parts else []


def _notes(drawn: Sequence[Arrow]) -> list[Row]:
    """The actions that a label only counts, in two columns."""
    texts = [f"{a.source} \u2192 {a.target}: also {a.note}" for a in drawn if a.note]
    half = (len(texts) + 1) // 2
    second = EDGE + max((_width(t, NOTE_FONT) for t in texts[:half]), default=0.0) + EDGE
    rows: list[Row] = []
    for at, left in enumerate(texts[:half]):
        right = texts[half + at] if half + at < len(texts) else ""
        elements = "".join(
            f'<text x="{x:.0f}" y="11" font-size="{NOTE_FONT}" fill="{SOFT}">{escape(text)}</text>'
            for x, text in ((EDGE, left), (second, right))
            if text
        )
        rows.append((second + _width(right, NOTE_FONT) + EDGE, NOTE_HEIGHT, elements))
    return rows
