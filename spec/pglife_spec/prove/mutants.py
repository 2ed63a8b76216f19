"""What a proof makes of a wrong model.

Begin with   claims_lost.
Leaves out   whether the claim is false in a reachable state: the explorer shows that, with a trace.
"""

from __future__ import annotations

from collections.abc import Mapping

from pglife_spec.lang.expr import Value
from pglife_spec.lang.machine import Machine, Mutant
from pglife_spec.prove.learn import load
from pglife_spec.prove.prover import check
from pglife_spec.prove.report import Status


def claims_lost(machine: Machine, mutant: Mutant, fixed: Mapping[str, Value]) -> list[str]:
    """The claims that the right machine's lemmas prove for it and not for the mutant."""
    lemmas, _ = load(machine, fixed)
    report = check(mutant.apply(machine), fixed, lemmas, explain=False)
    return [claim.name for claim in report.claims if claim.status is not Status.PROVED]
