"""Which edges of a life graph some traces take."""

from collections.abc import Iterable
from itertools import pairwise

import networkx as nx

from pglife_spec.graphs.lives import LifeView
from pglife_spec.lang.expr import Var
from pglife_spec.meanings.pack import label
from pglife_spec.traces.trace import Moment, Trace


def covered(graph: nx.MultiDiGraph, view: LifeView, traces: Iterable[Trace]) -> nx.MultiDiGraph:
    """The part of a life graph that traces take.

    Args:
        graph: made by `life_graph`.
        view: the view it was made with.
        traces: runs of the same machine with their actions.

    Returns:
        A view of the graph with the edges taken, each under the action that took it. What it
        lacks is `networkx.difference(graph, taken)`.
    """
    taken: set[tuple[str, str, str]] = set()
    for trace in traces:
        for before, after in pairwise(trace.moments):
            passed = [_node(view, before)]
            passed += [str(e[-1]) for e in after.evidence if e[0] == view.passed]
            passed.append(_node(view, after))
            taken |= {(a, b, after.action or "") for a, b in pairwise(passed) if a != b}
    return graph.edge_subgraph(taken & set(graph.edges))


def _node(view: LifeView, moment: Moment) -> str:
    """The node of a state: as `life_graph` finds it, from values instead of bits."""
    state = moment.state
    if view.left is not None:
        ended = label(state[view.left.name])
        if ended in {label(m) for m in _members(view.left)[1:]}:
            return ended
    if isinstance(view.variable, Var):
        return label(state[view.variable.name])
    return next((n for n, v in view.variable.items() if state[v.name]), view.absent)


def _members(var: Var) -> tuple[object, ...]:
    return tuple(getattr(var.sort, "members", ()))
