"""Liveness under fairness: whenever `given` holds, `then` holds some day, or a lasso.

Begin with check_property(), which gives a Verdict.

A run breaks the property if from a state with `given` it never meets `then`. On a finite graph it
ends in a cycle, or in rest at one state. The cycle has no step of the environment, for faults and
clients come to rest (but for those whose fairness the property assumes); the way to it may have
any. What makes a cycle fair is in lassos.py.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pglife_spec.explore.search import Exploration
from pglife_spec.lang.machine import Property
from pglife_spec.traces.trace import Trace


@dataclass(frozen=True)
class Verdict:
    """What the search says of a property.

    Args:
        prop: the property.
        states: how many states a counterexample could go through: `given` was met, `then` not.
        lasso: a shortest way to a fair cycle, and the cycle; None if none was found.
        seconds: how long it took.
        complete: false if the exploration was not: then the property is open, or fails.
    """

    prop: Property
    states: int
    lasso: Trace | None
    seconds: float
    complete: bool

    @property
    def holds(self) -> bool:
        return self.lasso is None and self.complete


def check_property(found: Exploration, prop: Property) -> Verdict:
    """Look for a fair run of an explored machine that breaks a property."""
    return next(check_properties(found, [prop]))


def check_properties(
    found: Exploration, props: Sequence[Property], say: Callable[[str], None] = lambda _: None
) -> Iterator[Verdict]:
    """The verdict on each property; the graph is made once.

    Args:
        found: the machine, explored.
        props: the properties.
        say: called with the name of each before it is checked.
    """
    # numpy and scipy take half a second to import: only those pay for it who check liveness.
    from pglife_spec.explore.lassos import Pending

    graph = found.graph() if props else None
    for prop in props:
        say(prop.name)
        started = time.monotonic()
        assert graph is not None
        pending = Pending(found, graph, prop)
        component = pending.first_fair_component()
        lasso = None if component is None else pending.lasso(component)
        seconds = time.monotonic() - started
        yield Verdict(prop, len(pending.order), lasso, seconds, found.complete)
