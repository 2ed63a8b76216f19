"""The claim marker: releases, rules and needs."""

import pytest

from pglife_conformance.base.failures import Expectation
from pglife_conformance.base.findings import Finding
from pglife_conformance.base.needs import NEEDS, Need
from pglife_conformance.expect.symptom import ELSEWHERE, Answer, Symptom, expect_answer
from pglife_conformance.pytest.claims import Claim, Defect, claim
from pglife_spec import PM, rules
from pglife_spec.postgres.words.repairs import FINDINGS, PREFIX

VERSIONS = [
    # since, until, major, why it is left out
    (0, 9999, 15, None),
    (18, 9999, 18, None),
    (18, 9999, 17, "X-1 holds since 18"),
    (0, 17, 17, None),
    (0, 17, 18, "X-1 holds until 17"),
]


@pytest.mark.parametrize(("since", "until", "major", "reason"), VERSIONS)
def test_versions(since: int, until: int, major: int, reason: str | None) -> None:
    made = Claim(rules=("X-1",), source="", since=since, until=until)
    assert made.version_reason(major) == reason


def test_the_difference_is_reported() -> None:
    made = Claim(rules=("X-1",), source="", since=18, why="not before")
    assert made.version_reason(15) == "X-1 holds since 18: not before"


def test_missing_needs_come_in_the_order_of_the_registry() -> None:
    made = Claim(rules=("X-1",), source="", needs=frozenset({Need.TCP, Need.OS_SIGNALS}))
    assert made.missing_needs([]) == [Need.OS_SIGNALS, Need.TCP]
    assert made.missing_needs([Need.TCP, Need.OS_SIGNALS]) == []


def test_every_need_has_a_reason_and_a_rule() -> None:
    assert set(NEEDS) == set(Need)
    assert all(facts.reason and rules.rule(facts.reference) for facts in NEEDS.values())


def test_a_repair_has_the_name_of_the_models_parameter() -> None:
    of_model = {number: name for name, numbers in FINDINGS.items() for number in numbers}
    assert {f.value: f"{PREFIX}{f.repair}" for f in Finding if f.repair} == of_model


def test_an_unknown_need_is_an_error() -> None:
    with pytest.raises(ValueError, match="levitation"):
        claim("X-1", source="", needs=["levitation"])


def test_a_scenario_states_its_claim() -> None:
    def silent() -> None:
        pass

    with pytest.raises(TypeError, match="states its claim"):
        claim("X-1", source="")(silent)


def test_a_claim_names_a_rule() -> None:
    with pytest.raises(TypeError, match="at least one rule"):
        claim(source="")


def test_a_defect_has_releases_and_a_repair() -> None:
    class Fake:
        class version:  # noqa: N801
            major = 15

        @staticmethod
        def has_repaired(finding: Finding) -> bool:
            return finding is Finding.F02

    def may_show(finding: Finding, since: int = 0, until: int = 9999) -> bool:
        defect = Defect(finding, Symptom("", PM.PM_RUN, (), ()), since, until)
        return defect.may_show_on(Fake)  # type: ignore[arg-type]

    assert may_show(Finding.F01, until=17)
    assert not may_show(Finding.F02, until=17)
    assert not may_show(Finding.F01, since=17)


@pytest.mark.parametrize(
    ("found", "differences"),
    [
        ("1: failed\nagain", []),
        ("1: failed", ["found '1: failed', not '1: .*again'"]),
    ],
)
def test_an_answer_is_the_symptom_if_all_of_it_matches(found: str, differences: list[str]) -> None:
    defect = Defect(Finding.W7, Answer("", "1: .*again"))
    with pytest.raises(Expectation) as problem:
        expect_answer(found, "0: done")
    assert defect.differences(problem.value) == differences
    expect_answer(found, "1: .*")


def test_another_failure_is_no_answer() -> None:
    defect = Defect(Finding.W7, Answer("", ".*"))
    assert defect.differences(Expectation("a", "b")) == [ELSEWHERE]
    assert defect.differences(ValueError()) == [ELSEWHERE]
