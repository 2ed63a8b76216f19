"""The command line `pglife`. Begin with `main`; the commands stand in the other modules here."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer
from rich.console import Console

from pglife_spec.cli import (
    diff,
    draw,
    explore,
    export,
    museum,
    prove,
    report,
    rules,
    table,
    trace,
)
from pglife_spec.cli.subject import STATUSES, Status
from pglife_spec.lang.errors import SpecError

app = typer.Typer(
    name="pglife",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name, command, examples, short in (
    (
        "explore",
        explore.explore_,
        explore.EXAMPLES,
        "Visit every state: claims, liveness, coverage.",
    ),
    ("prove", prove.prove, prove.EXAMPLES, "Prove every claim for any number of children."),
    ("simulate", trace.simulate_, trace.SIMULATE_EXAMPLES, "Take a random walk through the model."),
    ("replay", trace.replay_, trace.REPLAY_EXAMPLES, "Play a trace on the model and explain it."),
    ("graph", draw.graph, draw.EXAMPLES, "Draw the postmaster, or the life of a child."),
    ("table", table.table, table.EXAMPLES, "Who can block each state; where events lead."),
    ("report", report.report, report.EXAMPLES, "Write each claim with its evidence."),
    ("rule", rules.rule, rules.RULE_EXAMPLES, "Print rules and what cites them."),
    (
        "coverage",
        rules.coverage_,
        rules.COVERAGE_EXAMPLES,
        "List each rule with its scenarios, or why it has none.",
    ),
    ("export", export.export, export.EXAMPLES, "Write the model in Promela or TLA+."),
    ("museum", museum.museum, museum.EXAMPLES, "Bugs of the past, and what catches each."),
    ("diff", diff.diff, diff.EXAMPLES, "What differs between two releases."),
    ("configs", explore.configs, "", "List the named configurations."),
):
    app.command(name, epilog=examples, short_help=short)(command)


@app.callback(
    invoke_without_command=True,
    epilog=f"`pglife COMMAND --help` has examples.\n\n{STATUSES}",
)
def pglife(
    context: typer.Context,
    show_version: Annotated[
        bool, typer.Option("--version", help="Show the version of pglife and exit.")
    ] = False,
) -> None:
    """PostgreSQL's process lifecycles as an executable specification."""
    if show_version:
        typer.echo(f"pglife {version('pglife')}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


EXTRAS = {"fast_sugiyama": "draw", "jinja2": "report"}
"""Packages that one command needs, and the extra of pglife that installs each."""


def main() -> None:
    """Run the command line; bad input ends with one line and status 2."""
    try:
        app()
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        _complain(f"{error.name} is missing: pip install 'pglife[{EXTRAS[error.name]}]'")
    except SpecError as error:
        _complain(str(error))
    except OSError as error:
        _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        _complain("interrupted")


def _complain(text: str) -> None:
    Console(stderr=True, soft_wrap=True).print(f"pglife: {text}", markup=False, highlight=False)
    sys.exit(Status.MISUSED)


if __name__ == "__main__":
    main()
