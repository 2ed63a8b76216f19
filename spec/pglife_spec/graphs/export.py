"""Graphs as files for other tools: GraphML (Gephi, yEd, igraph) and node-link JSON (d3)."""

import enum
import json
from typing import Any

import networkx as nx


def to_graphml(graph: nx.MultiDiGraph) -> str:
    """The graph as GraphML. Enums become their value, tuples one text with commas."""
    return "\n".join(nx.generate_graphml(_plain(graph), named_key_ids=True)) + "\n"


def to_json(graph: nx.MultiDiGraph) -> str:
    """The graph as node-link JSON, which `networkx.node_link_graph(data, edges="edges")` reads."""
    data = nx.node_link_data(_plain(graph), edges="edges")
    head = {k: v for k, v in data.items() if k not in ("nodes", "edges")}
    parts = [json.dumps(head)[1:-1]]
    for name in ("nodes", "edges"):
        rows = ",\n  ".join(json.dumps(row) for row in data[name])
        parts.append(f'"{name}": [\n  {rows}\n ]')
    return "{" + ",\n ".join(parts) + "}\n"


def _plain(graph: nx.MultiDiGraph) -> nx.MultiDiGraph:
    """A copy whose attributes are texts, numbers and truth values."""
    copy = nx.MultiDiGraph(**{k: _scalar(v) for k, v in graph.graph.items()})
    for node, data in graph.nodes(data=True):
        copy.add_node(node, **{k: _scalar(v) for k, v in data.items()})
    for source, target, key, data in graph.edges(keys=True, data=True):
        copy.add_edge(source, target, key=key, **{k: _scalar(v) for k, v in data.items()})
    return copy


def _scalar(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    return ", ".join(map(str, value)) if isinstance(value, tuple) else value
