"""`pglife explore` and `pglife configs`: the states of one configuration, and which there are."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from pglife_spec.cli import subject
from pglife_spec.cli.subject import ConfigOption, ReleaseOption, Status, WholeOption
from pglife_spec.explore import check_property, explore
from pglife_spec.lang.machine import Config
from pglife_spec.meanings.pack import label
from pglife_spec.postgres.words.repairs import PREFIX
from pglife_spec.report import console as show
from pglife_spec.report.collect import is_declared
from pglife_spec.traces.trace import Trace, write_itf

EXAMPLES = f"""\b
Examples:
  pglife explore                     every state of tiny-18, claims and liveness
  pglife explore -V 15 --lassos      also how the declared hangs of 15 come about
  pglife explore -c small-18 --limit 50000
  pglife explore --traces out/       each counterexample as a file for replay

{subject.STATUSES}"""


def configs() -> None:
    """List the named configurations: what each is for, and how it differs from most."""
    out = subject.console()
    known = subject.load().configs
    groups: dict[object, list[Config]] = {}
    for config in known.values():
        groups.setdefault(config.params.get(subject.VERSION), []).append(config)
    for group in groups.values():
        values = [_values(config) for config in group]
        usual = {
            name: Counter(v[name] for v in values if name in v).most_common(1)[0][0]
            for name in dict.fromkeys(name for v in values for name in v)
        }
        for config, own in zip(group, values, strict=True):
            differs = [text for name, text in own.items() if usual[name] != text]
            out.print(f"[bold]{config.name:20}[/] {config.purpose}".rstrip(), soft_wrap=True)
            if differs:
                out.print(f"{'':20} {', '.join(differs)}", soft_wrap=True, style="dim")
        out.print(f"{'all others have':20} {', '.join(usual.values())}", soft_wrap=True)


def _values(config: Config) -> dict[str, str]:
    """What a configuration says, in words, by name; all repairs as one where they agree."""
    repairs = {v for n, v in config.params.items() if n.startswith(PREFIX)}
    said = {}
    for name, value in config.params.items():
        if not name.startswith(PREFIX) or len(repairs) > 1:
            said[name] = f"{name} = {label(value)}"
    if len(repairs) == 1:
        said[PREFIX] = "all findings repaired" if True in repairs else "no finding repaired"
    bounds = {f"bound {n}": f"{n} up to {v}" for n, v in config.bounds.items()}
    return said | bounds


def explore_(
    config: ConfigOption = None,
    release: ReleaseOption = None,
    liveness: Annotated[bool, typer.Option(help="Also check the liveness properties.")] = True,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Stop at the end of the level that passes this many states."
        ),
    ] = None,
    lassos: Annotated[
        bool, typer.Option("--lassos", help="Print also the runs that fail as declared.")
    ] = False,
    whole: WholeOption = False,
    traces: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write each counterexample and lasso to this folder."),
    ] = None,
) -> None:
    """Visit every state of one configuration: claims, deadlocks, coverage, liveness."""
    about, out = subject.load(), subject.console()
    machine, chosen = about.machine, about.config(config, release)
    with show.working(f"exploring {chosen.name}") as say:
        found = explore(
            machine, chosen, final=about.final, limit=limit, progress=show.counting(say)
        )
    show.show_exploration(out, found, whole=whole)
    wrong = show.counterexamples(found)
    declared: dict[str, Trace] = {}
    if liveness:
        verdicts = []
        with show.working("checking liveness") as say:
            for prop in machine.properties:
                say(prop.name)
                verdicts.append(check_property(found, prop))
        show.show_verdicts(out, found, verdicts)
        for said in verdicts:
            if said.lasso is not None:
                kept = declared if is_declared(said.prop, chosen) else wrong
                kept[said.prop.name] = replace(said.lasso, description=said.prop.name)
    for trace in [*wrong.values(), *(declared.values() if lassos else ())]:
        show.show_trace(out, machine, trace)
    if declared and not lassos:
        out.print("  --lassos prints the runs that fail as declared", style="dim")
    _write_traces(traces, wrong | declared)
    if wrong:
        raise typer.Exit(Status.WRONG)
    raise typer.Exit(Status.OK if found.complete else Status.INCOMPLETE)


def _write_traces(directory: Path | None, traces: dict[str, Trace]) -> None:
    if directory is None:
        return
    directory.mkdir(parents=True, exist_ok=True)
    for name, trace in traces.items():
        path = directory / f"{_file_name(name)}.itf.json"
        write_itf(trace, path)
        subject.say_written(path)


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
