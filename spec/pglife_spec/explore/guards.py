"""Guard coverage: which conditions of a guard never decide anything in the states explored.

Begin with `idle_conditions`. A condition decides where it is false and all others of its action
are true: without it the action could be taken there. One that never does is not needed under this
configuration, or the case that it is for is missing. Conditions on parameters alone do not count.
"""

from dataclasses import dataclass

from pglife_spec.explore.search import Exploration
from pglife_spec.lang.expr import Expr
from pglife_spec.lang.machine import Action
from pglife_spec.lang.walk import names_in
from pglife_spec.meanings.fold import conjuncts


@dataclass(frozen=True)
class Idle:
    """A condition that never decides; `ever_false` if only together with others."""

    action: Action
    condition: Expr
    ever_false: bool


def idle_conditions(found: Exploration) -> tuple[int, list[Idle]]:
    """How many conditions the actions have that could be taken, and those that never decide."""
    import numpy as np

    variables = {v.name for v in found.program.machine.variables}
    idle: list[Idle] = []
    count = 0
    for index, action in enumerate(found.program.actions):
        if index in found.program.disabled:
            continue
        parts = [p for p in conjuncts(action.guards) if names_in(p) & variables]
        count += len(parts)
        seen = np.unique(found.bits(parts)).tolist()
        for at, part in enumerate(parts):
            if ((1 << len(parts)) - 1) ^ 1 << at not in seen:
                idle.append(Idle(action, part, any(not bits >> at & 1 for bits in seen)))
    return count, idle
