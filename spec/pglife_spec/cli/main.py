"""The command line: `pglife explore|prove|simulate|replay|graph|report`.

Begin with   main; each command is one function.
Owns         options, progress, exit status: 0 all well, 1 something is wrong with the model or the
             trace, 2 the command was given something it cannot use.
Leaves out   how results look (report/).
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from pglife_spec.explore import check_property, explore
from pglife_spec.lang.expr import Expr, LanguageError, Value
from pglife_spec.lang.machine import Config, Machine, Mutant
from pglife_spec.report import console as show
from pglife_spec.report.collect import collect, is_declared
from pglife_spec.report.render import Format, render
from pglife_spec.simulate import simulate
from pglife_spec.trace import Trace, TraceError, read_itf, replay, write_itf

if TYPE_CHECKING:
    from pglife_spec.draw.graph import Graph
    from pglife_spec.prove.report import ProofReport

OK, WRONG, MISUSED = 0, 1, 2
VERSION = "version"
"""The parameter that tells releases apart."""

app = typer.Typer(
    name="pglife",
    help="PostgreSQL's process lifecycles as an executable specification.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Version(enum.Enum):
    """Releases the model tells of."""

    V15 = "15"
    V18 = "18"


class Picture(enum.Enum):
    """How a graph is written."""

    SVG = "svg"
    MERMAID = "mermaid"
    DOT = "dot"


VersionOption = Annotated[
    Version, typer.Option("--version-of-postgres", "-V", help="The release to speak of.")
]
ConfigOption = Annotated[
    str | None,
    typer.Option("--config", "-c", help="A named configuration; `pglife configs` lists them."),
]


class MisuseError(Exception):
    """The command line asks for something that is not there."""


def main() -> None:
    """Run the command line; bad input ends with one line and status 2."""
    try:
        app()
    except (MisuseError, LanguageError, TraceError) as error:
        _complain(str(error))
    except OSError as error:
        _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        _complain("interrupted")


def _complain(text: str) -> None:
    Console(stderr=True, soft_wrap=True).print(f"pglife: {text}", markup=False, highlight=False)
    sys.exit(MISUSED)


def _machine() -> Machine:
    from pglife_spec.postgres.build import build

    return build()


def _configs() -> dict[str, Config]:
    from pglife_spec.postgres.configurations import CONFIGS

    return dict(CONFIGS)


def _final() -> Expr:
    from pglife_spec.postgres.claims.common import GONE

    return GONE


def _config(name: str | None, version: Version, default: str = "tiny") -> Config:
    """The named configuration, or the smallest one of a version."""
    configs = _configs()
    wanted = name or f"{default}-{version.value}"
    if wanted not in configs:
        raise MisuseError(f"no configuration {wanted!r}; there are: {', '.join(configs)}")
    return configs[wanted]


def _out() -> Console:
    """A terminal as wide as it is; a file or pipe wide enough for a trace."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=140)


@app.command()
def configs() -> None:
    """List the named configurations."""
    out = _out()
    for name, config in _configs().items():
        said = {k: v for k, v in config.params.items() if not k.startswith("repair.")}
        on = [k for k, v in said.items() if v is True]
        numbers = [f"{k} = {v}" for k, v in said.items() if not isinstance(v, bool)]
        bounds = ", ".join(f"{k} up to {v}" for k, v in config.bounds.items())
        told = "; ".join([", ".join([*numbers, *on]), bounds])
        out.print(f"[bold]{name:22}[/]{told}", soft_wrap=True)


@app.command("explore")
def explore_(
    config: ConfigOption = None,
    version: VersionOption = Version.V18,
    liveness: Annotated[bool, typer.Option(help="Also check the liveness properties.")] = True,
    limit: Annotated[int | None, typer.Option(help="Stop after this many states.", min=1)] = None,
    lassos: Annotated[bool, typer.Option(help="Print also what fails as declared.")] = False,
    traces: Annotated[
        Path | None, typer.Option(help="Write each counterexample and lasso to this directory.")
    ] = None,
) -> None:
    """Visit every state of one configuration: claims, deadlocks, coverage, liveness."""
    machine, chosen, out = _machine(), _config(config, version), _out()
    with show.working(f"exploring {chosen.name}") as say:
        found = explore(machine, chosen, final=_final(), limit=limit, progress=show.counting(say))
    show.show_exploration(out, found)
    wrong = show.counterexamples(found)
    declared: dict[str, Trace] = {}
    if liveness:
        verdicts = []
        for prop in machine.properties:
            with show.working(f"checking {prop.name}"):
                verdicts.append(check_property(found, prop))
        show.show_verdicts(out, found, verdicts)
        for said in verdicts:
            if said.lasso is not None:
                kept = declared if is_declared(said.prop, chosen) else wrong
                kept[said.prop.name] = replace(said.lasso, description=said.prop.name)
    for trace in [*wrong.values(), *(declared.values() if lassos else ())]:
        show.show_trace(out, machine, trace)
    _write_traces(out, traces, wrong | declared)
    raise typer.Exit(WRONG if wrong else OK)


def _write_traces(out: Console, directory: Path | None, traces: dict[str, Trace]) -> None:
    if directory is None:
        return
    directory.mkdir(parents=True, exist_ok=True)
    for name, trace in traces.items():
        path = directory / f"{_file_name(name)}.itf.json"
        write_itf(trace, path)
        out.print(f"wrote {path}", markup=False, soft_wrap=True)


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)


@app.command()
def prove(
    version: Annotated[
        Version | None,
        typer.Option("--version-of-postgres", "-V", help="Only this release; else every one."),
    ] = None,
    fixed: Annotated[
        list[str] | None, typer.Option("--fix", help="Pin a parameter: NAME=VALUE.")
    ] = None,
    mine: Annotated[bool, typer.Option("--mine", help="Learn the lemmas anew.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Put lemmas learnt on file.")] = False,
) -> None:
    """Prove every claim for any number of children and any configuration."""
    machine, out = _machine(), _out()
    proofs = _prove(machine, _pins(machine, version, fixed or []), mine=mine, keep=keep)
    for proof in proofs:
        show.show_proof(out, proof)
    raise typer.Exit(OK if all(p.proved for p in proofs) else WRONG)


def _pins(machine: Machine, version: Version | None, fixed: list[str]) -> list[dict[str, Value]]:
    """What each proof pins: a machine that knows releases is proved for each on its own."""
    given = _pinned(machine, fixed)
    if VERSION not in {p.name for p in machine.params} or VERSION in given:
        return [given]
    return [{**given, VERSION: int(v.value)} for v in Version if version in (None, v)]


def _prove(
    machine: Machine, pins: list[dict[str, Value]], *, mine: bool = False, keep: bool = False
) -> list[ProofReport]:
    from pglife_spec.prove import ProofError, prove_each

    with show.working(f"proving {len(machine.claims)} claims") as say:
        doing = [""] * len(pins)

        def tell(at: int, text: str) -> None:
            doing[at] = text
            say("; ".join(filter(None, doing)))

        try:
            return prove_each(machine, pins, mine=mine, keep=keep, progress=tell)
        except ProofError as error:
            raise MisuseError(str(error)) from error


def _pinned(machine: Machine, given: list[str]) -> dict[str, Value]:
    """Parameters pinned by NAME=VALUE."""
    sorts = {p.name: str(p.sort) for p in machine.params}
    values: dict[str, Value] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name not in sorts:
            raise MisuseError(f"--fix takes NAME=VALUE with NAME of {', '.join(sorts)}: {text!r}")
        if sorts[name] == "Bool" and value in ("true", "false"):
            values[name] = value == "true"
        elif sorts[name] == "Int" and value.isdecimal():
            values[name] = int(value)
        else:
            kind = "true or false" if sorts[name] == "Bool" else "a whole number"
            raise MisuseError(f"{name} takes {kind}: {value!r}")
    return values


@app.command("simulate")
def simulate_(
    config: ConfigOption = None,
    version: VersionOption = Version.V18,
    steps: Annotated[int, typer.Option(help="The most steps to take.", min=0)] = 40,
    seed: Annotated[int, typer.Option(help="Decides every choice.")] = 1,
    weight: Annotated[
        list[str] | None,
        typer.Option(help="FAMILY=NUMBER: how likely it is beside the others' 1; 0 for never."),
    ] = None,
    out_file: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the trace here, as ITF JSON.")
    ] = None,
) -> None:
    """Take a random walk."""
    machine, chosen, out = _machine(), _config(config, version), _out()
    weights = dict(_weight(text) for text in weight or [])
    trace = simulate(machine, chosen, steps=steps, seed=seed, weights=weights)
    show.show_trace(out, machine, trace)
    if out_file is not None:
        write_itf(trace, out_file)
        out.print(f"wrote {out_file}", markup=False, soft_wrap=True)


def _weight(text: str) -> tuple[str, float]:
    name, _, number = text.rpartition("=")
    try:
        return name, float(number)
    except ValueError:
        raise MisuseError(f"--weight takes FAMILY=NUMBER: {text!r}") from None


@app.command("replay")
def replay_(
    file: Annotated[Path, typer.Argument(help="A trace, as ITF JSON.")],
    config: ConfigOption = None,
    version: VersionOption = Version.V18,
) -> None:
    """Play a trace on the model; explain the first step that it does not allow."""
    machine, out = _machine(), _out()
    trace = read_itf(file, machine)
    said = replay(machine, _config_of(trace, config, version), trace)
    if said.trace.moments:
        show.show_trace(out, machine, said.trace)
    if said.explained:
        out.print(f"[green]explained[/]: all {len(trace)} steps")
        return
    out.print(f"[bold red]impossible[/] at state {said.failed_at}: ", end="")
    out.print(said.reason, markup=False, soft_wrap=True)
    raise typer.Exit(WRONG)


def _config_of(trace: Trace, name: str | None, version: Version) -> Config:
    """The configuration asked for, or the one that the trace was made under."""
    known = _configs()
    if name is None and trace.config in known:
        return known[trace.config]
    if name is None and trace.params:
        base = _config(None, version)
        most = {key: max(bound, len(trace)) for key, bound in base.bounds.items()}
        return Config(trace.config or "of the trace", dict(base.params) | dict(trace.params), most)
    return _config(name, version)


@app.command()
def graph(
    view: Annotated[str, typer.Argument(help="postmaster, or a kind of child.")] = "postmaster",
    version: VersionOption = Version.V18,
    format_: Annotated[Picture, typer.Option("--format", "-f")] = Picture.SVG,
    out_file: Annotated[Path | None, typer.Option("--out", "-o", help="Default: print.")] = None,
) -> None:
    """Draw the state machine of the postmaster, or the life of a child, from all its states."""
    drawn = _graph(view, version)
    text = _written(drawn, format_)
    if out_file is None:
        sys.stdout.write(text)
        return
    out_file.write_text(text)
    _out().print(
        f"wrote {out_file}: {len(drawn.nodes)} nodes, {len(drawn.edges)} edges",
        markup=False,
        soft_wrap=True,
    )


def _graph(view: str, version: Version) -> Graph:
    from pglife_spec.draw.graph import state_graph
    from pglife_spec.draw.views import drawn, views

    known = views(int(version.value))
    if view not in known:
        raise MisuseError(f"no picture {view!r}; there are: {', '.join(known)}")
    config = drawn(_config(None, version, "small"), view)
    with show.working(f"exploring {config.name}") as say:
        found = explore(_machine(), config, claims=[], progress=show.counting(say))
        say("drawing")
        return state_graph(found, known[view])


def _written(graph: Graph, format_: Picture) -> str:
    from pglife_spec.draw.svg import to_svg
    from pglife_spec.draw.text import to_dot, to_mermaid

    writers: dict[Picture, Callable[[Graph], str]] = {
        Picture.SVG: to_svg,
        Picture.MERMAID: to_mermaid,
        Picture.DOT: to_dot,
    }
    return writers[format_](graph)


@app.command()
def report(
    out_file: Annotated[Path | None, typer.Option("--out", "-o", help="Default: print.")] = None,
    format_: Annotated[
        Format | None, typer.Option("--format", "-f", help="Default: by the file's name, or text.")
    ] = None,
    config: Annotated[
        list[str] | None, typer.Option("--config", "-c", help="Explore this; may be repeated.")
    ] = None,
    proof: Annotated[bool, typer.Option("--proof/--no-proof", help="Also prove.")] = True,
    pictures: Annotated[bool, typer.Option(help="Pictures in HTML.")] = True,
) -> None:
    """Each claim with its statement, source, method, time, witness and mutants."""
    format_ = format_ or _format_of(out_file)
    machine, known = _machine(), _configs()
    names = config or [n for n in known if n.startswith("tiny-")]
    chosen = [_config(name, Version.V18) for name in names]
    proofs = _prove(machine, _pins(machine, None, [])) if proof else []
    with show.working("collecting") as say:
        said = collect(
            machine,
            chosen,
            final=_final(),
            proofs=proofs,
            mutants=_mutants(),
            witness_configs=[c for n, c in known.items() if n.startswith(("small-", "forks-"))],
            say=say,
        )
    drawn: dict[str, str] = {}
    if pictures and format_ is Format.HTML:
        for version in Version:
            picture = _graph("postmaster", version)
            drawn[picture.title] = _written(picture, Picture.SVG)
    text = render(said, format_, drawn)
    if out_file is None:
        sys.stdout.write(text)
    else:
        out_file.write_text(text)
        _out().print(f"wrote {out_file}", markup=False, soft_wrap=True)
    raise typer.Exit(OK if said.good else WRONG)


def _mutants() -> list[Mutant]:
    from pglife_spec.postgres.mutants import MUTANTS

    return list(MUTANTS)


def _format_of(path: Path | None) -> Format:
    """The format that a file's name asks for."""
    suffixes = {".html": Format.HTML, ".htm": Format.HTML, ".md": Format.MARKDOWN}
    return suffixes.get(path.suffix if path else "", Format.TEXT)


if __name__ == "__main__":
    main()
