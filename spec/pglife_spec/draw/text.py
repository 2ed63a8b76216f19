"""Life graphs as text for other tools: Mermaid (which GitHub draws) and DOT (for graphviz)."""

import json

import networkx as nx

from pglife_spec.draw.arrows import arrows
from pglife_spec.draw.palette import DASH, FILL, INK, TEXT, WIDTH
from pglife_spec.graphs.lives import Role


def to_mermaid(graph: nx.MultiDiGraph) -> str:
    """The graph as a Mermaid flowchart."""
    ids = {name: f"n{at}" for at, name in enumerate(graph)}
    lines = ["---", f"title: {json.dumps(graph.graph['title'])}", "---", "flowchart TD"]
    for name, data in graph.nodes(data=True):
        open_, close = ("([", "])") if data["end"] or data["start"] else ("[", "]")
        lines.append(f"    {ids[name]}{open_}{_quoted(name)}{close}:::{data['role'].value}")
    drawn = arrows(graph)
    for arrow in drawn:
        line = "==>" if arrow.role is Role.NORMAL else "-->"
        text = _quoted("<br/>".join(arrow.names))
        lines.append(f"    {ids[arrow.source]} {line}|{text}| {ids[arrow.target]}")
    for role in Role:
        lines.append(f"    classDef {role.value} fill:{FILL[role]},stroke:{INK[role]},color:{TEXT}")
        own = [str(at) for at, arrow in enumerate(drawn) if arrow.role is role]
        if own:
            dash = f",stroke-dasharray:{DASH[role]}" if DASH[role] else ""
            lines.append(
                f"    linkStyle {','.join(own)} stroke:{INK[role]},color:{INK[role]}{dash}"
            )
    return "\n".join(lines) + "\n"


def to_dot(graph: nx.MultiDiGraph) -> str:
    """The graph in graphviz's language."""
    title = json.dumps(graph.graph["title"])
    lines = [
        f"digraph {title} {{",
        f'    graph [rankdir=TB, labelloc=t, fontname="DejaVu Sans", label={title}];',
        '    node [shape=box, style="rounded,filled", fontname="DejaVu Sans"];',
        '    edge [fontname="DejaVu Sans", fontsize=10];',
    ]
    for name, data in graph.nodes(data=True):
        role = data["role"]
        lines.append(
            f'    {json.dumps(name)} [fillcolor="{FILL[role]}", color="{INK[role]}",'
            f' tooltip="{data["states"]} states"];'
        )
    for arrow in arrows(graph):
        label = "\n".join(arrow.names)
        ink, width = INK[arrow.role], WIDTH[arrow.role]
        style = ", style=dashed" if DASH[arrow.role] else ""
        lines.append(
            f"    {json.dumps(arrow.source)} -> {json.dumps(arrow.target)}"
            f" [label={json.dumps(label)}, tooltip={json.dumps(arrow.counts)},"
            f' color="{ink}", fontcolor="{ink}", penwidth={width}{style}];'
        )
    lines.append("}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Mermaid has no escape for a quotation mark but an entity."""
    return '"' + text.replace('"', "#quot;") + '"'
