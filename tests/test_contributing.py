"""The examples of CONTRIBUTING.md: each block of code is run, or is part of a file that is."""

import re
from pathlib import Path

import pytest

from pglife_spec.rules import read_chapter

ROOT = Path(__file__).resolve().parent.parent
SECTIONS = dict(
    re.findall(
        r"^## (.+?)\n(.*?)(?=^## |\Z)",
        (ROOT / "CONTRIBUTING.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )
)


def block(section: str, language: str = "python") -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", SECTIONS[section], re.DOTALL)
    return found


def test_each_thing_that_can_be_added_has_a_section() -> None:
    assert list(SECTIONS) == ["A rule", "A scenario", "A kind of process", "A release", "A repair"]


def test_the_rules_of_the_example_can_be_read() -> None:
    rules = read_chapter("xx", block("A rule", "toml")).rules
    assert [rule.id for rule in rules] == ["XX-01", "XX-02"]


def test_the_scenario_is_one_of_the_examples() -> None:
    function = block("A scenario").split("\n\n\n", 1)[1]
    assert function in (ROOT / "examples" / "test_my_server.py").read_text()


@pytest.mark.parametrize("section", ["A kind of process", "A release", "A repair"])
def test_the_code_of_a_section_runs(section: str) -> None:
    exec(compile(block(section), f"CONTRIBUTING.md: {section}", "exec"), {})
