"""Proving a machine's claims for any number of children and any configuration.

Begin with prove(); prove_each() is for several pinned versions at once.
"""

import multiprocessing
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from multiprocessing.queues import SimpleQueue

from pglife_spec.lang.errors import SpecError
from pglife_spec.lang.expr import Value
from pglife_spec.lang.machine import Machine
from pglife_spec.prove.counterexample import explain_all
from pglife_spec.prove.induction import Failure, Induction, invariants, is_possible
from pglife_spec.prove.learn import learn, load, save
from pglife_spec.prove.lemmas import Lemma, Vocabulary
from pglife_spec.prove.report import COUNTS, ProofReport

Progress = Callable[[str], None]
Message = tuple[int, str, object]


class ProofError(SpecError):
    """A proof could not be carried out, which says nothing about the machine."""


def prove(
    machine: Machine,
    fixed: Mapping[str, Value] | None = None,
    *,
    lemmas: Iterable[Lemma] | None = None,
    mine: bool = False,
    keep: bool = False,
    progress: Progress | None = None,
) -> ProofReport:
    """Prove all claims of a machine, with the lemmas on file as long as they do.

    Args:
        machine: the machine.
        fixed: parameters with one value; the others stand for every value.
        lemmas: helpers to use instead of those on file; then none are mined.
        mine: learn lemmas anew even if those on file suffice.
        keep: put newly learnt lemmas on file.
        progress: called with what is being worked on.
    """
    start = time.perf_counter()
    pins = dict(fixed or {})
    demand_possible(machine, pins)
    if lemmas is not None:
        return check(machine, pins, lemmas, progress)
    known, fresh = load(machine, pins)
    report = None if mine else check(machine, pins, known, progress)
    # Lemmas learnt from an older machine still prove what the solver accepts; if they do not, or
    # nothing is known, learn again. What was learnt from this very machine is not learnt twice.
    if report is None or not (report.proved or fresh):
        learnt = learn(machine, pins, progress)
        if keep:
            save(machine, pins, learnt)
        report = check(machine, pins, learnt, progress)
        report.mined = True
    report.seconds = time.perf_counter() - start
    return report


def demand_possible(machine: Machine, fixed: Mapping[str, Value]) -> None:
    """Of what cannot be everything is proved: that is an error."""
    if not is_possible(machine, fixed):
        values = ", ".join(f"{name} = {value}" for name, value in fixed.items())
        raise ProofError(f"no configuration has {values}: the machine's assumptions exclude it")


def check(
    machine: Machine,
    fixed: Mapping[str, Value] | None = None,
    lemmas: Iterable[Lemma] = (),
    progress: Progress | None = None,
    *,
    explain: bool = True,
) -> ProofReport:
    """Check that claims and lemmas together are inductive: the whole obligation table.

    Args:
        machine: the machine.
        fixed: parameters with one value.
        lemmas: what is assumed and shown along with the claims.
        progress: called with what is being worked on.
        explain: whether failures get their counterexamples made small and replayed.
    """
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
    report.counterexamples = explain_all(proof, failures) if explain else []
    report.disabled = proof.disabled
    report.summarize([c.name for c in machine.claims if not c.explored_only] + [COUNTS])
    report.explored_only = [c.name for c in machine.claims if c.explored_only]
    report.seconds = time.perf_counter() - start
    return report


def prove_each(
    machine: Machine,
    pins: Sequence[Mapping[str, Value]],
    *,
    mine: bool = False,
    keep: bool = False,
    progress: Callable[[int, str], None] | None = None,
) -> list[ProofReport]:
    """Prove a machine once for each set of pinned parameters, each in its own process."""
    for fixed in pins:
        demand_possible(machine, fixed)
    context = multiprocessing.get_context("fork")  # a machine holds functions: it cannot be sent
    messages: SimpleQueue[Message] = context.SimpleQueue()

    def work(at: int) -> None:
        try:
            tell = (lambda text: messages.put((at, "progress", text))) if progress else None
            report = prove(machine, pins[at], mine=mine, keep=keep, progress=tell)
            messages.put((at, "done", report))
        except BaseException:
            messages.put((at, "failed", traceback.format_exc()))

    workers = [context.Process(target=work, args=(at,), daemon=True) for at in range(len(pins))]
    for worker in workers:
        worker.start()
    reports: dict[int, ProofReport] = {}
    try:
        while len(reports) < len(pins):
            at, what, content = messages.get()
            if what == "failed":
                raise ProofError(f"the proof for {dict(pins[at])} ended with\n{content}")
            if isinstance(content, ProofReport):
                reports[at] = content
            elif progress:
                progress(at, str(content))
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()
    return [reports[at] for at in range(len(pins))]
