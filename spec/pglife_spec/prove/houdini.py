"""Houdini on demand: of many candidates, few that are inductive together with the claims.

Begin with Houdini.suffice(), which takes the candidates that a proof needs and drops those that
some step does not keep.

A candidate is a set of facts that should never hold together; as the bits of one int, and a state
as the bits of its facts, a broken candidate is found without the solver.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

import z3  # type: ignore[import-untyped]

from pglife_spec.lang.expr import Value
from pglife_spec.lang.machine import Machine
from pglife_spec.meanings.interpret import CountBelowZeroError, place, take
from pglife_spec.meanings.smt.circuit import FALSE, TRUE, Lit
from pglife_spec.meanings.smt.symbolic import Symbols
from pglife_spec.prove.induction import new_solver
from pglife_spec.prove.lemmas import Among, Vocabulary, Zero
from pglife_spec.prove.sample import Single

Mask = int
Progress = Callable[[str], None]


class Houdini:
    """Candidates against one machine with some parameters pinned.

    A candidate is taken only when the solver finds a step that breaks what is wanted, from a state
    that this candidate forbids; from then on it is wanted too. Where no candidate forbids the
    state, all that the step breaks are dropped, as in Houdini, and what was shown with their help
    must be shown again.

    Args:
        machine: the machine.
        fixed: parameters with one value.
        facts: what the bits of a candidate stand for.
        candidates: the best first; of those that would serve, the first is taken.
    """

    def __init__(
        self,
        machine: Machine,
        fixed: Mapping[str, Value],
        facts: Sequence[Single],
        candidates: Iterable[Mask],
    ) -> None:
        self._machine = machine
        self._symbols = Symbols(machine, fixed)
        self._circuit = self._symbols.circuit
        words = Vocabulary(machine)
        exprs = [words.fact(fact) for fact in facts]
        self._bits = {_key(fact): 1 << at for at, fact in enumerate(facts)}
        self._before = [self._symbols.read(expr) for expr in exprs]
        self._steps = [self._symbols.step(action) for action in machine.actions]
        self._after = [self._symbols.read_in(step.after, exprs) for step in self._steps]
        self._solver = new_solver()
        self._solver.add(*self._symbols.typing)
        self._assume(self._symbols.read(a) for a in machine.assumptions)
        pool = self._initially(list(candidates))
        self._assume(self._symbols.read(c.holds) for c in machine.claims)
        self._pool = pool
        self._taken: dict[Mask, z3.BoolRef] = {}
        everything = range(len(self._steps))
        # For each action: what it is known to keep, with whose help, and which claims are lost.
        self._kept: list[set[Mask]] = [set() for _ in everything]
        self._claims_kept = [False for _ in everything]
        self._helpers: list[set[Mask]] = [set() for _ in everything]
        self._lost: list[set[Lit]] = [set() for _ in everything]

    def _assume(self, lits: Iterable[Lit]) -> None:
        self._solver.add(*(self._circuit.z3(lit) for lit in lits if lit != TRUE))

    def _initially(self, pool: list[Mask]) -> list[Mask]:
        init = self._circuit.z3(self._circuit.conj(map(self._symbols.read, self._machine.init)))
        while True:
            some = self._circuit.disj(-self._clause(m, self._before) for m in pool)
            if self._solver.check(init, self._circuit.z3(some)) == z3.unsat:
                return pool
            state, params = self._symbols.values(self._solver.model())
            seen = self._mask_of({**state, **params})
            pool = [m for m in pool if m & seen != m]

    def _mask_of(self, values: Mapping[str, Value]) -> Mask:
        """The facts that hold where variables and parameters have these values."""
        mask = 0
        for name, value in values.items():
            code = place(value)
            exact = self._bits.get((name, code))
            mask |= self._bits.get((name, min(code, 1)), 0) if exact is None else exact
        return mask

    def _clause(self, mask: Mask, lits: Sequence[Lit]) -> Lit:
        return -self._circuit.conj(lits[at] for at in bits(mask))

    def settle(self, masks: Iterable[Mask], progress: Progress | None = None) -> list[Mask]:
        """Find which of these hold together, and rely on them from then on.

        Plain Houdini: whatever a step breaks is set aside, until every step keeps what is left.
        """
        small = self._initially(list(masks))
        count = -1
        while count != len(small):
            count = len(small)
            self._solver.push()
            self._assume(self._clause(m, self._before) for m in small)
            for at, step in enumerate(self._steps):
                if progress:
                    progress(f"{len(small)} lemmas may hold; {step.action.name}")
                small = self._kept_by(at, small)
            self._solver.pop()
        self._assume(self._clause(m, self._before) for m in small)
        settled = set(small)
        self._pool = [m for m in self._pool if m not in settled]
        return small

    def _kept_by(self, at: int, masks: list[Mask]) -> list[Mask]:
        """Those that a step keeps, where all that the solver knows holds before it."""
        step, after = self._steps[at], self._after[at]
        moved = sum(1 << bit for bit, lit in enumerate(after) if lit != self._before[bit])
        goals = {m: self._clause(m, after) for m in masks if m & moved}
        while True:
            bad = self._circuit.conj((step.guard, -self._circuit.conj(goals.values())))
            if bad == FALSE or self._solver.check(self._circuit.z3(bad)) == z3.unsat:
                return masks
            state, params = self._symbols.values(self._solver.model())
            seen = self._mask_of({**take(step.action, state, params).after, **params})
            masks = [m for m in masks if m & seen != m]
            goals = {m: lit for m, lit in goals.items() if m & seen != m}

    def suffice(self, progress: Progress | None = None) -> list[Mask]:
        """Few candidates that are inductive together with the claims, and prove those they can."""
        while not all(map(self._is_done, range(len(self._steps)))):
            for at, step in enumerate(self._steps):
                if progress:
                    progress(f"{len(self._taken)} of {len(self._pool)} lemmas; {step.action.name}")
                if not self._is_done(at):
                    self._defend(at)
        return list(self._taken)

    def _is_done(self, at: int) -> bool:
        return self._claims_kept[at] and self._kept[at] >= self._taken.keys()

    def _defend(self, at: int) -> None:
        """Take candidates until the step keeps what is wanted; drop those it cannot keep."""
        step = self._steps[at]
        claims = set(self._symbols.read_in(step.after, [c.holds for c in self._machine.claims]))
        claims |= {-lit for _, lit in step.below_zero}
        while not self._is_done(at):
            wanted = {m: self._clause(m, self._after[at]) for m in self._taken}
            lits = [lit for m, lit in wanted.items() if m not in self._kept[at]]
            if not self._claims_kept[at]:
                lits += claims - self._lost[at]
            bad = self._circuit.conj((step.guard, -self._circuit.conj(lits)))
            query = self._circuit.z3(bad)
            if bad == FALSE or self._solver.check(*self._taken.values(), query) == z3.unsat:
                self._note(at, bad == FALSE)
                continue
            model = self._solver.model()
            state, params = self._symbols.values(model)
            seen = self._mask_of({**state, **params})
            helper = next((m for m in self._pool if m & seen == m), None)
            if helper is not None:
                self._take(helper)
                continue
            # Where a count falls below zero there is no state after; the claims include that.
            with suppress(CountBelowZeroError):
                self._drop(self._mask_of({**take(step.action, state, params).after, **params}))
            self._lost[at] |= {
                lit for lit in claims if z3.is_false(model.eval(self._circuit.z3(lit), True))
            }

    def _note(self, at: int, trivial: bool) -> None:
        self._kept[at] = set(self._taken)
        self._claims_kept[at] = True
        if not trivial:
            # By their numbers: to print a whole query takes longer than to decide it.
            core = {part.get_id() for part in self._solver.unsat_core()}
            self._helpers[at] |= {m for m, chosen in self._taken.items() if chosen.get_id() in core}

    def _take(self, mask: Mask) -> None:
        chosen = z3.Bool(f"lemma {mask:x}")
        self._taken[mask] = chosen
        clause = self._circuit.z3(self._clause(mask, self._before))
        self._solver.add(z3.Implies(chosen, clause))

    def _drop(self, after: Mask) -> None:
        """Drop what a state reached from an allowed one breaks; its help no longer counts."""
        broken = {m for m in self._pool if m & after == m}
        self._pool = [m for m in self._pool if m not in broken]
        for mask in broken & self._taken.keys():
            del self._taken[mask]
        for at, helpers in enumerate(self._helpers):
            if helpers & broken:
                self._kept[at], self._helpers[at], self._claims_kept[at] = set(), set(), False


def _key(fact: Single) -> tuple[str, int]:
    if isinstance(fact, Among):
        (code,) = fact.codes
        return fact.name, code
    return fact.name, 0 if isinstance(fact, Zero) else 1


def bits(mask: int) -> Iterable[int]:
    """The places of the set bits, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
