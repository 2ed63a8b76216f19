"""`pglife export`: the model for another model checker."""

import enum
import sys
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
)
from pglife_spec.meanings.exports.promela import to_promela
from pglife_spec.meanings.exports.tla import to_tla
from pglife_spec.meanings.python.program import compile_machine

EXAMPLES = f"""\b
Examples:
  pglife export -f promela -c doors-18 -o doors.pml
  spin -o2 -a doors.pml
  gcc -O2 -DNOREDUCE -DSAFETY -o pan pan.c
  ./pan -E -m1000000
  pglife export -f tla -o postmaster.tla     of every configuration

{subject.STATUSES}"""


class Format(enum.Enum):
    """The language of another model checker."""

    PROMELA = "promela"
    TLA = "tla"


def export(
    config: ConfigOption = None,
    release: ReleaseOption = None,
    settings: SetOption = None,
    bounds: BoundOption = None,
    format_: Annotated[
        Format,
        typer.Option("--format", "-f", metavar="|".join(f.value for f in Format), help="For whom."),
    ] = Format.PROMELA,
    out_file: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write it here.  [default: print it]"),
    ] = None,
) -> None:
    """Write the model for another model checker: in Promela one configuration, in TLA+ all."""
    about = subject.load()
    subject.refuse_unwritable(out_file)
    if format_ is Format.TLA:
        if config or release or settings or bounds:
            raise MisuseError("the module in TLA+ is of every configuration: leave out -c, -V, ...")
        text = to_tla(about.machine)
    else:
        chosen = about.config(config, release, settings=settings, bounds=bounds)
        program = compile_machine(about.machine, chosen)
        text = to_promela(about.machine, chosen, [program.unpack(s) for s in program.initial])
    if out_file is None:
        sys.stdout.write(text)
        return
    out_file.write_text(text)
    subject.say_written(out_file)
