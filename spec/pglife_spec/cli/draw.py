"""`pglife graph`: lives, states and signals as pictures, and as files for other tools."""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pglife_spec.cli import subject
from pglife_spec.cli.subject import ConfigOption, MisuseError, ReleaseOption
from pglife_spec.explore import Exploration, explore
from pglife_spec.lang.machine import Config
from pglife_spec.postgres.words.releases import NEWEST, Release
from pglife_spec.postgres.words.repairs import PREFIX
from pglife_spec.report import console as show
from pglife_spec.traces.trace import read_itf

if TYPE_CHECKING:
    import networkx as nx

    from pglife_spec.graphs import LifeView

STATES, SIGNALS = "states", "signals"
"""Views that are not the life of a process."""

EXAMPLES = f"""\b
Examples:
  pglife graph -V 18 -o postmaster.svg
  pglife graph checkpointer -f mermaid
  pglife graph backend -f dot | dot -Tpdf > backend.pdf
  pglife graph signals -f graphml -o signals.graphml      who signals whom
  pglife graph states -c doors-18 -f json -o states.json  every state and step
  pglife graph --trace walk.itf.json -o walk.svg          only what the trace takes

{subject.STATUSES}"""


class Format(enum.Enum):
    """How a graph is written."""

    SVG = "svg"
    MERMAID = "mermaid"
    DOT = "dot"
    GRAPHML = "graphml"
    JSON = "json"


DATA = (Format.GRAPHML, Format.JSON)
"""Formats that hold any graph; the others are for lives."""


def graph(
    view: Annotated[
        str,
        typer.Argument(help="postmaster, a kind of child, signals, or states."),
    ] = "postmaster",
    release: ReleaseOption = None,
    config: ConfigOption = None,
    format_: Annotated[
        Format,
        typer.Option(
            "--format", "-f", metavar="|".join(f.value for f in Format), help="How it is written."
        ),
    ] = Format.SVG,
    traces: Annotated[
        list[Path] | None,
        typer.Option(
            "--trace",
            metavar="FILE",
            help="Show only the ways that these traces take, and count them; may be repeated.",
        ),
    ] = None,
    out_file: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write it here.  [default: print it]"),
    ] = None,
) -> None:
    """Draw the postmaster, the life of a child, who signals whom, or every state."""
    about = subject.load()
    subject.refuse_unwritable(out_file)
    lives = about.views(release or NEWEST)
    if view not in (*lives, SIGNALS, STATES):
        raise MisuseError(f"no picture {view!r}; there are: {', '.join([*lives, SIGNALS, STATES])}")
    if view not in lives and format_ not in DATA:
        raise MisuseError(f"{view} is written with -f graphml or -f json")
    if view not in lives and traces:
        raise MisuseError("--trace goes with postmaster or a kind of child")
    if config is not None and view != STATES:
        raise MisuseError("-c goes with states; lives are drawn from a configuration of their own")
    write = writer(format_)
    runs = [read_itf(path, about.machine) for path in traces or []]
    if view == SIGNALS:
        made = about.signals(about.machine)
    elif view == STATES:
        from pglife_spec.graphs import state_graph

        made = state_graph(_explored(about, about.config(config, release)))
    else:
        made = life(view, release or NEWEST)
        if runs:
            from pglife_spec.graphs import covered

            whole, made = made, covered(made, lives[view], runs)
            ways, taken = len(set(whole.edges())), len(set(made.edges()))
            typer.echo(f"the traces take {taken} of {ways} ways", err=True)
    _write(write(made), out_file, made)


def _write(text: str, out_file: Path | None, made: nx.MultiDiGraph) -> None:
    if out_file is None:
        sys.stdout.write(text)
        return
    out_file.write_text(text)
    edges = len(set(made.edges()))
    subject.say_written(out_file, f": {len(made)} nodes, {edges} edges")


def _explored(about: subject.Subject, config: Config) -> Exploration:
    with show.working(f"exploring {config.name}") as say:
        return explore(about.machine, config, claims=[], progress=show.counting(say))


def life(view: str, release: Release) -> nx.MultiDiGraph:
    """The life of a name, from all states of a small configuration with and without defects."""
    from pglife_spec.graphs import life_graph

    about = subject.load()
    known: LifeView = about.views(release)[view]
    config = about.to_draw(about.config(None, release, "small"), view)
    mended = dict.fromkeys((n for n in config.params if n.startswith(PREFIX)), True)
    found = _explored(about, config)
    repaired = None
    if mended:
        repaired = _explored(
            about, Config(f"{config.name}, repaired", {**config.params, **mended}, config.bounds)
        )
    with show.working("drawing"):
        return life_graph(found, known, repaired=repaired)


def writer(format_: Format) -> Callable[[nx.MultiDiGraph], str]:
    """What writes a graph in a format; only a life has a picture."""
    from pglife_spec.draw.text import to_dot, to_mermaid
    from pglife_spec.graphs import to_graphml, to_json

    if format_ is Format.SVG:
        from pglife_spec.draw.svg import to_svg

        return to_svg
    writers = {
        Format.MERMAID: to_mermaid,
        Format.DOT: to_dot,
        Format.GRAPHML: to_graphml,
        Format.JSON: to_json,
    }
    return writers[format_]
