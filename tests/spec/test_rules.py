"""The rules as data: their form, the ids cited anywhere, and what the wheel carries."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pglife_spec import rules
from pglife_spec.postgres.build import build
from pglife_spec.rules import RulesError, UnknownRuleError, read_chapter
from pglife_spec.rules.citations import of_machine, of_suite, suite_folder, together
from pglife_spec.rules.coverage import coverage, read_reasons

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


@pytest.mark.parametrize(
    ("id_", "holds"),
    [
        ("SH-04", [14, 15, 16, 17, 18]),
        ("PM-01", [18]),
        ("WS-01", [17, 18]),
        ("PM-02", [14, 15, 16, 17]),
    ],
    ids=["all", "18", "17+", "up to 17"],
)
def test_a_rule_knows_its_releases(id_: str, holds: list[int]) -> None:
    assert [release for release in range(12, 20) if rules.rule(id_).holds_in(release)] == holds


def test_nothing_was_seen_on_a_release_that_a_rule_is_not_about() -> None:
    for rule in rules.rules().values():
        for release in (15, 18):
            assert rule.holds_in(release) or f"seen {release}" not in rule.evidence, rule.id


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


PREFIXES = {id_.rpartition("-")[0] for id_ in rules.rules()}


def texts() -> dict[str, str]:
    """Every Python, Markdown and TOML file of the tree but the tests of the rules, by path."""
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*.md", "*.toml"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    paths = [ROOT / name for name in listed.stdout.split()]
    return {
        str(path.relative_to(ROOT)): path.read_text("utf-8")
        for path in paths
        if path.exists() and not path.name.startswith("test_rules")
    }


def test_every_id_that_is_cited_exists() -> None:
    """Ids and the two ends of ranges, in code, pages and rules."""
    unknown = {
        (path, id_)
        for path, text in texts().items()
        for id_ in rules.cited(text)
        if id_.rpartition("-")[0] in PREFIXES and id_ not in rules.rules()
    }
    assert unknown == set()


def test_every_rule_is_cited_or_has_its_reason() -> None:
    """A rule is cited by a scenario or by the model, or listed in uncovered.toml: never both."""
    suite = suite_folder()
    assert suite is not None
    rows = coverage(together(of_machine(build()), of_suite(suite)))
    cited = {row.rule.id for row in rows if row.scenarios or row.declarations}
    listed = {row.rule.id for row in rows if row.reason}
    assert {row.rule.id for row in rows} - cited - listed == set()
    assert cited & listed == set()


REFERENCE = re.compile(
    r"\b(?:[Ss]ections?|[Tt]able|[Pp]age|[Cc]hapter|[Ii]ssue|[Ff]igure) \d[\d.]*"
    r"|§|\bDESIGN\b|\bSTYLE\b"
)


def test_nothing_refers_to_a_numbered_section_page_or_issue() -> None:
    """A clone holds none of these: text cites rules by id, and files by name."""
    found = {(path, found) for path, text in texts().items() for found in REFERENCE.findall(text)}
    assert found == set()


def test_a_reason_is_given_once_and_for_a_rule_that_exists() -> None:
    table = '[[reason]]\nkind = "wanted"\nrules = "{}"\nwhy = "w"\n'
    assert set(read_reasons(table.format("SL-01..02"))) == {"SL-01", "SL-02"}
    for wrong in ("SL-01, SL-01", "SL-99"):
        with pytest.raises(RulesError):
            read_reasons(table.format(wrong))


def test_the_suite_is_read_as_text(tmp_path: Path) -> None:
    """Markers on functions, and `rules` of classes and objects, without any import."""
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "test_a.py").write_text(
        'import missing\n@claim("SL-01", "SL-02", source="a.c")\ndef test_x():\n    """It."""\n'
    )
    (tmp_path / "events.py").write_text(
        'class Event:\n    rules = ("SL-03",)\nSTATE = State("run", rules=("SL-04", "no id"))\n'
    )
    found = of_suite(tmp_path)
    assert {id_: [c.name for c in citations] for id_, citations in found.items()} == {
        "SL-01": ["test_a.py::test_x"],
        "SL-02": ["test_a.py::test_x"],
        "SL-03": ["events.py::Event"],
        "SL-04": ["events.py::STATE"],
    }
    assert found["SL-01"][0].statement == "It."


def test_the_wheel_carries_the_rules(tmp_path: Path) -> None:
    """A wheel built from this tree has every chapter."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", tmp_path, ROOT]
    subprocess.run(command, check=True, timeout=300)
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    here = {path.name for path in (ROOT / "spec/pglife_spec/rules").glob("*.toml")}
    assert {f"pglife_spec/rules/{name}" for name in here} <= names
