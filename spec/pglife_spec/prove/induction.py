"""The inductive proof: true at first, and kept by every action, of claims and lemmas together.

Begin with Induction.check(): one query an action for everything at once, claim by claim where that
fails. `unknown` is a failure. The limit on one query is an amount of solver work and not of time,
so that the outcome does not depend on the machine.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import z3  # type: ignore[import-untyped]

from pglife_spec.lang.expr import Expr, Value
from pglife_spec.lang.machine import Action, Machine
from pglife_spec.lang.walk import names_in
from pglife_spec.meanings.smt.circuit import FALSE, TRUE, Lit
from pglife_spec.meanings.smt.symbolic import SymbolicStep, Symbols
from pglife_spec.prove.report import COUNTS, INIT, Obligation, Status

WORK_LIMIT = 400_000_000


@dataclass(frozen=True)
class Invariant:
    """Something to be kept: a claim, or a lemma that helps."""

    name: str
    holds: Expr
    is_claim: bool


def invariants(machine: Machine, lemmas: Iterable[tuple[str, Expr]] = ()) -> list[Invariant]:
    """The machine's claims but for those that are explored only, then the lemmas."""
    claims = [Invariant(c.name, c.holds, True) for c in machine.claims if not c.explored_only]
    return claims + [Invariant(name, holds, False) for name, holds in lemmas]


@dataclass(frozen=True)
class Failure:
    """An obligation not proved, with the solver's model where it found one."""

    obligation: Obligation
    is_claim: bool
    query: z3.BoolRef
    state: Mapping[str, Value] | None
    params: Mapping[str, Value] | None


class Induction:
    """One proof attempt: machine, pinned parameters, invariants.

    Args:
        machine: what is proved about.
        fixed: parameters with one value; the others stand for every value.
        kept: claims and lemmas, assumed before each step and demanded after it.
    """

    def __init__(
        self, machine: Machine, fixed: Mapping[str, Value], kept: Sequence[Invariant]
    ) -> None:
        self.machine = machine
        self.kept = list(kept)
        self.symbols = Symbols(machine, fixed)
        self.circuit = self.symbols.circuit
        self.solver = new_solver()
        self.solver.add(*self.symbols.typing)
        self._reads = {inv.name: names_in(inv.holds) for inv in kept}
        self._base = [self.circuit.z3(self.symbols.read(a)) for a in machine.assumptions]
        self.solver.add(*self._base)
        self._before_lits = {inv.name: self.symbols.read(inv.holds) for inv in kept}
        self.init = self.circuit.conj(map(self.symbols.read, machine.init))
        self.disabled: list[str] = []

    def solver_for(self, action: str) -> z3.Solver:
        """A new solver that knows what is assumed before an action, and that it is enabled."""
        solver = new_solver()
        solver.add(*self.symbols.typing, *self._base)
        if action == INIT:
            solver.add(self.circuit.z3(self.init))
            return solver
        solver.add(*(self.circuit.z3(lit) for lit in self._before_lits.values()))
        solver.add(self.circuit.z3(self.symbols.step(self.machine.action(action)).guard))
        return solver

    def check(
        self, progress: Callable[[str], None] | None = None
    ) -> Iterable[tuple[list[Obligation], list[Failure]]]:
        """All obligations, those of the initial states first, then action by action."""
        if progress:
            progress(INIT)
        yield self._decide(INIT, self.init, self._before_lits, [])
        for lit in self._before_lits.values():
            self.solver.add(self.circuit.z3(lit))
        for action in self.machine.actions:
            if progress:
                progress(action.name)
            yield self.check_action(action)

    def check_action(self, action: Action) -> tuple[list[Obligation], list[Failure]]:
        """Whether an action keeps everything."""
        step = self.symbols.step(action)
        if not self._possible(step):
            self.disabled.append(action.name)
            return self._untouched(action.name, set()), []
        touched = [inv for inv in self.kept if self._reads[inv.name] & step.changed]
        lits = self.symbols.read_in(step.after, [inv.holds for inv in touched])
        after = dict(zip((inv.name for inv in touched), lits, strict=True))
        return self._decide(action.name, step.guard, after, step.below_zero)

    def _possible(self, step: SymbolicStep) -> bool:
        if step.guard == FALSE:
            return False
        return bool(self.solver.check(self.circuit.z3(step.guard)) != z3.unsat)

    def _untouched(self, action: str, touched: set[str]) -> list[Obligation]:
        names = [inv.name for inv in self.kept if inv.is_claim] + [COUNTS]
        return [Obligation(n, action, Status.PROVED, 0.0) for n in names if n not in touched]

    def _decide(
        self,
        action: str,
        guard: Lit,
        after: Mapping[str, Lit],
        below_zero: Sequence[tuple[str, Lit]],
    ) -> tuple[list[Obligation], list[Failure]]:
        """One query for all; claim by claim only where it does not come out as proved."""
        circuit = self.circuit
        targets = {name: lit for name, lit in after.items() if lit != TRUE}
        short = circuit.disj(lit for _, lit in below_zero)
        if short != FALSE:
            targets[COUNTS] = -short
        claims = {inv.name for inv in self.kept if inv.is_claim} | {COUNTS}
        done = self._untouched(action, set(targets))
        if not targets:
            return done, []
        self.solver.push()
        try:
            self.solver.add(circuit.z3(guard))
            start = time.perf_counter()
            some = circuit.disj(-lit for lit in targets.values())
            verdict = self.solver.check(circuit.z3(some))
            share = (time.perf_counter() - start) / len(targets)
            if verdict == z3.unsat:
                proved = [
                    Obligation(n, action, Status.PROVED, share) for n in targets if n in claims
                ]
                return done + proved, []
            split = [self._alone(action, n, -lit, n in claims) for n, lit in targets.items()]
        finally:
            self.solver.pop()
        cells = [o for o, _ in split if o.claim in claims]
        return done + cells, [failure for _, failure in split if failure]

    def _alone(
        self, action: str, name: str, bad: Lit, is_claim: bool
    ) -> tuple[Obligation, Failure | None]:
        start = time.perf_counter()
        query = self.circuit.z3(bad)
        verdict = self.solver.check(query)
        seconds = time.perf_counter() - start
        if verdict == z3.unsat:
            return Obligation(name, action, Status.PROVED, seconds), None
        if verdict == z3.unknown:
            cell = Obligation(name, action, Status.UNKNOWN, seconds)
            return cell, Failure(cell, is_claim, query, None, None)
        state, params = self.symbols.values(self.solver.model())
        cell = Obligation(name, action, Status.COUNTEREXAMPLE, seconds)
        return cell, Failure(cell, is_claim, query, state, params)


def is_possible(machine: Machine, fixed: Mapping[str, Value]) -> bool:
    """Whether some configuration with these values satisfies the machine's assumptions."""
    symbols = Symbols(machine, fixed)
    solver = new_solver()
    solver.add(*symbols.typing)
    solver.add(*(symbols.circuit.z3(symbols.read(a)) for a in machine.assumptions))
    return bool(solver.check() != z3.unsat)


def new_solver() -> z3.Solver:
    """A solver with the limit on work that every query here has."""
    solver = z3.SimpleSolver()
    solver.set("rlimit", WORK_LIMIT)
    return solver
