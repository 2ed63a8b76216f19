"""Graphs of a machine, each a `networkx.MultiDiGraph` whose attributes have fixed types.

- `state_graph`: every state that an exploration has reached, and every step.
- `life_graph`: the values of one variable (the postmaster's state, the life of a child), and the
  steps between them.
- `signal_graph`: which process signals which.

Edges are keyed by what takes them: the name of an action, or of a signal. `export` writes a graph
as GraphML or as node-link JSON. All of networkx works on them: shortest paths, components,
condensations; `covered` says which edges a trace takes.
"""

from pglife_spec.graphs.coverage import covered
from pglife_spec.graphs.export import to_graphml, to_json
from pglife_spec.graphs.lives import LifeEdge, LifeNode, LifeView, Role, life_graph
from pglife_spec.graphs.signals import SignalEdge, signal_graph
from pglife_spec.graphs.states import StateEdge, state_graph

__all__ = [
    "LifeEdge",
    "LifeNode",
    "LifeView",
    "Role",
    "SignalEdge",
    "StateEdge",
    "covered",
    "life_graph",
    "signal_graph",
    "state_graph",
    "to_graphml",
    "to_json",
]
