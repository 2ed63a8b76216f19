"""One random run of a machine, the same for the same seed. Begin with simulate()."""

import random
from collections.abc import Collection, Mapping

from pglife_spec.lang.expr import Expr, LanguageError
from pglife_spec.lang.machine import Actor, Config, Machine
from pglife_spec.lang.parse import nearest
from pglife_spec.meanings.python.program import Program, compile_machine
from pglife_spec.traces.trace import Trace, trace_of


def simulate(
    machine: Machine,
    config: Config,
    *,
    steps: int,
    seed: int,
    weights: Mapping[str, float] | None = None,
    without: Collection[Actor] = (),
    until: Expr | None = None,
    program: Program | None = None,
) -> Trace:
    """A random run: at each state one of the enabled actions, until none is left.

    Args:
        machine: what to run.
        config: values of its parameters and bounds of its counters.
        steps: the most steps to take.
        seed: decides all choices.
        weights: how likely actions are beside the others' 1, by name or by family; 0 for never.
        without: actors that take no step, unless `weights` names it.
        until: stop where this holds.
        program: the machine already compiled under this configuration.
    """
    program = program or compile_machine(machine, config)
    likely = _weights(machine, weights or {}, without)
    stop = program.predicate(until) if until is not None else lambda _: False
    rng = random.Random(seed)
    state = rng.choice(program.initial)
    path: list[tuple[int | None, int]] = [(None, state)]
    while len(path) <= steps and not stop(state):
        choices = [(a, t) for a, t in sorted(program.successors(state)) if likely[a] > 0]
        if not choices:
            break
        action, state = rng.choices(choices, [likely[a] for a, _ in choices])[0]
        path.append((action, state))
    return trace_of(program, path, description=f"random walk, seed {seed}")


def _weights(
    machine: Machine, weights: Mapping[str, float], without: Collection[Actor]
) -> list[float]:
    """The weight of each action; its own name counts before its family's."""
    families = dict.fromkeys(a.family for a in machine.actions)
    known = {*families, *(a.name for a in machine.actions)}
    for name, weight in weights.items():
        if name not in known:
            raise LanguageError(f"no action or family named {name!r}{nearest(name, families)}")
        if weight < 0:
            raise LanguageError(f"the weight of {name} is negative: {weight}")
    return [
        weights.get(a.name, weights.get(a.family, float(a.actor not in without)))
        for a in machine.actions
    ]
