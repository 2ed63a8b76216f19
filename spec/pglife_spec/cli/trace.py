"""`pglife simulate` and `pglife replay`: runs of the model, made and explained."""

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pglife_spec.cli import subject
from pglife_spec.cli.subject import (
    BoundOption,
    ConfigOption,
    MisuseError,
    ReleaseOption,
    SetOption,
    Status,
)
from pglife_spec.lang.machine import Actor, Config
from pglife_spec.lang.parse import parse
from pglife_spec.meanings.interpret import holds
from pglife_spec.meanings.python.program import compile_machine
from pglife_spec.postgres.words.releases import Release, release_of
from pglife_spec.report import console as show
from pglife_spec.traces.simulate import simulate
from pglife_spec.traces.trace import Trace, read_itf, replay, write_itf

SIMULATE_EXAMPLES = f"""\b
Examples:
  pglife simulate --seed 7 --steps 60
  pglife simulate --count 100 --without fault --until 'postmaster = EXITED_0'
  pglife simulate -c full-18 --steps 300 --count 50 --coverage
  pglife simulate --weight operator_requests_shutdown=0.1 -o walk.itf.json
  pytest --pyargs pglife_conformance --trace walk.itf.json    the same run on a server

{subject.STATUSES}"""
REPLAY_EXAMPLES = f"""\b
Examples:
  pglife replay walk.itf.json
  pglife replay walk.itf.json -c full-18

{subject.STATUSES}"""


WeightOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FAMILY=NUMBER",
        help="How likely these actions are beside the others' 1; 0 for never. May be repeated.",
    ),
]


def simulate_(
    config: ConfigOption = None,
    release: ReleaseOption = None,
    settings: SetOption = None,
    bounds: BoundOption = None,
    steps: Annotated[int, typer.Option(metavar="N", min=0, help="The most steps to take.")] = 40,
    seed: Annotated[int, typer.Option(metavar="N", help="Decides every choice.")] = 1,
    count: Annotated[
        int, typer.Option(metavar="N", min=1, help="So many runs, with seeds from --seed on.")
    ] = 1,
    until: Annotated[
        str | None, typer.Option(metavar="EXPR", help="Stop where this holds.")
    ] = None,
    coverage: Annotated[
        bool, typer.Option("--coverage", help="List how often each action was taken.")
    ] = False,
    without: Annotated[
        list[Actor] | None,
        typer.Option(metavar="|".join(a.value for a in Actor), help="Their steps are left out."),
    ] = None,
    weight: WeightOption = None,
    out_file: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write the trace here, as ITF JSON."),
    ] = None,
) -> None:
    """Take random walks through the model; of several the shortest is printed."""
    about, out = subject.load(), subject.console()
    chosen = about.config(config, release, settings=settings, bounds=bounds)
    subject.refuse_unwritable(out_file)
    target = None if until is None else parse(until, about.machine)
    run = partial(
        simulate,
        about.machine,
        chosen,
        steps=steps,
        weights=dict(_weight(text) for text in weight or []),
        without=without or (),
        until=target,
        program=compile_machine(about.machine, chosen),
    )
    walks = [run(seed=seed + at) for at in range(count)]
    there = walks
    if target is not None:
        there = [w for w in walks if holds(target, w.moments[-1].state, chosen.params)]
        out.print(f"{len(there)} of {count} runs reach {until}", markup=False)
    if there:
        trace = min(there, key=len)
        show.show_trace(out, about.machine, trace)
        if out_file is not None:
            write_itf(trace, out_file)
            subject.say_written(out_file)
    if coverage:
        taken = Counter(name for walk in walks for name in walk.actions)
        for action in about.machine.actions:
            out.print(f"{taken[action.name]:8}  {action.name}", markup=False)
    raise typer.Exit(Status.OK if there else Status.WRONG)


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
