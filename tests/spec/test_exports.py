"""A configuration for other model checkers: SPIN itself finds the states that we count."""

import re
import shutil
import subprocess
from dataclasses import replace

import pytest
from toy import ACTIONS, CLAIMS, PATIENT, SMALL, TOY, Pm, action, clients, fatal, pm, signalled

from pglife_spec import CONFIGS
from pglife_spec import machine as postgres
from pglife_spec.explore import explore
from pglife_spec.lang.expr import Var, ite
from pglife_spec.lang.machine import Actor, when
from pglife_spec.meanings.exports.promela import identifiers, to_promela
from pglife_spec.meanings.exports.tla import to_tla

spin = pytest.mark.skipif(
    not (shutil.which("spin") and shutil.which("gcc")), reason="needs spin and gcc"
)


def promela(machine, config):
    found = explore(machine, config, claims=[])
    initial = [found.program.unpack(s) for s in found.program.initial]
    return to_promela(machine, config, initial), found


def run_spin(text, directory):
    """What the verifier that SPIN makes prints."""
    (directory / "model.pml").write_text(text)
    for command in (
        ["spin", "-o2", "-a", "model.pml"],
        ["gcc", "-DNOREDUCE", "-DSAFETY", "-o", "pan", "pan.c"],
        ["./pan", "-E"],
    ):
        done = subprocess.run(
            command, cwd=directory, capture_output=True, text=True, check=True, timeout=120
        )
    return done.stdout


def stored(output):
    return int(re.search(r"(\d+) states, stored", output)[1])


LOCAL = Var("here", clients.sort, bound="clients", local=True)
BY_WAY = action(
    "by_way",
    Actor.CLIENT,
    [pm == Pm.RUN, ite(fatal, clients, signalled) == 0],
    [LOCAL.becomes(clients), when(LOCAL >= 1, [clients.becomes(LOCAL - 1)], fatal.becomes(True))],
)


@spin
@pytest.mark.parametrize("config", [SMALL, PATIENT], ids=lambda c: c.name)
def test_spin_finds_our_states_and_the_one_before_the_first(config, tmp_path):
    machine = replace(
        TOY,
        variables=(*TOY.variables, LOCAL),
        init=(*TOY.init, LOCAL == 0),
        actions=(*ACTIONS, BY_WAY),
        claims=CLAIMS[:1],
    )
    text, found = promela(machine, config)
    assert stored(run_spin(text, tmp_path)) == found.states + 1


@spin
def test_a_claim_that_fails_is_an_assertion_that_fails(tmp_path):
    wrong = replace(CLAIMS[0], holds=clients <= 1)
    text, _ = promela(replace(TOY, claims=(wrong,)), SMALL)
    assert "assertion violated" in run_spin(text, tmp_path)


def test_every_action_that_may_happen_is_there_under_its_name():
    machine = postgres()
    config = CONFIGS["tiny-18"]
    text, found = promela(machine, replace(config, bounds=dict.fromkeys(config.bounds, 0)))
    live = [a.name for i, a in enumerate(machine.actions) if i not in found.program.disabled]
    assert re.findall(r"/\* (.+?) \*/\n        .* ->", text) == live


def test_names_that_the_language_has_are_changed_and_all_are_different():
    names = identifiers(["a.b", "a_b", "do", "1st"])
    assert len(set(names.values())) == 4
    assert all(re.fullmatch(r"[A-Za-z]\w*", n) and n != "do" for n in names.values())


def definitions(module):
    """The definitions of a module of TLA+ by name, each on one line."""
    found = {}
    for part in re.split(r"\n(?=\w+ ==)", re.sub(r"\\\*.*", "", module)):
        if match := re.match(r"(\w+) ==(.*)", part, re.DOTALL):
            found[match[1]] = " ".join(match[2].split())
    return found


@pytest.mark.parametrize("machine", [TOY, postgres()], ids=lambda m: m.name)
def test_a_module_of_tla_gives_each_variable_one_next_value(machine):
    module = to_tla(machine)
    assert module.startswith(f"---- MODULE {machine.name} ----\n")
    assert module.endswith("====\n")
    found = definitions(module)
    names = re.search(r"<<(.*?)>>", found["vars"])[1].split(", ")
    assert len(names) == len([v for v in machine.variables if not v.local])
    steps = [
        n for n in re.findall(r"\w+", f"{found['Environment']} {found['Server']}") if n in found
    ]
    assert len(steps) == len(machine.actions)
    for name in steps:
        kept = re.search(r"UNCHANGED <<(.*?)>>", found[name])
        given = re.findall(r"(\w+)' =", found[name]) + (kept[1].split(", ") if kept else [])
        assert sorted(given) == sorted(names), name
        for left, right in ("()", "{}", "[]"):
            assert found[name].count(left) == found[name].count(right), name
    for claim in machine.claims:
        assert claim.name in found


def test_effects_in_tla_see_what_those_before_them_have_done():
    swap = action(
        "swap",
        Actor.CLIENT,
        [clients >= 1],
        [
            clients.becomes(signalled),
            signalled.becomes(clients + 1),
            when(signalled == 2, [clients.becomes(0)], fatal.becomes(True)),
        ],
    )
    step = definitions(to_tla(replace(TOY, actions=(swap,), properties=())))["swap"]
    assert "clients_signalled' = (clients_signalled + 1)" in step
    assert "IF ((clients_signalled + 1) = 2) THEN 0 ELSE clients_signalled" in step
    assert "IF ((clients_signalled + 1) = 2) THEN pm_fatal_error ELSE TRUE" in step
