"""Which process signals which: read from the effects of a machine's actions."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypedDict

import networkx as nx

from pglife_spec.lang.machine import Effect, Emit, Machine, When
from pglife_spec.meanings.pack import label


class SignalEdge(TypedDict):
    """Attributes of an edge: one signal from one process to another.

    `signal` is also the key of the edge; `actions` are those in which it is sent.
    """

    signal: str
    actions: tuple[str, ...]


def signal_graph(
    machine: Machine,
    *,
    title: str = "Who signals whom",
    sources: Mapping[str, str] | None = None,
    sent: Iterable[tuple[str, str, str, str]] = (),
) -> nx.MultiDiGraph:
    """Who signals whom: a node is a process, an edge a signal.

    An action that leaves the evidence ("signal", SIGNAL, PROCESS) sends SIGNAL from its actor to
    PROCESS. Node attribute: `actor` (bool, whether it is outside the server). Edges have the
    attributes of `SignalEdge`.

    Args:
        machine: the machine.
        title: the graph's attribute `title`.
        sources: which process takes the steps of an actor, where that is not the actor's name.
        sent: signals that the machine keeps as flags: source, signal, target, action.
    """
    edges: dict[tuple[str, str, str], list[str]] = {}
    for action in machine.actions:
        source = (sources or {}).get(action.actor.value, action.actor.value)
        for signal, target in _signals(action.effects):
            edges.setdefault((source, target, signal), []).append(action.name)
    for source, signal, target, name in sent:
        edges.setdefault((source, target, signal), []).append(name)
    outside = {a.actor.value for a in machine.actions if a.actor.is_environment}
    graph = nx.MultiDiGraph(title=title)
    for source, target, signal in edges:
        for name in (source, target):
            graph.add_node(name, actor=name in outside)
        by = tuple(dict.fromkeys(edges[source, target, signal]))
        graph.add_edge(source, target, key=signal, **SignalEdge(signal=signal, actions=by))
    return graph


def _signals(effects: Iterable[Effect]) -> Iterator[tuple[str, str]]:
    for effect in effects:
        if isinstance(effect, When):
            yield from _signals((*effect.then, *effect.other))
        elif isinstance(effect, Emit) and effect.what == "signal" and len(effect.args) >= 2:
            signal, target = effect.args[:2]
            if isinstance(signal, str) and isinstance(target, str):
                yield label(signal), label(target)
