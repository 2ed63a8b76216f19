"""`pglife rule` and `pglife coverage`: what they print, and how they refuse."""

import pytest
from running import Run


def test_rule_prints_a_rule_and_everything_that_cites_it(pglife: Run) -> None:
    status, out, _ = pglife("rule", "SH-04")
    assert status == 0
    assert out.startswith("SH-04  Shutdown: The three requests\nA smart shutdown in PM_RUN")
    for line in (
        "releases    14 to 18",
        "source      postmaster.c: process_pm_shutdown_request(), pmdie()",
        "evidence    seen on 15.18, seen on 18.6",
    ):
        assert line in out.splitlines()
    for kind in ("action", "claim", "property", "mutant", "scenario"):
        assert f"\n{kind:10}  " in out
    assert all(line == line.rstrip() for line in out.splitlines())


def test_rule_takes_ranges_in_any_case_and_prints_each_rule_once(pglife: Run) -> None:
    status, out, _ = pglife("rule", "io-01..03", "IO-02")
    assert status == 0
    heads = [line.split()[0] for line in out.splitlines() if line.startswith("IO-")]
    assert heads == ["IO-01", "IO-02", "IO-03"]


def test_rule_says_why_nothing_cites_a_rule(pglife: Run) -> None:
    _, out, _ = pglife("rule", "SL-12")
    assert "no scenario  internal: it would take garbage" in out


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (["SH-99"], "pglife: no rule SH-99; nearest: SH-46, SH-45, SH-44, SH-43\n"),
        (["XX"], "pglife: no rule XX\n"),
        ([], "pglife: `pglife rule` takes ids, or --search WORDS\n"),
        (["--search", "no such word"], "pglife: no rule contains 'no such word'\n"),
    ],
    ids=["number", "prefix", "nothing", "search"],
)
def test_rule_refuses_with_one_line_and_status_2(
    pglife: Run, asked: list[str], answer: str
) -> None:
    assert pglife("rule", *asked) == (2, "", answer)


def test_search_lists_statements(pglife: Run) -> None:
    status, out, _ = pglife("rule", "--search", "archive_library reload")
    assert status == 0
    assert "AR-07  When a reload changes archive_library" in out


def test_coverage_lists_scenarios_and_reasons_of_a_chapter(pglife: Run) -> None:
    status, out, _ = pglife("coverage", "--chapter", "io")
    assert status == 0
    assert "IO-01  processes/io_workers/test_pool.py::" in out
    assert "IO-11  definition: " in out
    assert out.splitlines()[-1].startswith("11 rules: 10 with scenarios, 0 by the model alone")


def test_coverage_of_what_is_missing(pglife: Run) -> None:
    _, out, _ = pglife("coverage", "--missing", "--chapter", "IO")
    assert [line.split()[0] for line in out.splitlines()] == ["IO-11", "11"]


def test_coverage_refuses_a_chapter_that_does_not_exist(pglife: Run) -> None:
    status, out, err = pglife("coverage", "--chapter", "QQ")
    assert (status, out) == (2, "")
    assert err.startswith("pglife: no rule is of chapter 'QQ'; there are: AR, AV,")
