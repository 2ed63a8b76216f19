"""The state graph of an explored machine."""

from typing import TypedDict

import networkx as nx

from pglife_spec.explore.search import Exploration
from pglife_spec.meanings.pack import label


class StateEdge(TypedDict):
    """Attributes of a step.

    `action` is also the key of the edge; `family` is its name without choices; `actor` takes it;
    `environment` says whether that is a client, an operator or a fault.
    """

    action: str
    family: str
    actor: str
    environment: bool


def state_graph(found: Exploration, *, values: bool = True) -> nx.MultiDiGraph:
    """Every state reached, and every step between two of them.

    A node is the packed state, an int. Its attributes are `depth` (int, steps from the nearest
    initial state), `initial` (bool), and with `values` each variable of the machine under its own
    name: int, bool, or the name of an enum's member. An edge has the attributes of `StateEdge`.

    An edge takes some hundred bytes: this is for up to about a hundred thousand states. `explore`
    itself keeps no edges.

    Args:
        found: the exploration.
        values: whether nodes carry the values of all variables.
    """
    program = found.program
    graph = nx.MultiDiGraph(machine=program.machine.name, config=program.config.name)
    initial = set(program.initial)
    for depth, states in enumerate(found.by_level()):
        for state in states:
            said = program.unpack(state) if values else {}
            plain = {n: v if isinstance(v, int) else label(v) for n, v in said.items()}
            graph.add_node(state, depth=depth, initial=state in initial, **plain)
    steps = [
        StateEdge(
            action=a.name,
            family=a.family,
            actor=a.actor.value,
            environment=a.actor.is_environment,
        )
        for a in program.actions
    ]
    for state in found.space:
        for action, after in program.successors(state):
            if after in found.space:
                graph.add_edge(state, after, key=steps[action]["action"], **steps[action])
    return graph
