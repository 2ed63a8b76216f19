"""Each bug of the past in the museum is caught by what its label names, and only with the bug."""

import re
from pathlib import Path

import pytest
from running import Run

import pglife_conformance
from pglife_spec import rules
from pglife_spec.cli.museum import counterexample
from pglife_spec.postgres.museum import EXHIBITS, Exhibit

SCENARIOS = Path(pglife_conformance.__file__).parent / "scenarios"


@pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda exhibit: exhibit.rule)
def test_an_exhibit_is_caught_as_its_label_says(exhibit: Exhibit) -> None:
    trace = counterexample(exhibit)
    assert trace is not None
    assert len(trace) > 1


def test_each_exhibit_has_a_rule_and_a_scenario() -> None:
    text = "".join(path.read_text() for path in SCENARIOS.rglob("test_*.py"))
    known = set(re.findall(r"^def (test_\w+)", text, re.MULTILINE))
    for exhibit in EXHIBITS:
        assert rules.rule(exhibit.rule).details["affected"]
        assert exhibit.scenario in known, exhibit.rule


def test_museum_lists_its_exhibits(pglife: Run) -> None:
    status, out, _ = pglife("museum")
    assert status == 0
    assert all(exhibit.rule in out for exhibit in EXHIBITS)


def test_museum_shows_the_run_into_a_bug(pglife: Run) -> None:
    status, out, _ = pglife("museum", "hb-01")
    assert status == 0
    assert "only_the_logger_outlives_the_postmaster" in out
    assert "startup_fails" in out


def test_museum_refuses_what_it_does_not_have(pglife: Run) -> None:
    status, _, complaint = pglife("museum", "SH-04")
    assert status == 2
    assert complaint.startswith("pglife: no exhibit SH-04; there are: HB-01, ")
