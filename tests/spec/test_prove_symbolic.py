"""The symbolic step says what the concrete step does, for every action of the real model."""

import random

import pytest
import z3

from pglife_spec.lang.expr import INT, EnumSort
from pglife_spec.meanings.interpret import CountBelowZeroError, false_guards, take, value_at
from pglife_spec.meanings.smt.circuit import FALSE, TRUE, Circuit, Sum, add, number
from pglife_spec.meanings.smt.symbolic import OneOf, Symbols
from pglife_spec.postgres.build import build

MACHINE = build()
STATES_AN_ACTION = 3


def some_value(sort, rng):
    if sort == INT:
        return rng.choice((0, 0, 1, 1, 2, 7))
    return value_at(sort, rng.randrange(len(sort.members) if isinstance(sort, EnumSort) else 2))


class Unknowns:
    """The machine's symbols, and states that satisfy a formula, as different as may be."""

    def __init__(self, rng):
        self.rng = rng
        self.symbols = Symbols(MACHINE)
        self.circuit = self.symbols.circuit
        self.solver = z3.SimpleSolver()
        self.solver.add(*self.symbols.typing)
        for assumption in MACHINE.assumptions:
            self.solver.add(self.circuit.z3(self.symbols.read(assumption)))

    def model(self, lit):
        """A model of a formula with as many random values as fit, a few variables at a time."""
        self.solver.push()
        self.solver.add(self.circuit.z3(lit))
        model = self.solver.model() if self.solver.check() == z3.sat else None
        declared = [*MACHINE.variables, *MACHINE.params]
        self.rng.shuffle(declared)
        for start in range(0, len(declared) if model else 0, 6):
            wish = [v == some_value(v.sort, self.rng) for v in declared[start : start + 6]]
            parts = [self.circuit.z3(self.symbols.read(part)) for part in wish]
            for some in [parts] if self.solver.check(*parts) == z3.sat else [[p] for p in parts]:
                if self.solver.check(*some) == z3.sat:
                    model = self.solver.model()
                    self.solver.add(*some)
        self.solver.pop()
        return model

    def true(self, model, lit):
        return z3.is_true(model.eval(self.circuit.z3(lit), True))

    def value(self, model, sort, term):
        if isinstance(term, Sum):
            return model.eval(self.circuit.number_of(term), True).as_long()
        if isinstance(term, OneOf):
            (code,) = [at for at, lit in enumerate(term.members) if self.true(model, lit)]
            return value_at(sort, code)
        return self.true(model, term)


@pytest.mark.parametrize("action", MACHINE.actions, ids=lambda a: a.name)
def test_a_symbolic_step_is_the_concrete_step(action):
    """In random states, most of them out of reach, and just outside the guards."""
    unknowns = Unknowns(random.Random(action.name))
    step = unknowns.symbols.step(action)
    outside = unknowns.model(-step.guard)
    if outside is not None:
        assert false_guards(action, *unknowns.symbols.values(outside))
    for _ in range(STATES_AN_ACTION):
        model = unknowns.model(step.guard)
        state, params = unknowns.symbols.values(model)
        assert not false_guards(action, state, params)
        short = any(unknowns.true(model, lit) for _, lit in step.below_zero)
        try:
            after = take(action, state, params).after
        except CountBelowZeroError:
            assert short
            continue
        assert not short
        for var in MACHINE.variables:
            assert unknowns.value(model, var.sort, step.after[var.name]) == after[var.name]


@pytest.fixture
def circuit():
    return Circuit()


def test_conjunctions_fold(circuit):
    a, b = circuit.atom(z3.Bool("a")), circuit.atom(z3.Bool("b"))
    assert circuit.conj((a, TRUE, a)) == a
    assert circuit.conj((a, -a)) == FALSE
    assert circuit.conj((a, circuit.conj((b, -a)))) == FALSE
    assert circuit.conj((a, b)) == circuit.conj((b, a))
    assert circuit.disj((a, -a)) == TRUE
    assert circuit.choose(a, TRUE, FALSE) == a


def test_no_client_left_is_a_conjunction_without_sums(circuit):
    x, y = circuit.counter("x"), circuit.counter("y")
    both = circuit.conj((circuit.is_zero(x), circuit.is_zero(y)))
    assert circuit.is_zero(add(x, y)) == both
    assert circuit.is_zero(add(add(x, y), number(1))) == FALSE
    # `not 1 <= x` and `x <= 0` are one atom.
    assert -circuit.at_most_zero(add(number(1), x, -1)) == circuit.is_zero(x)


def test_a_guarded_step_of_a_counter_keeps_to_the_counter(circuit):
    x, a = circuit.counter("x"), circuit.atom(z3.Bool("a"))
    stepped = circuit.choose_sum(a, add(x, number(1)), x)
    assert circuit.is_zero(stepped) == circuit.conj((-a, circuit.is_zero(x)))
    assert circuit.choose_sum(TRUE, x, number(0)) == x


def test_what_moves_between_counters_cancels_out_in_their_sum(circuit):
    """Some go from x to y where `a`, the rest to z where `b`; as many as before are left."""
    x, y, z = (circuit.counter(name) for name in "xyz")
    a, b = circuit.atom(z3.Bool("a")), circuit.atom(z3.Bool("b"))
    here, there = a, circuit.conj((-a, b))
    moved = {
        "x": circuit.choose_sum(circuit.disj((here, there)), number(0), x),
        "y": circuit.choose_sum(here, add(y, x), y),
        "z": circuit.choose_sum(there, add(z, x), z),
    }
    before = add(add(add(x, y), z), number(3), -1)
    after = add(add(add(moved["x"], moved["y"]), moved["z"]), number(3), -1)
    assert circuit.at_most_zero(after) == circuit.at_most_zero(before)
