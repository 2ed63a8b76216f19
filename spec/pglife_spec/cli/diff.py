"""`pglife diff`: what a person would say differs between two releases."""

from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from pglife_spec import rules
from pglife_spec.cli import subject
from pglife_spec.cli.rules import cited, print_columns
from pglife_spec.cli.subject import MisuseError, Status
from pglife_spec.graphs.difference import Aspect, Difference, differences
from pglife_spec.lang.expr import LanguageError
from pglife_spec.postgres.words.releases import VERIFIED, Release, release_of
from pglife_spec.postgres.words.repairs import REPAIRS

EXAMPLES = """\b
Examples:
  pglife diff 15 18
  pglife diff 17 18 --rules          also the rules that only one of them has

\b
Exit status:
  0  the differences are printed
  2  the command line asks for something that does not exist"""

RELEASE = typer.Argument(metavar="RELEASE", help="A major version.")


def diff(
    one: Annotated[int, RELEASE],
    other: Annotated[int, RELEASE],
    with_rules: Annotated[
        bool, typer.Option("--rules", help="Also print the rules that only one of them has.")
    ] = False,
) -> None:
    """What differs between two releases: features, steps, states, forks, signals, messages."""
    pair = _release(one), _release(other)
    if one == other:
        raise MisuseError(f"{one} and {other} are one release: expected two")
    out = Console(highlight=False, soft_wrap=False, width=100)
    for release, than, found in zip(pair, reversed(pair), _differences(*pair), strict=True):
        out.print(Text(f"Only {release.number}, not {than.number}", "bold"))
        new = [f for f in release.features if f not in than.features]
        rows = [("features", Text(each.value)) for each in sorted(new, key=lambda f: f.name)]
        rows += [(each.aspect.value, _said(each)) for each in found]
        if with_rules:
            rows += [
                ("rules", Text.assemble((each.id, "cyan"), f"  {each.statement}"))
                for each in rules.rules().values()
                if each.holds_in(release.number) and not each.holds_in(than.number)
            ]
        print_columns(out, rows)
    raise typer.Exit(Status.OK)


def _release(number: int) -> Release:
    try:
        return release_of(number)
    except LanguageError as error:
        raise MisuseError(str(error)) from error


def _differences(one: Release, other: Release) -> tuple[list[Difference], list[Difference]]:
    """By the model; only features are known of a release that was not verified."""
    if not {one, other} <= set(VERIFIED):
        return [], []
    repairs = {param.name: False for param in REPAIRS}
    machine = subject.load().machine
    return differences(
        machine,
        {**repairs, subject.VERSION: one.number},
        {**repairs, subject.VERSION: other.number},
    )


def _said(each: Difference) -> Text:
    if each.aspect is Aspect.STEP:
        return Text.assemble(each.text, "  ", (cited(each.rules), "cyan"))
    return Text.assemble(
        (each.text, "bold"), f"  in {', '.join(each.actions)}  ", (cited(each.rules), "cyan")
    )
