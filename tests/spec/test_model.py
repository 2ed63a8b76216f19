"""The model of the postmaster: its size, its claims, their witnesses, and the mutants."""

import re

import pytest
from test_families import FAMILIES

from pglife_spec.explore.liveness import check_property
from pglife_spec.explore.search import Exploration, explore
from pglife_spec.lang.machine import Mutant
from pglife_spec.postgres.build import build
from pglife_spec.postgres.configurations import CONFIGS
from pglife_spec.postgres.mutants import MUTANTS
from pglife_spec.postgres.state.postmaster import EXITED

MACHINE = build()

RULE = re.compile(
    r"F[1-7]|(SV|SL|ST|TR(14|15|17|18)?|SM|PM|PR|RP|SG|TI|SH|CT|CR|CN|SE|TO|PG|TF|IO|WS|AR|BW|CK"
    r"|AV|LG|RC|BG|INV|HB|MM|OB)-[0-9]+"
)
#: Reachable states, their depth, and the steps between them: change it with the model only.
SIZES = {
    "tiny-15": (135450, 28, 645603),
    "tiny-15-repaired": (98123, 27, 443491),
    "tiny-18": (110122, 33, 516699),
    "tiny-18-repaired": (83493, 27, 369742),
}

#: Configurations of archive recovery: what they have a case for, and primaries have not.
STANDBYS = (
    "standby-{}-repaired",
    "warm-standby-{}",
    "recovery-target-{}",
    "streaming-{}",
    "slot-sync-{}",
)


@pytest.fixture(scope="module", params=sorted(SIZES))
def explored(request: pytest.FixtureRequest) -> Exploration:
    return explore(MACHINE, CONFIGS[request.param], final=EXITED)


def test_no_claim_fails_and_no_state_is_a_deadlock(explored: Exploration) -> None:
    """Claims hold as stated, exceptions included; only an ended postmaster has no step left."""
    assert explored.complete
    assert not explored.violated
    assert not explored.underflows
    assert not explored.wrong_cuts()
    assert not explored.deadlocks
    assert explored.finals > 0


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_a_bound_cuts_only_what_the_environment_begins(name: str) -> None:
    """Bounds limit births; what the postmaster and children do with those born is never cut."""
    found = explore(MACHINE, CONFIGS[name], claims=(), limit=20_000)
    assert not found.wrong_cuts()


def test_sizes_are_pinned(explored: Exploration) -> None:
    """The number of states and steps is the reviewed one."""
    found = (explored.states, explored.depth, explored.transitions)
    assert found == SIZES[explored.program.config.name]


def test_liveness_fails_only_as_declared(explored: Exploration) -> None:
    """With all repairs on every property holds; a real release breaks those with an exception."""
    repaired = explored.program.config.name.endswith("repaired")
    for prop in MACHINE.properties:
        verdict = check_property(explored, prop)
        if repaired:
            assert verdict.holds, prop.name
        elif not verdict.holds:
            assert prop.exception, prop.name


def test_real_releases_break_what_was_seen_on_live_servers() -> None:
    """A fast shutdown in the PM_STARTUP after a crash never ends, on 15 and on 18."""
    prop = next(p for p in MACHINE.properties if p.name == "every_fast_shutdown_ends")
    for name in ("tiny-15", "tiny-18"):
        verdict = check_property(explore(MACHINE, CONFIGS[name]), prop)
        assert verdict.lasso is not None, name


#: No named configuration has a case for these: a setting decides them there, or what they need is
#: left out of those that are small enough.
NO_CASE = frozenset(
    {
        "a_crash_restart_needs_the_setting",
        "only_a_crash_or_an_immediate_shutdown_quits_the_lrlauncher",
        "only_a_crash_or_an_immediate_shutdown_quits_the_slotsync",
        "only_a_crash_or_an_immediate_shutdown_quits_the_walreceiver",
        "the_setting_of_the_avlauncher_is_on",
        "the_setting_of_the_io_worker_is_on",
        "the_setting_of_the_logger_is_on",
        "the_setting_of_the_lrlauncher_is_on",
        "the_setting_of_the_walsender_is_on",
    }
)
NO_CASE_OF = {
    15: NO_CASE
    | {
        "only_a_crash_or_an_immediate_shutdown_quits_a_io_worker",
        "only_a_crash_or_an_immediate_shutdown_quits_the_walsummarizer",
        "the_walsummarizer_exits_as_its_kind_does",
        "the_walsummarizer_keeps_to_its_states",
        "wait_dead_end_has_signaled_every_dead_end_child",
    },
    18: NO_CASE
    | {
        "only_18_reports_the_shutdown_checkpoint",
        "releases_without_io_workers_have_none",
    },
}


@pytest.mark.parametrize("version", [15, 18])
def test_every_claim_has_a_witness(version: int) -> None:
    """Somewhere each claim has something to say, but for those listed."""
    missing = {claim.name for claim in MACHINE.claims}
    families = [name for name in FAMILIES if name.endswith(f"-{version}")]
    standbys = [name for name in map(str.format, STANDBYS, [version] * 9) if name in CONFIGS]
    first = (f"tiny-{version}", f"doors-{version}", f"small-{version}-repaired")
    for name in (*first, *families, *standbys, f"full-{version}"):
        wanted = [c for c in MACHINE.claims if c.name in missing]
        found = explore(MACHINE, CONFIGS[name], claims=wanted, until_witnessed=True, limit=300_000)
        missing -= set(found.witnessed)
    assert missing == NO_CASE_OF[version]


def test_every_mutant_has_its_claim() -> None:
    """How strong the claims are together, `benchmarks/mutate_model.py` measures."""
    assert {m.killed_by for m in MUTANTS} <= {c.name for c in MACHINE.claims}
    assert len(MACHINE.claims) >= 120
    assert len(MACHINE.properties) >= 15


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_a_mutant_is_killed(mutant: Mutant) -> None:
    """The wrong model breaks the claim, by a trace from the beginning."""
    claim = next(c for c in MACHINE.claims if c.name == mutant.killed_by)
    wrong = mutant.apply(MACHINE)
    found = explore(
        wrong, CONFIGS[mutant.config], claims=[claim], stop_at_violation=True, limit=600_000
    )
    assert claim.name in found.violated


def test_every_rule_that_an_action_cites_is_written_like_one() -> None:
    """Rule ids read as in the catalogue of rules; a statement is a sentence."""
    for action in MACHINE.actions:
        assert action.doc.endswith("."), action.name
        assert action.rules, action.name
        for rule in action.rules:
            assert RULE.fullmatch(rule), (action.name, rule)
