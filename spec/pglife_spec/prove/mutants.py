"""What a proof makes of a wrong model.

Begin with claims_lost(). Whether a claim is false in a reachable state the explorer shows.
"""

from collections.abc import Mapping

from pglife_spec.lang.expr import Value
from pglife_spec.lang.machine import Machine, Mutant
from pglife_spec.prove.learn import load
from pglife_spec.prove.lemmas import Vocabulary
from pglife_spec.prove.prover import check
from pglife_spec.prove.report import Status


def claims_lost(machine: Machine, mutant: Mutant, fixed: Mapping[str, Value]) -> list[str]:
    """The claims that the right machine's lemmas prove for it and not for the mutant.

    Lemmas that the mutant breaks are taken away until those left hold together.
    """
    words, wrong = Vocabulary(machine), mutant.apply(machine)
    lemmas = {words.show(lemma): lemma for lemma in load(machine, fixed)[0]}
    while True:
        report = check(wrong, fixed, lemmas.values(), explain=False)
        broken = {cell.claim for cell in report.failed_lemmas}
        if not broken:
            return [c.name for c in report.claims if c.status is not Status.PROVED]
        lemmas = {name: lemma for name, lemma in lemmas.items() if name not in broken}
