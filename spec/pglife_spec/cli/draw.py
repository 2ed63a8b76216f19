"""`pglife graph`: the state machine of the postmaster, or the life of a child, as a picture."""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pglife_spec.cli import subject
from pglife_spec.cli.subject import NEWEST, MisuseError, Release, ReleaseOption
from pglife_spec.explore import explore
from pglife_spec.report import console as show

if TYPE_CHECKING:
    from pglife_spec.draw.graph import Graph

EXAMPLES = f"""\b
Examples:
  pglife graph -V 18 -o postmaster.svg
  pglife graph checkpointer -f mermaid
  pglife graph startup -f dot | dot -Tpdf > startup.pdf

{subject.STATUSES}"""


class Format(enum.Enum):
    """How a graph is written."""

    SVG = "svg"
    MERMAID = "mermaid"
    DOT = "dot"


def graph(
    view: Annotated[str, typer.Argument(help="postmaster, or a kind of child.")] = "postmaster",
    release: ReleaseOption = None,
    format_: Annotated[
        Format,
        typer.Option(
            "--format", "-f", metavar="|".join(f.value for f in Format), help="How it is written."
        ),
    ] = Format.SVG,
    out_file: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write it here.  [default: print it]"),
    ] = None,
) -> None:
    """Draw the state machine of the postmaster, or the life of a child, from all its states."""
    subject.refuse_unwritable(out_file)
    drawn = draw(view, release or NEWEST)
    text = written(drawn, format_)
    if out_file is None:
        sys.stdout.write(text)
        return
    out_file.write_text(text)
    subject.say_written(out_file, f": {len(drawn.nodes)} nodes, {len(drawn.edges)} edges")


def draw(view: str, release: Release) -> Graph:
    """The graph of a name, from all states of a small configuration.

    Raises:
        MisuseError: there is no picture of this name.
    """
    from pglife_spec.draw.graph import state_graph

    about = subject.load()
    known = about.views(release)
    if view not in known:
        raise MisuseError(f"no picture {view!r}; there are: {', '.join(known)}")
    config = about.to_draw(about.config(None, release, "small"), view)
    with show.working(f"exploring {config.name}") as say:
        found = explore(about.machine, config, claims=[], progress=show.counting(say))
        say("drawing")
        return state_graph(found, known[view])


def written(graph: Graph, format_: Format) -> str:
    """The graph in a format."""
    from pglife_spec.draw.svg import to_svg
    from pglife_spec.draw.text import to_dot, to_mermaid

    writers: dict[Format, Callable[[Graph], str]] = {
        Format.SVG: to_svg,
        Format.MERMAID: to_mermaid,
        Format.DOT: to_dot,
    }
    return writers[format_](graph)
