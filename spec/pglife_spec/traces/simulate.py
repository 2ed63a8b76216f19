"""One random run of a machine, the same for the same seed. Begin with simulate()."""

import random
from collections.abc import Mapping

from pglife_spec.lang.expr import Expr, LanguageError
from pglife_spec.lang.machine import Config, Machine
from pglife_spec.meanings.python.program import Program, compile_machine
from pglife_spec.traces.trace import Trace, trace_of


def simulate(
    machine: Machine,
    config: Config,
    *,
    steps: int,
    seed: int,
    weights: Mapping[str, float] | None = None,
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
        until: stop where this holds.
        program: the machine already compiled under this configuration.
    """
    program = program or compile_machine(machine, config)
    likely = _weights(machine, weights or {})
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


def _weights(machine: Machine, weights: Mapping[str, float]) -> list[float]:
    """The weight of each action; its own name counts before its family's."""
    known = {a.name for a in machine.actions} | {a.family for a in machine.actions}
    for name, weight in weights.items():
        if name not in known:
            raise LanguageError(f"no action or family named {name!r}")
        if weight < 0:
            raise LanguageError(f"the weight of {name} is negative: {weight}")
    return [weights.get(a.name, weights.get(a.family, 1.0)) for a in machine.actions]
