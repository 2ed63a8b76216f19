"""Graphs as text for other tools: Mermaid (which GitHub draws) and DOT (for graphviz).

Begin with   to_mermaid, to_dot.
"""

from __future__ import annotations

import json

from pglife_spec.draw.graph import Graph, Role
from pglife_spec.draw.palette import FILL, INK, WIDTH


def to_mermaid(graph: Graph) -> str:
    """The graph as a Mermaid flowchart."""
    ids = {name: f"n{at}" for at, name in enumerate(graph.nodes)}
    lines = ["---", f"title: {json.dumps(graph.title)}", "---", "flowchart TD"]
    for name, id_ in ids.items():
        open_, close = ("([", "])") if name in graph.ends or name in graph.start else ("[", "]")
        lines.append(f"    {id_}{open_}{_quoted(name)}{close}:::{graph.roles[name].value}")
    for edge in graph.edges:
        arrow = "==>" if edge.role is Role.NORMAL else "-->"
        lines.append(f"    {ids[edge.source]} {arrow}|{_quoted(edge.label)}| {ids[edge.target]}")
    for role in Role:
        lines.append(
            f"    classDef {role.value} fill:{FILL[role]},stroke:{INK[role]},color:#1b1f24"
        )
        own = [str(at) for at, edge in enumerate(graph.edges) if edge.role is role]
        if own:
            lines.append(f"    linkStyle {','.join(own)} stroke:{INK[role]},color:{INK[role]}")
    return "\n".join(lines) + "\n"


def to_dot(graph: Graph) -> str:
    """The graph in graphviz's language."""
    lines = [
        f"digraph {json.dumps(graph.title)} {{",
        '    graph [rankdir=TB, labelloc=t, fontname="DejaVu Sans",'
        f" label={json.dumps(graph.title)}];",
        '    node [shape=box, style="rounded,filled", fontname="DejaVu Sans"];',
        '    edge [fontname="DejaVu Sans", fontsize=10];',
    ]
    for name, states in graph.nodes.items():
        role = graph.roles[name]
        lines.append(
            f'    {json.dumps(name)} [fillcolor="{FILL[role]}", color="{INK[role]}",'
            f' tooltip="{states} states"];'
        )
    for edge in graph.edges:
        ink, width = INK[edge.role], WIDTH[edge.role]
        lines.append(
            f"    {json.dumps(edge.source)} -> {json.dumps(edge.target)}"
            f" [label={json.dumps(edge.label)}, tooltip={json.dumps(edge.story)},"
            f' color="{ink}", fontcolor="{ink}", penwidth={width}];'
        )
    lines.append("}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Mermaid has no escape for a quotation mark but an entity."""
    return '"' + text.replace('"', "#quot;") + '"'
