"""`pglife simulate` and `pglife replay`: runs of the model, made and explained."""

from pathlib import Path
from typing import Annotated

import typer

from pglife_spec.cli import subject
from pglife_spec.cli.subject import ConfigOption, MisuseError, ReleaseOption, Status
from pglife_spec.lang.machine import Config
from pglife_spec.postgres.words.releases import Release, release_of
from pglife_spec.report import console as show
from pglife_spec.traces.simulate import simulate
from pglife_spec.traces.trace import Trace, read_itf, replay, write_itf

SIMULATE_EXAMPLES = f"""\b
Examples:
  pglife simulate --seed 7 --steps 60
  pglife simulate --weight operator_requests_shutdown=0.1 -o walk.itf.json
  pytest --pyargs pglife_conformance --trace walk.itf.json    the same run on a server

{subject.STATUSES}"""
REPLAY_EXAMPLES = f"""\b
Examples:
  pglife replay walk.itf.json
  pglife replay walk.itf.json -c full-18

{subject.STATUSES}"""


def simulate_(
    config: ConfigOption = None,
    release: ReleaseOption = None,
    steps: Annotated[int, typer.Option(metavar="N", min=0, help="The most steps to take.")] = 40,
    seed: Annotated[int, typer.Option(metavar="N", help="Decides every choice.")] = 1,
    weight: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FAMILY=NUMBER",
            help="How likely these actions are beside the others' 1; 0 for never. May be repeated.",
        ),
    ] = None,
    out_file: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write the trace here, as ITF JSON."),
    ] = None,
) -> None:
    """Take a random walk through the model."""
    about, out = subject.load(), subject.console()
    chosen = about.config(config, release)
    subject.refuse_unwritable(out_file)
    weights = dict(_weight(text) for text in weight or [])
    trace = simulate(about.machine, chosen, steps=steps, seed=seed, weights=weights)
    show.show_trace(out, about.machine, trace)
    if out_file is not None:
        write_itf(trace, out_file)
        subject.say_written(out_file)


def _weight(text: str) -> tuple[str, float]:
    name, _, number = text.rpartition("=")
    try:
        return name, float(number)
    except ValueError:
        raise MisuseError(f"--weight takes FAMILY=NUMBER: {text!r}") from None


def replay_(
    file: Annotated[Path, typer.Argument(help="A trace, as ITF JSON.")],
    config: Annotated[
        str | None,
        typer.Option(
            "--config", "-c", metavar="NAME", help="Configuration.  [default: the trace's own]"
        ),
    ] = None,
    release: Annotated[
        Release | None,
        subject.release_option("Release.  [default: the trace's]"),
    ] = None,
) -> None:
    """Play a trace on the model; explain the first step that the model does not allow."""
    about, out = subject.load(), subject.console()
    trace = read_itf(file, about.machine)
    said = replay(about.machine, _config_of(about, trace, config, release), trace)
    if said.trace.moments:
        show.show_trace(out, about.machine, said.trace)
    if said.explained:
        out.print(f"[green]explained[/]: all {len(trace)} steps")
        return
    out.print(f"[bold red]impossible[/] at state {said.failed_at}: ", end="")
    out.print(said.reason, markup=False, soft_wrap=True)
    raise typer.Exit(Status.WRONG)


def _config_of(
    about: subject.Subject, trace: Trace, name: str | None, release: Release | None
) -> Config:
    """The configuration asked for, or the one that the trace was made under."""
    subject.refuse_other_release("this trace", trace.params, release)
    if name is None and trace.config in about.configs:
        return about.config(trace.config, release)
    if name is None and trace.params:
        base = about.config(None, _release_of(trace))
        most = {key: max(bound, len(trace)) for key, bound in base.bounds.items()}
        return Config(trace.config or "of the trace", dict(base.params) | dict(trace.params), most)
    chosen = about.config(name, release)
    wanted = trace.params.get(subject.VERSION)
    given = chosen.params.get(subject.VERSION)
    if wanted is not None and given is not None and wanted != given:
        raise MisuseError(f"this trace is of {wanted}, configuration {chosen.name!r} of {given}")
    return chosen


def _release_of(trace: Trace) -> Release | None:
    """The release whose defaults complete the parameters of a trace."""
    said = trace.params.get(subject.VERSION)
    return None if said is None else release_of(said)
