"""Evidence claims: the product of model and automata, and what a dropped emission breaks."""

import pytest
from toy import action

from pglife_spec.explore.search import explore
from pglife_spec.lang.expr import BOOL, Var
from pglife_spec.lang.machine import Actor, Config, Emit, Machine, emit
from pglife_spec.lang.watch import Watch, before, exactly, seen, watched
from pglife_spec.postgres.build import build, build_watched
from pglife_spec.postgres.configurations import CONFIGS
from pglife_spec.postgres.state.postmaster import EXITED

LAMP = Var("lamp", BOOL, initial=False)
OFF = (~before(LAMP)) & LAMP


def lamp(*evidence: Emit) -> Machine:
    """A lamp that can be lit once, with this evidence."""
    lights = action("lights", Actor.CHILD, [~LAMP], [*evidence, LAMP.becomes(True)])
    return Machine("lamp", (LAMP,), (), (), (LAMP.starts(),), (lights,))


WATCH = Watch(
    "light_is_seen", ("X-1",), "It is.", "none", (exactly(seen("light", "on"), OFF, "light"),)
)


@pytest.mark.parametrize(
    ("evidence", "holds"),
    [
        ([emit("light", "on")], True),
        ([], False),
        ([emit("light", "off")], False),
        ([emit("light", "on"), emit("light", "on")], False),
        ([emit("light", "off"), emit("light", "on")], True),
    ],
)
def test_evidence_is_left_exactly_once(evidence: list[Emit], holds: bool) -> None:
    found = explore(watched(lamp(*evidence), [WATCH]), Config("dark", {}))
    assert found.states == 2
    assert ("light_is_seen" not in found.violated) == holds


@pytest.mark.parametrize("name", ["tiny-15-repaired", "tiny-18-repaired"])
def test_the_product_has_the_states_of_the_model_and_keeps_its_claims(name: str) -> None:
    """Registers forget at the end of a step: they make no states."""
    found = explore(build_watched(), CONFIGS[name], final=EXITED)
    plain = explore(build(), CONFIGS[name], claims=[])
    assert not found.violated
    assert (found.states, found.transitions) == (plain.states, plain.transitions)
