"""Houdini: of many candidates, the largest set that is inductive together with the claims.

Begin with   Houdini.survivors, then Houdini.needed.
Owns         dropping what a step does not keep, many at once for each state the solver finds, and
             choosing few of the survivors that suffice for the claims.
Leaves out   where candidates come from (mine.py).

A candidate is a set of facts that should never hold together; as the bits of one int, and a state
as the bits of its facts, a broken candidate is found without the solver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import z3  # type: ignore[import-untyped]

from pglife_spec.lang.expr import Value
from pglife_spec.lang.interpret import place, take
from pglife_spec.lang.machine import Machine
from pglife_spec.prove.circuit import FALSE, TRUE, Lit
from pglife_spec.prove.induction import new_solver
from pglife_spec.prove.lemmas import Among, AtMost, Fact, Vocabulary, Zero
from pglife_spec.prove.symbolic import SymbolicStep, Symbols

Mask = int
Progress = Callable[[str], None]


class Houdini:
    """Candidates against one machine with some parameters pinned."""

    def __init__(self, machine: Machine, fixed: Mapping[str, Value], facts: Sequence[Fact]) -> None:
        self.machine = machine
        self.facts = list(facts)
        self.symbols = Symbols(machine, fixed)
        self.circuit = self.symbols.circuit
        words = Vocabulary(machine)
        self._exprs = [words.fact(f) for f in self.facts]
        self._before = [self.symbols.read(e) for e in self._exprs]
        self._steps = [(a, self.symbols.step(a)) for a in machine.actions]
        self._after = [self.symbols.read_in(step.after, self._exprs) for _, step in self._steps]
        self._claims = [self.symbols.read(c.holds) for c in machine.claims]
        self._base = [
            *self.symbols.typing,
            *(self.circuit.z3(self.symbols.read(a)) for a in machine.assumptions),
        ]
        self._bits = {self._key(fact): 1 << at for at, fact in enumerate(self.facts)}

    @staticmethod
    def _key(fact: Fact) -> tuple[str, int]:
        match fact:
            case Among(name, codes):
                (code,) = codes
                return name, code
            case AtMost():
                return repr(fact), 1
            case Zero(name):
                return name, 0
            case _:
                return fact.name, 1

    def mask_of(self, values: Mapping[str, Value]) -> Mask:
        """The single facts that hold where variables and parameters have these values."""
        mask = 0
        for name, value in values.items():
            code = place(value)
            if (name, code) in self._bits:
                mask |= self._bits[name, code]
            else:
                mask |= self._bits.get((name, min(code, 1)), 0)
        return mask

    def _clause(self, mask: Mask, lits: Sequence[Lit]) -> Lit:
        return -self.circuit.conj(lits[at] for at in bits(mask))

    def _solver(self, assumed: Iterable[Lit]) -> z3.Solver:
        solver = new_solver()
        solver.add(*self._base)
        solver.add(*(self.circuit.z3(lit) for lit in assumed if lit != TRUE))
        return solver

    def survivors(self, candidates: Iterable[Mask], progress: Progress | None = None) -> set[Mask]:
        """The candidates that hold initially and that all actions keep, together with claims."""
        active = self._initially(set(candidates))
        while True:
            count = len(active)
            assumed = [*self._claims, *(self._clause(m, self._before) for m in active)]
            solver = self._solver(assumed)
            for (action, step), after in zip(self._steps, self._after, strict=True):
                if progress:
                    progress(f"{len(active)} candidates; {action.name}")
                self._drop(solver, step, after, active)
            if len(active) == count:
                return active

    def _initially(self, active: set[Mask]) -> set[Mask]:
        init = self.circuit.conj(map(self.symbols.read, self.machine.init))
        solver = self._solver([init])
        while True:
            broken = [-self._clause(m, self._before) for m in active]
            if solver.check(self.circuit.z3(self.circuit.disj(broken))) == z3.unsat:
                return active
            state, params = self.symbols.values(solver.model())
            seen = self.mask_of({**state, **params})
            active = {m for m in active if m & seen != m}

    def _drop(
        self, solver: z3.Solver, step: SymbolicStep, after: Sequence[Lit], active: set[Mask]
    ) -> None:
        """Take out of `active` what this step does not keep."""
        if step.guard == FALSE:
            return
        moved = sum(1 << at for at, lit in enumerate(after) if lit != self._before[at])
        goals = {m: -self._clause(m, after) for m in active if m & moved}
        goals = {m: lit for m, lit in goals.items() if lit != FALSE}
        solver.push()
        solver.add(self.circuit.z3(step.guard))
        while goals:
            bad = self.circuit.disj(goals.values())
            if solver.check(self.circuit.z3(bad)) == z3.unsat:
                break
            state, params = self.symbols.values(solver.model())
            after_state = take(step.action, state, params).after
            seen = self.mask_of({**after_state, **params})
            broken = [m for m in goals if m & seen == m]
            if not broken:
                raise AssertionError(f"{step.action.name}: solver and interpreter disagree")
            active.difference_update(broken)
            for mask in broken:
                del goals[mask]
        solver.pop()

    def needed(self, pool: Iterable[Mask], progress: Progress | None = None) -> list[Mask]:
        """Few of an inductive set that are inductive by themselves and prove what it proves.

        A candidate is taken only when the solver finds a step that breaks what is wanted, from a
        state that this candidate forbids; whatever is taken is wanted from then on.
        """
        ordered = sorted(pool, key=lambda m: (m.bit_count(), m))
        taken: list[Mask] = []
        proved = [-1] * len(self._steps)
        solver = self._solver(self._claims)
        while any(count < len(taken) for count in proved):
            for at, (action, _) in enumerate(self._steps):
                if progress:
                    progress(f"{len(taken)} lemmas; {action.name}")
                while proved[at] < len(taken):
                    wanted = taken[max(proved[at], 0) :]
                    goals = [self._clause(m, self._after[at]) for m in wanted]
                    if proved[at] < 0:
                        goals += self._goals_after(at)
                    proved[at] = len(taken)
                    self._defend(solver, at, goals, ordered, taken)
        return taken

    def _goals_after(self, at: int) -> list[Lit]:
        step = self._steps[at][1]
        claims = self.symbols.read_in(step.after, [c.holds for c in self.machine.claims])
        return claims + [-lit for _, lit in step.below_zero]

    def _defend(
        self,
        solver: z3.Solver,
        at: int,
        goals: list[Lit],
        ordered: Sequence[Mask],
        taken: list[Mask],
    ) -> None:
        """Take candidates until a step keeps the goals, or those that no candidate can help."""
        guard = self._steps[at][1].guard
        goals = [lit for lit in goals if lit != TRUE]
        while goals and guard != FALSE:
            bad = self.circuit.conj((guard, -self.circuit.conj(goals)))
            if bad == FALSE or solver.check(self.circuit.z3(bad)) == z3.unsat:
                return
            model = solver.model()
            state, params = self.symbols.values(model)
            seen = self.mask_of({**state, **params})
            found = next((m for m in ordered if m & seen == m), None)
            if found is None:
                # No helper forbids this state: the final check will show it.
                goals = [g for g in goals if z3.is_true(model.eval(self.circuit.z3(g), True))]
                continue
            taken.append(found)
            solver.add(self.circuit.z3(self._clause(found, self._before)))


def bits(mask: Mask) -> Iterable[int]:
    """The places of the set bits, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
