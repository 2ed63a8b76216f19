"""The claims of the real model, proved for any number of children and any configuration."""

import os

import pytest

from pglife_spec.postgres.build import build
from pglife_spec.postgres.claims.explored_only import EXPLORED_ONLY
from pglife_spec.postgres.configurations import CONFIGS
from pglife_spec.postgres.mutants import MUTANTS
from pglife_spec.prove import Status, prove_each
from pglife_spec.prove.mutants import claims_lost
from pglife_spec.prove.report import COUNTS, INIT

MACHINE = build()
VERSIONS = [{"version": 15}, {"version": 18}]
LIMIT_S = 180
# For others the lemmas fall one after another, which takes minutes.
LOOP = "the_loop_comes_to_what_it_must_not_pass"
QUICK = {"requests_at_startup_change_nothing", "fast_waits_like_smart"}


def processor_time():
    """Of this process and of the children that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@pytest.fixture(scope="module")
def proof():
    """The reports, and the processor time that all took: a clock would tell of other work too."""
    before = processor_time()
    made = prove_each(MACHINE, VERSIONS)
    return made, processor_time() - before


@pytest.fixture
def reports(proof):
    return proof[0]


def test_each_name_that_is_explored_only_is_a_claims():
    assert {claim.name for claim in MACHINE.claims} > EXPLORED_ONLY


def test_every_other_claim_is_proved_with_the_lemmas_on_file(reports):
    for report in reports:
        assert report.proved, report.text()
        assert set(report.explored_only) - {LOOP} == EXPLORED_ONLY
        assert not report.mined
        assert {c.status for c in report.claims} == {Status.PROVED}


def test_the_table_has_every_obligation_and_takes_no_more_than_three_minutes(proof):
    reports, spent_s = proof
    rows = {c.name for c in MACHINE.claims if not c.explored_only} | {COUNTS}
    columns = {a.name for a in MACHINE.actions} | {INIT}
    for report in reports:
        cells = {(o.claim, o.action) for o in report.obligations}
        assert len(cells) == len(report.obligations) == len(rows) * len(columns)
    assert 0 < spent_s < LIMIT_S


def test_every_action_is_enabled_in_some_version(reports):
    never = set(reports[0].disabled) & set(reports[1].disabled)
    assert not never


def test_the_quick_mutants_are_still_there():
    assert {mutant.name for mutant in MUTANTS} >= QUICK


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.name in QUICK], ids=lambda m: m.name)
def test_the_proof_loses_the_claim_that_a_mutant_breaks(mutant):
    """All mutants are killed by exploration elsewhere; here the proof is shown a few of them."""
    pins = {"version": CONFIGS[mutant.config].params["version"]}
    assert mutant.killed_by in claims_lost(MACHINE, mutant, pins)
