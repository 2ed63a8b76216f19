"""`pglife rule` and `pglife coverage`: the rules, what cites them, and what is not covered."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from pglife_spec import rules
from pglife_spec.cli import subject
from pglife_spec.cli.subject import MisuseError, Status
from pglife_spec.rules import Rule
from pglife_spec.rules.citations import Citation, Citations, of_machine, of_suite, together
from pglife_spec.rules.citations import suite_folder as find_suite
from pglife_spec.rules.coverage import Covered, coverage, uncovered

RULE_EXAMPLES = """\b
Examples:
  pglife rule SH-04
  pglife rule SH-04..07 TR18-10
  pglife rule --search archiver"""
COVERAGE_EXAMPLES = """\b
Examples:
  pglife coverage --chapter SH
  pglife coverage --missing

\b
Exit status:
  0  each rule is cited or has its reason
  1  a rule is neither cited nor listed with a reason
  2  the command line asks for something that does not exist"""

MOST_CITED = 5
"""Ids that one line names."""
WIDTH = 100
"""The widest line of prose."""
EVIDENCE = {
    "seen 15": "seen on 15.18",
    "seen 18": "seen on 18.6",
    "source": "read in the source",
    "memory": "from memory",
}
CHAPTER = typer.Option(metavar="PREFIX", help="Only rules whose ids begin so: SH, TR18.")


def rule(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID...", help="Ids, or ranges: SH-04, SH-04..07.")
    ] = None,
    search: Annotated[
        str | None,
        typer.Option(metavar="WORDS", help="List the rules that contain all these words."),
    ] = None,
) -> None:
    """Print rules, and the declarations and scenarios that cite them."""
    if (search is None) == (not ids):
        raise MisuseError("`pglife rule` takes ids, or --search WORDS")
    out = _console()
    if search is not None:
        _list(out, search)
        return
    found = dict.fromkeys(id_ for text in ids or () for id_ in _named(text))
    citations = _citations()
    for number, id_ in enumerate(found):
        if number:
            out.print()
        _show(out, rules.rule(id_), citations.get(id_, ()))


def _console() -> Console:
    out = Console(highlight=False)
    return Console(highlight=False, width=min(out.width, WIDTH) if out.is_terminal else WIDTH)


def _named(text: str) -> list[str]:
    """The ids that an id or a range names, in any case.

    Raises:
        MisuseError: one of them does not exist.
    """
    ids = rules.cited(text.upper())
    try:
        return [rules.rule(id_).id for id_ in ids or [text.upper()]]
    except rules.UnknownRuleError as error:
        raise MisuseError(str(error)) from error


def _list(out: Console, words: str) -> None:
    found = rules.search(words)
    if not found:
        raise MisuseError(f"no rule contains {words!r}")
    grid = _grid()
    for each in found:
        grid.add_row(Text(each.id, "bold"), Text(each.statement))
    _print(out, grid)


def _grid() -> Table:
    """Two columns: a name, and prose that wraps beside it."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    return grid


def print_columns(out: Console, rows: Iterable[tuple[str, Text]]) -> None:
    """A name and prose beside it on each row; a name that repeats is printed once."""
    grid, before = _grid(), ""
    for name, prose in rows:
        grid.add_row(Text("" if name == before else name, "magenta"), prose)
        before = name
    _print(out, grid)


def cited(ids: Sequence[str]) -> str:
    """Ids of rules in brackets; the first few of many."""
    more = ", ..." if len(ids) > MOST_CITED else ""
    return f"({', '.join(ids[:MOST_CITED])}{more})" if ids else ""


def _print(out: Console, what: RenderableType) -> None:
    """Print wrapped prose or columns without the blanks at the ends of their lines."""
    with out.capture() as written:
        out.print(what)
    lines = written.get().splitlines()
    out.file.write("".join(f"{line.rstrip()}\n" for line in lines))


def _citations() -> Citations:
    about = subject.load()
    suite = find_suite()
    return together(
        of_machine(about.machine, about.mutants), of_suite(suite) if suite is not None else {}
    )


def _show(out: Console, rule: Rule, citations: Sequence[Citation]) -> None:
    """One rule, then each thing that cites it."""
    out.print(Text.assemble((rule.id, "bold"), f"  {rule.chapter}: {rule.section}"))
    _print(out, Text(rule.statement, "green"))
    grid = _grid()
    details = {k: v for k, v in rule.details.items() if v not in rule.statement}
    facts = {
        "releases": "14 to 18" if rule.releases == "all" else rule.releases,
        "source": rule.source,
        "observable": rule.observable,
        "evidence": ", ".join(EVIDENCE.get(each, each) for each in rule.evidence),
        **{name.replace("_", " "): text for name, text in details.items()},
    }
    for name, text in facts.items():
        if text:
            grid.add_row(Text(name, "cyan"), Text(text))
    for citation in citations:
        said = Text.assemble((citation.name, "bold"), f"\n{citation.statement}".rstrip())
        grid.add_row(Text(citation.citing.value, "magenta"), said)
    if reason := uncovered().get(rule.id):
        grid.add_row(Text("no scenario", "yellow"), Text(f"{reason.kind.value}: {reason.text}"))
    _print(out, grid)


def coverage_(
    chapter: Annotated[str, CHAPTER] = "",
    missing: Annotated[
        bool, typer.Option("--missing", help="Only rules that no scenario cites.")
    ] = False,
) -> None:
    """List each rule with its scenarios, or with the reason why it has none."""
    rows = [row for row in coverage(_citations()) if _is_of(row.rule, chapter.upper())]
    if not rows:
        raise MisuseError(f"no rule is of chapter {chapter!r}; there are: {', '.join(_prefixes())}")
    out, grid = _console(), _grid()
    for row in rows:
        if not (missing and row.scenarios):
            grid.add_row(Text(row.rule.id, "bold"), _evidence(row))
    _print(out, grid)
    out.print(_summary(rows))
    raise typer.Exit(Status.OK if all(map(_is_settled, rows)) else Status.WRONG)


def _is_of(rule: Rule, prefix: str) -> bool:
    return not prefix or rule.id.rpartition("-")[0] == prefix


def _prefixes() -> list[str]:
    return sorted({id_.rpartition("-")[0] for id_ in rules.rules()})


def _is_settled(row: Covered) -> bool:
    return bool(row.scenarios or row.declarations or row.reason)


def _evidence(row: Covered) -> Text:
    """What covers a rule, by name, or why nothing does."""
    if row.scenarios:
        return Text("\n".join(citation.name for citation in row.scenarios))
    if row.declarations:
        names = ", ".join(f"{c.citing.value} {c.name}" for c in row.declarations)
        return Text(f"model: {names}", "cyan")
    if row.reason is None:
        return Text("neither cited nor listed with a reason", "bold red")
    return Text(f"{row.reason.kind.value}: {row.reason.text}", "yellow")


def _summary(rows: Iterable[Covered]) -> str:
    """The numbers: by a scenario, by the model alone, by each kind of reason."""
    counts = Counter(_settled_by(row) for row in rows)
    total = counts.total()
    scenarios, model = counts.pop("a scenario", 0), counts.pop("the model", 0)
    others = ", ".join(f"{number} {kind}" for kind, number in counts.most_common())
    return f"{total} rules: {scenarios} with scenarios, {model} by the model alone" + (
        f", {sum(counts.values())} without ({others})" if counts else ""
    )


def _settled_by(row: Covered) -> str:
    if row.scenarios:
        return "a scenario"
    if row.declarations:
        return "the model"
    return row.reason.kind.value if row.reason else "no reason"
