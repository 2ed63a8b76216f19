"""Proofs: claims that hold for any number of children and any configuration. Begin with prove().

The only package that imports z3.
"""

from pglife_spec.prove.counterexample import EvaluatorsDisagreeError
from pglife_spec.prove.prover import ProofError, check, prove, prove_each
from pglife_spec.prove.report import ClaimReport, Counterexample, Obligation, ProofReport, Status

__all__ = [
    "ClaimReport",
    "Counterexample",
    "EvaluatorsDisagreeError",
    "Obligation",
    "ProofError",
    "ProofReport",
    "Status",
    "check",
    "prove",
    "prove_each",
]
