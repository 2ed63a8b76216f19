"""Arrows: the parallel edges of a life graph as one, with a label that fits a picture."""

from collections import Counter
from dataclasses import dataclass, field

import networkx as nx

from pglife_spec.graphs.lives import LifeEdge, Role

LONGEST = 39
"""A label that would be longer names the family without its choices."""


@dataclass
class Arrow:
    """All ways from one node to another.

    Args:
        source: the node it leaves.
        target: the node it enters.
        edges: the actions that lead there.
    """

    source: str
    target: str
    edges: list[LifeEdge] = field(default_factory=list)

    @property
    def role(self) -> Role:
        return self.edges[0]["role"]

    @property
    def families(self) -> list[str]:
        """The families that take it, the one that does so in most states first."""
        counts: Counter[str] = Counter()
        for edge in self.edges:
            counts[edge["family"]] += edge["count"]
        return sorted(counts, key=lambda f: (-counts[f], f))

    def named(self, family: str) -> str:
        """A family with its choices, where they are few."""
        own = [e["choices"] for e in self.edges if e["family"] == family and e["choices"]]
        words = list(dict.fromkeys(" ".join(filter(None, choices)) for choices in own))
        said = f"{family} ({', '.join(words)})"
        return (said if any(words) and len(said) <= LONGEST else family).replace("_", " ")

    @property
    def label(self) -> str:
        """The families if they fit; else the first, and how many others there are."""
        names = self.names
        whole = ", ".join(names)
        return (
            whole if len(whole) <= LONGEST or len(names) == 1 else f"{names[0]} +{len(names) - 1}"
        )

    @property
    def names(self) -> list[str]:
        """All families with their choices."""
        return [self.named(family) for family in self.families]

    @property
    def note(self) -> str:
        """The families that the label only counts."""
        return ", ".join(self.names[1:]) if "+" in self.label else ""

    @property
    def counts(self) -> str:
        """All actions with the number of states in which they lead there."""
        ranked = sorted(self.edges, key=lambda e: (-e["count"], e["action"]))
        return ", ".join(f"{e['action']} ({e['count']})" for e in ranked)


def arrows(graph: nx.MultiDiGraph) -> list[Arrow]:
    """The arrows of a life graph, in the order of its edges."""
    made: dict[tuple[str, str], Arrow] = {}
    for source, target, data in graph.edges(data=True):
        if source != target:
            made.setdefault((source, target), Arrow(source, target)).edges.append(data)
    return list(made.values())
