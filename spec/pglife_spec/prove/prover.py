"""Proving a machine's claims for any number of children and any configuration.

Begin with   prove.
Owns         putting certificate check, counterexamples and report together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from pglife_spec.lang.expr import Value
from pglife_spec.lang.machine import Machine
from pglife_spec.prove.counterexample import explain_all
from pglife_spec.prove.induction import Failure, Induction, invariants
from pglife_spec.prove.lemmas import Lemma, Vocabulary
from pglife_spec.prove.report import COUNTS, ProofReport

Progress = Callable[[str], None]


def check(
    machine: Machine,
    fixed: Mapping[str, Value] | None = None,
    lemmas: Iterable[Lemma] = (),
    progress: Progress | None = None,
) -> ProofReport:
    """Check that claims and lemmas together are inductive: the whole obligation table."""
    start = time.perf_counter()
    words = Vocabulary(machine)
    named = [(words.show(lemma), words.expr(lemma)) for lemma in lemmas]
    proof = Induction(machine, fixed or {}, invariants(machine, named))
    report = ProofReport(machine.name, dict(fixed or {}), lemmas=[name for name, _ in named])
    failures: list[Failure] = []
    for cells, failed in proof.check(progress):
        report.obligations += cells
        failures += failed
    report.failed_lemmas = [f.obligation for f in failures if not f.is_claim]
    report.counterexamples = explain_all(proof, failures)
    report.disabled = proof.disabled
    report.summarize([claim.name for claim in machine.claims] + [COUNTS])
    report.seconds = time.perf_counter() - start
    return report
