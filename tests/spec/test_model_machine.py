"""Random lives of the model: steps are its actions, invariants its claims.

A life goes where exploration is too large to go, and a wrong model is shrunk to the shortest life
in which it shows.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from pglife_spec.explore.search import explore
from pglife_spec.lang.machine import Claim, Machine, Mutant
from pglife_spec.meanings.python.program import Program, compile_machine
from pglife_spec.postgres.build import build
from pglife_spec.postgres.configurations import CONFIGS
from pglife_spec.postgres.mutants import MUTANTS

MACHINE = build()
MOST_ACTIONS = len(MACHINE.actions)
BATCH = 30

#: Mutants whose fault shows within a few steps, among them the last session's slot given twice.
SHORT_LIVED = (
    "start_without_startup_process",
    "walwriter_during_recovery",
    "pid_file_is_not_updated",
    "io_workers_without_limit",
    "smart_waits_for_recovery",
)


class Life(RuleBasedStateMachine):
    """One life of a machine; life_of() says of which, and under which configuration."""

    program: Program
    claims: Sequence[Claim]
    held: Callable[[int], int]
    last: list[str]
    """The actions of the last run: after a failure, those of the shrunk one."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[str] = []
        type(self).last = self.taken
        self.state = -1
        self.steps: dict[int, int] = {}

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """Any of the initial states."""
        self.go_to(data.draw(st.sampled_from(self.program.initial)))

    def go_to(self, state: int) -> None:
        """Be in this state."""
        self.state = state
        self.steps = dict(self.program.successors(state))

    @rule(wanted=st.lists(st.integers(0, MOST_ACTIONS), min_size=BATCH, max_size=BATCH))
    def go_on(self, wanted: list[int]) -> None:
        """Take these actions in order, each that is enabled; 0 takes no action.

        A number means the same action wherever it stands, and nothing where that cannot happen:
        so each can be taken out by itself, and the life that is left is as short as can be.
        """
        for number in wanted:
            if number - 1 in self.steps:
                self.taken.append(self.program.actions[number - 1].name)
                self.go_to(self.steps[number - 1])
                self.claims_hold()

    @invariant()
    def claims_hold(self) -> None:
        """Each claim in each state."""
        if self.state < 0:
            return
        held = self.held(self.state)
        broken = [claim.name for bit, claim in enumerate(self.claims) if not held >> bit & 1]
        assert not broken, broken


def life_of(machine: Machine, config: str, claims: Sequence[Claim]) -> type[Life]:
    """Lives of this machine under this configuration, in which these claims must hold."""
    program = compile_machine(machine, CONFIGS[config])
    held = program.checks([claim.holds for claim in claims])
    members: dict[str, Any] = {
        "program": program,
        "claims": claims,
        "held": staticmethod(held),
        "last": [],
    }
    return type("LifeOfModel", (Life,), members)


def live(life: type[Life], *, examples: int, steps: int) -> None:
    """The same lives each time."""
    run_state_machine_as_test(
        life,
        settings=settings(
            derandomize=True,
            database=None,
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            # The phase "explain" repeats a failing run many times; its actions say enough.
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("config", ["full-15", "full-18", "forks-fail-18", "no-restart-15"])
def test_random_lives_keep_the_claims(config: str) -> None:
    """Whatever comes after whatever, every claim holds in every state."""
    life = life_of(MACHINE, config, MACHINE.claims)
    live(life, examples=25, steps=20)
    assert life.last


@pytest.mark.parametrize(
    "mutant", [m for m in MUTANTS if m.name in SHORT_LIVED], ids=lambda m: m.name
)
def test_a_wrong_model_is_shrunk_to_its_shortest_trace(mutant: Mutant) -> None:
    """The life that shows the fault is as short as the shortest trace that exploration finds."""
    machine = mutant.apply(MACHINE)
    claim = next(c for c in machine.claims if c.name == mutant.killed_by)
    life = life_of(machine, mutant.config, [claim])
    with pytest.raises(AssertionError, match=mutant.killed_by):
        live(life, examples=300, steps=12)
    found = explore(machine, CONFIGS[mutant.config], claims=[claim], stop_at_violation=True)
    shortest = found.path_to(found.violated[claim.name])
    assert len(life.last) == len(shortest) - 1, life.last


def test_the_mutants_are_all_there() -> None:
    """None of them has been renamed away."""
    assert set(SHORT_LIVED) <= {mutant.name for mutant in MUTANTS}
