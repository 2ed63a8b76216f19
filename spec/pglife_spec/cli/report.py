"""`pglife report`: what is claimed, by which method it is known, and what shows it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pglife_spec.cli import draw, prove, subject
from pglife_spec.cli.subject import Status
from pglife_spec.postgres.words.releases import VERIFIED, Release
from pglife_spec.report import console as show
from pglife_spec.report.collect import collect
from pglife_spec.report.formats import Format

if TYPE_CHECKING:
    import networkx as nx

EXAMPLES = f"""\b
Examples:
  pglife report -o report.html                         some minutes
  pglife report -c tiny-18 --no-proof -o report.md     some seconds

{subject.STATUSES}"""


def report(
    out_file: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write it here.  [default: print it]"),
    ] = None,
    format_: Annotated[
        Format | None,
        typer.Option(
            "--format",
            "-f",
            metavar="|".join(f.value for f in Format),
            help="How it is written.  [default: by the file's name, or text]",
        ),
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(
            "--config",
            "-c",
            metavar="NAME",
            help="Explore this configuration; may be repeated.  [default: all tiny ones]",
        ),
    ] = None,
    release: Annotated[
        Release | None,
        subject.release_option("Only this release.  [default: all]"),
    ] = None,
    proof: Annotated[bool, typer.Option("--proof/--no-proof", help="Also prove.")] = True,
    pictures: Annotated[bool, typer.Option(help="Pictures in HTML.")] = True,
) -> None:
    """Write each claim with its statement, source, method, time, witness and mutants."""
    from pglife_spec.report.render import render

    subject.refuse_unwritable(out_file)
    format_ = format_ or _format_of(out_file)
    to_svg = draw.writer(draw.Format.SVG) if pictures and format_ is Format.HTML else None
    about = subject.load()
    chosen = _chosen(about, config or [], release)
    proofs = prove.prove_all(about.machine, prove.pins(about.machine, release)) if proof else []
    with show.working("collecting") as say:
        said = collect(
            about.machine,
            [about.configs[name] for name in chosen],
            final=about.final,
            proofs=proofs,
            mutants=about.mutants,
            witness_configs=[
                c for n, c in about.configs.items() if n.startswith(("small-", "forks-"))
            ],
            say=say,
        )
    drawn = _pictures(to_svg, release) if to_svg is not None else {}
    text = render(said, format_, drawn)
    if out_file is None:
        sys.stdout.write(text)
    else:
        out_file.write_text(text)
        subject.say_written(out_file)
    raise typer.Exit(Status.OK if said.good else Status.WRONG)


def _pictures(to_svg: Callable[[nx.MultiDiGraph], str], release: Release | None) -> dict[str, str]:
    """The postmaster of each release as SVG, by title."""
    drawn: dict[str, str] = {}
    for each in VERIFIED:
        if release in (None, each):
            picture = draw.life("postmaster", each)
            drawn[picture.graph["title"]] = to_svg(picture)
    return drawn


def _chosen(about: subject.Subject, names: list[str], release: Release | None) -> list[str]:
    """The configurations to explore: those named, or the tiny ones."""
    if names:
        return [about.config(name, release).name for name in names]
    tiny = [n for n in about.configs if n.startswith("tiny-")]
    wanted = None if release is None else release.number
    return [
        n
        for n in tiny
        if wanted is None or about.configs[n].params.get(subject.VERSION, wanted) == wanted
    ]


def _format_of(path: Path | None) -> Format:
    """The format that a file's name asks for."""
    suffixes = {".html": Format.HTML, ".htm": Format.HTML, ".md": Format.MARKDOWN}
    return suffixes.get(path.suffix if path else "", Format.TEXT)
