"""The rules as data: their form, the ids cited anywhere, and what the wheel carries."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pglife_spec import rules
from pglife_spec.rules import RulesError, UnknownRuleError, read_chapter

ROOT = Path(__file__).resolve().parents[2]

CHAPTER = """
[chapter]
prefixes = ["XX"]
title = "Title"

[[section]]
title = "Section"
rules = "XX-01..02"
source = "a.c: f()"
sentence = "{what} is done[ by {who}]."
"""


def test_every_chapter_loads() -> None:
    assert len(rules.rules()) >= 820
    assert all(rule.statement and rule.source for rule in rules.rules().values() if is_of_c(rule))


def is_of_c(rule: rules.Rule) -> bool:
    """Whether a rule retells C code; bugs, advice to modellers and recipes do not."""
    return rule.id.split("-")[0] not in {"HB", "MM", "OB"}


def test_a_statement_keeps_the_spaces_of_a_quoted_title() -> None:
    assert "`ready   `" in rules.rule("SH-46").statement


def test_a_section_gives_its_rules_a_sentence_and_defaults() -> None:
    text = CHAPTER + '[XX-01]\nwhat = "It"\nreleases = "all"\n'
    [rule] = read_chapter("xx", text + 'observable = "log"').rules
    assert rule.statement == "It is done."
    assert (rule.source, rule.observable, rule.evidence) == ("a.c: f()", "log", ("source",))


@pytest.mark.parametrize(
    "table",
    [
        '[XX-01]\nreleases = "all"\n',
        '[XX-01]\nstatement = "It."\nreleases = "8.4"\n',
        '[XX-01]\nstatement = "It."\nreleases = "all"\nevidence = ["hearsay"]\n',
        '[XX-03]\nstatement = "It."\nreleases = "all"\n',
        '[YY-01]\nstatement = "It."\nreleases = "all"\n',
    ],
    ids=["no statement", "releases", "evidence", "in no section", "prefix"],
)
def test_a_rule_of_another_form_is_refused(table: str) -> None:
    with pytest.raises(RulesError):
        read_chapter("xx", CHAPTER.replace("sentence", "other") + table)


def test_an_unknown_id_names_the_nearest() -> None:
    with pytest.raises(UnknownRuleError, match=r"no rule SH-0; nearest: .*SH-0"):
        rules.rule("SH-0")


def test_search_takes_several_words_in_any_case() -> None:
    found = {rule.id for rule in rules.search("Archive_library RELOAD")}
    assert "AR-07" in found
    assert "AR-02" not in found


def test_ranges_are_spelt_out() -> None:
    assert rules.cited("rules SG-08..11 and CN-01") == ["SG-08", "SG-10", "SG-11", "CN-01"]
    assert rules.cited("TR18-34..36") == ["TR18-34", "TR18-35", "TR18-36"]


def test_the_wheel_carries_the_rules(tmp_path: Path) -> None:
    """A wheel built from this tree has every chapter."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", tmp_path, ROOT]
    subprocess.run(command, check=True, timeout=300)
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    here = {path.name for path in (ROOT / "spec/pglife_spec/rules").glob("*.toml")}
    assert {f"pglife_spec/rules/{name}" for name in here} <= names
