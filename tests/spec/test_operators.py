"""Every operator and every effect through all evaluators: generated Python, recursion, Z3.

Random expressions over all sorts, in random states: the three meanings must give one value.
"""

import itertools
import random
from dataclasses import replace

import pytest
import z3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy import SMALL, TOY, Child, Pm, action, clients, fatal, limit, patient, pm, signalled, writer

from pglife_spec.lang.expr import BOOL, INT, Add, And, EnumSort, Eq, Ite, Le, Not, Or, Sub, const
from pglife_spec.lang.machine import Actor, Config, emit, when
from pglife_spec.meanings.interpret import CountBelowZeroError, take, value_of
from pglife_spec.meanings.python.program import CUT, compile_machine
from pglife_spec.meanings.smt.symbolic import Symbols

TOP = SMALL.bounds["clients"]
BOOLS = st.sampled_from([fatal, patient, const(True), const(False)])
INTS = st.one_of(st.sampled_from([clients, signalled, limit]), st.integers(-2, 3).map(const))
STATES = st.sampled_from([pm, *map(const, Pm)])
LIVES = st.sampled_from([writer, *map(const, Child)])
LEAVES = {"bool": BOOLS, "int": INTS, "pm": STATES, "child": LIVES}


@st.composite
def exprs(draw, kind, depth=4):
    """An expression of a kind, each operator as likely as the others."""
    if depth == 0 or draw(st.integers(0, 5)) == 0:
        return draw(LEAVES[kind])
    made = [_choice(draw, kind, depth)]
    if kind == "int":
        made += [operator(draw, depth) for operator in (_plus, _minus)]
    if kind == "bool":
        made += [operator(draw, depth) for operator in (_not, _and, _or, _eq, _le)]
    return draw(st.sampled_from(made)) if kind in ("int", "bool") else made[0]


def _choice(draw, kind, depth):
    return Ite(*(draw(exprs(k, depth - 1)) for k in ("bool", kind, kind)))


def _plus(draw, depth):
    return Add(draw(exprs("int", depth - 2 if depth > 1 else 0)), draw(INTS))


def _minus(draw, depth):
    return Sub(draw(INTS), draw(exprs("int", depth - 2 if depth > 1 else 0)))


def _not(draw, depth):
    return Not(draw(exprs("bool", max(0, depth - 2))))


def _and(draw, depth):
    return And(tuple(draw(st.lists(exprs("bool", max(0, depth - 2)), max_size=3))))


def _or(draw, depth):
    return Or(tuple(draw(st.lists(exprs("bool", max(0, depth - 2)), max_size=3))))


def _eq(draw, depth):
    kind = draw(st.sampled_from(sorted(LEAVES)))
    return Eq(draw(exprs(kind, max(0, depth - 2))), draw(exprs(kind, max(0, depth - 2))))


def _le(draw, depth):
    kind = draw(st.sampled_from(["int", "pm", "child"]))
    return Le(draw(exprs(kind, max(0, depth - 2))), draw(exprs(kind, max(0, depth - 2))))


VALUES = st.fixed_dictionaries(
    {
        "pm.state": st.sampled_from(Pm),
        "writer": st.sampled_from(Child),
        "pm.fatal_error": st.booleans(),
        "clients": st.integers(0, TOP),
        "clients_signalled": st.integers(0, TOP),
    }
).filter(lambda values: values["clients"] + values["clients_signalled"] <= TOP)
PARAMS = st.fixed_dictionaries({"max_connections": st.integers(1, 3), "patient": st.booleans()})
BY_NAME = {x.name: x for x in (*TOY.variables, *TOY.params)}


def pinned(symbols, values):
    """The formulas that give variables and parameters these values."""
    return [symbols.circuit.z3(symbols.read(Eq(BY_NAME[n], const(v)))) for n, v in values.items()]


def must_hold(symbols, given, lit):
    """The formula follows from what is given, and what is given can be."""
    solver = z3.Solver()
    solver.add(*symbols.typing, *given)
    assert solver.check() == z3.sat
    assert solver.check(z3.Not(symbols.circuit.z3(lit))) == z3.unsat


SLOW = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@SLOW
@given(expr=st.sampled_from(sorted(LEAVES)).flatmap(exprs), values=VALUES, params=PARAMS)
def test_an_expression_has_one_value(expr, values, params):
    meant = value_of(expr, values, params)
    program = compile_machine(TOY, replace(SMALL, params=params))
    state = program.pack(values)
    assert program.evaluate(expr)(state) == meant
    symbols = Symbols(TOY)
    is_meant = Eq(expr, const(meant))
    must_hold(symbols, pinned(symbols, values | params), symbols.read(is_meant))
    assert program.predicate(is_meant)(state)
    assert program.checks([is_meant, Not(is_meant)])(state) == 1


PLAIN = {
    "not": Not(fatal),
    "and": And((fatal, patient)),
    "and of none": And(()),
    "or": Or((fatal, patient)),
    "or of none": Or(()),
    "equal numbers": Eq(clients, signalled),
    "equal members": Eq(Ite(fatal, pm, const(Pm.RUN)), pm),
    "equal truth": Eq(fatal, patient),
    "order of numbers": Le(clients, signalled),
    "order of members": Le(pm, Ite(fatal, const(Pm.RUN), const(Pm.STOP))),
    "strict order": clients < signalled,
    "plus": Add(clients, limit),
    "minus": Sub(clients, limit),
    "choice of numbers": Ite(fatal, clients, Add(signalled, const(1))),
    "choice of members": Ite(Le(clients, signalled), writer, const(Child.DEAD)),
    "choice of truth": Ite(patient, fatal, Eq(clients, const(1))),
}


@pytest.mark.parametrize("name", PLAIN)
def test_each_operator_over_plain_variables(name):
    """All states through two evaluators; through Z3 one of each value and a few more."""
    expr, symbols = PLAIN[name], Symbols(TOY)
    domains = (Pm, Child, (False, True), range(TOP + 1), range(TOP + 1))
    rng, seen = random.Random(name), set()
    for truth in (False, True):
        params = {"max_connections": 2, "patient": truth}
        program = compile_machine(TOY, replace(SMALL, params=params))
        evaluate = program.evaluate(expr)
        for values in itertools.product(*domains):
            state = dict(zip(program.layout.by_name, values, strict=True))
            meant = value_of(expr, state, params)
            assert evaluate(program.pack(state)) == meant
            if meant not in seen or rng.random() < 0.03:
                seen.add(meant)
                lit = symbols.read(Eq(expr, const(meant)))
                must_hold(symbols, pinned(symbols, state | params), lit)
    assert len(seen) > 1 or name.endswith("of none")


def effects(depth):
    """Random effects: assignments to each kind of variable, evidence, branches of them."""
    plain = st.one_of(
        exprs("bool", 2).map(fatal.becomes),
        exprs("pm", 2).map(pm.becomes),
        exprs("child", 2).map(writer.becomes),
        st.sampled_from([clients, signalled]).flatmap(lambda v: exprs("int", 2).map(v.becomes)),
        exprs("int", 2).map(lambda e: emit("int", e)),
        exprs("pm", 2).map(lambda e: emit("pm", "is", e)),
        exprs("bool", 2).map(lambda e: emit("bool", e)),
    )
    if depth == 0:
        return st.lists(plain, max_size=3)
    branch = st.builds(when, exprs("bool", 2), effects(depth - 1), effects(depth - 1))
    return st.lists(st.one_of(plain, branch), max_size=4)


def shown(value):
    return value.name if isinstance(value, Pm | Child) else value


@SLOW
@given(then=effects(2), guards=st.lists(exprs("bool", 2), max_size=2), values=VALUES, params=PARAMS)
def test_a_step_has_one_outcome(then, guards, values, params):
    step = action("step", Actor.CHILD, guards, then)
    machine = TOY.with_actions([step])
    program = compile_machine(machine, Config("random", params, SMALL.bounds))
    state = program.pack(values)
    enabled = all(value_of(g, values, params) for g in guards)
    is_cut = program.step(0, state) == CUT
    assert program.enabled(state) == [0] * (enabled and not is_cut)
    assert (program.why_not(step, state) is None or is_cut) == enabled
    if not enabled:
        assert program.successors(state) == []
        return
    try:
        meant = take(step, values, params)
    except CountBelowZeroError:
        return
    after, evidence = program.emissions(0, state)
    assert after == program.step(0, state)
    if meant.after["clients"] + meant.after["clients_signalled"] > TOP:
        assert after == CUT
        assert program.successors(state) == []
        return
    assert program.unpack(after) == meant.after
    assert program.successors(state) == [(0, after)]
    assert evidence == [(e.what, *map(shown, e.args)) for e in meant.evidence]
    symbols = Symbols(machine)
    there = symbols.step(step)
    for lit in symbols.read_in(
        there.after, [Eq(BY_NAME[n], const(v)) for n, v in meant.after.items()]
    ):
        must_hold(symbols, pinned(symbols, values | params), lit)
    must_hold(symbols, pinned(symbols, values | params), there.guard)


def test_the_sorts_of_the_test_cover_the_language():
    assert {type(v.sort) for v in TOY.variables} == {type(BOOL), type(INT), EnumSort}
