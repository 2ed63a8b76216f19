"""`pglife museum`: bugs of PostgreSQL's past in the model, and what catches each."""

from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from pglife_spec import rules
from pglife_spec.cli import subject
from pglife_spec.cli.rules import print_columns
from pglife_spec.cli.subject import MisuseError, Status
from pglife_spec.explore import check_property, explore
from pglife_spec.postgres.museum import EXHIBITS, Exhibit
from pglife_spec.report import console as show
from pglife_spec.traces.trace import Trace

EXAMPLES = """\b
Examples:
  pglife museum                all exhibits
  pglife museum HB-35          one: the bug, and the shortest run into it

\b
Exit status:
  0  the exhibits are printed
  1  nothing catches an exhibit
  2  the command line asks for something that does not exist"""


def museum(
    rule: Annotated[
        str | None, typer.Argument(metavar="RULE", help="Of one exhibit: HB-35.")
    ] = None,
) -> None:
    """Bugs that PostgreSQL had, put back into the model."""
    out = subject.console()
    if rule is None:
        print_columns(out, [(each.rule, Text(each.doc)) for each in EXHIBITS])
        raise typer.Exit(Status.OK)
    found = [each for each in EXHIBITS if each.rule == rule.upper()]
    if not found:
        known = ", ".join(each.rule for each in EXHIBITS)
        raise MisuseError(f"no exhibit {rule}; there are: {known}")
    for each in found:
        _show(out, each)


def _show(out: Console, exhibit: Exhibit) -> None:
    rule = rules.rule(exhibit.rule)
    rows = [
        (exhibit.rule, Text(rule.statement)),
        *((name, Text(text)) for name, text in rule.details.items() if name != "mutation"),
        ("in the model", Text(exhibit.doc)),
        ("caught by", Text(exhibit.caught_by, "bold")),
        ("scenario", Text(exhibit.scenario)),
    ]
    print_columns(out, rows)
    with show.working(f"exploring {exhibit.config.name}"):
        trace = counterexample(exhibit)
    if trace is None:
        out.print(f"[bold red]{exhibit.caught_by} holds[/] although the bug is there")
        raise typer.Exit(Status.WRONG)
    show.show_trace(out, exhibit.machine(), trace)


def counterexample(exhibit: Exhibit) -> Trace | None:
    """A shortest run in which the claim fails, or the lasso that breaks the property."""
    machine = exhibit.machine()
    props = [p for p in machine.properties if p.name == exhibit.caught_by]
    claims = [c for c in machine.claims if c.name == exhibit.caught_by]
    found = explore(
        machine, exhibit.config, claims=claims, stop_at_violation=True, final=subject.load().final
    )
    for prop in props:
        return check_property(found, prop).lasso
    state = found.violated.get(exhibit.caught_by)
    return None if state is None else found.trace_to(state, exhibit.caught_by)
