"""`pglife prove`: every claim, for any number of children."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pglife_spec.cli import subject
from pglife_spec.cli.subject import VERSION, MisuseError, Status
from pglife_spec.lang.expr import Value
from pglife_spec.lang.machine import Machine
from pglife_spec.postgres.words.releases import VERIFIED, Release
from pglife_spec.report import console as show

if TYPE_CHECKING:
    from pglife_spec.prove.report import ProofReport

EXAMPLES = f"""\b
Examples:
  pglife prove                           all claims, for each release
  pglife prove -V 18 --fix autovacuum=false
  pglife prove --mine --keep             learn the lemmas anew and keep them

{subject.STATUSES}"""


def prove(
    release: Annotated[
        Release | None,
        subject.release_option("Only this release.  [default: all]"),
    ] = None,
    fixed: Annotated[
        list[str] | None,
        typer.Option("--fix", metavar="NAME=VALUE", help="Fix a parameter; may be repeated."),
    ] = None,
    mine: Annotated[bool, typer.Option("--mine", help="Learn the lemmas anew.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the lemmas that were learnt.")] = False,
    whole: subject.WholeOption = False,
) -> None:
    """Prove every claim for any number of children and any configuration."""
    machine, out = subject.load().machine, subject.console()
    proofs = prove_all(machine, pins(machine, release, fixed or []), mine=mine, keep=keep)
    for proof in proofs:
        show.show_proof(out, proof, whole=whole)
    raise typer.Exit(Status.OK if all(p.proved for p in proofs) else Status.WRONG)


def pins(
    machine: Machine, release: Release | None = None, fixed: list[str] | None = None
) -> list[dict[str, Value]]:
    """What each proof fixes: a machine that knows releases is proved for each on its own."""
    given = subject.values_of("--fix", fixed or [], {p.name: p.sort for p in machine.params})
    if VERSION not in {p.name for p in machine.params} or VERSION in given:
        return [given]
    return [{**given, VERSION: v.number} for v in VERIFIED if release in (None, v)]


def prove_all(
    machine: Machine, pins: list[dict[str, Value]], *, mine: bool = False, keep: bool = False
) -> list[ProofReport]:
    """A proof of all claims under each set of fixed parameters, with progress on the terminal."""
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
