"""Where each event leads from each state, over all states and steps of an exploration.

Begin with moves().
"""

from collections.abc import Callable

import numpy as np

from pglife_spec.explore.search import Exploration
from pglife_spec.graphs.blocks import Steps
from pglife_spec.lang.expr import Var
from pglife_spec.lang.machine import Action

Move = tuple[str, str, str]
"""State, event, next state."""


def moves(
    found: Exploration, state: Var, event: Callable[[Action], str | None]
) -> dict[Move, tuple[int, int]]:
    """Each way that an event can go, with the nearest state and the action that takes it.

    Args:
        found: the exploration.
        state: the variable whose values are the states.
        event: what an action is called; None for actions that do not matter.
    """
    steps = Steps(found, state)
    names = [event(action) for action in found.program.actions]
    values = steps.values.astype(np.int64)
    size = len(steps.names)
    # One number for each triple: it sorts ten times as fast as a row of three.
    keys = (steps.action * size + values[steps.source]) * size + values[steps.target]
    unique, firsts = np.unique(keys, return_index=True)
    ways: dict[Move, tuple[int, int]] = {}
    for key, first in zip(unique.tolist(), firsts.tolist(), strict=True):
        rest, target = divmod(key, size)
        action, source = divmod(rest, size)
        name = names[action]
        if name is None:
            continue
        way = (steps.names[source], name, steps.names[target])
        nearest = (int(steps.source[first]), action)
        ways[way] = min(ways.get(way, nearest), nearest)
    return ways
