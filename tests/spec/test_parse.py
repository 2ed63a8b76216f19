"""Expressions as text: what `show` prints is read back, and mistakes are one line with a column."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import TOY, Child, Pm, clients, fatal, limit, patient, pm, signalled, writer

from pglife_spec.lang.expr import (
    Add,
    And,
    EnumSort,
    Eq,
    Expr,
    Ite,
    Le,
    Not,
    Or,
    Sub,
    Var,
    const,
    show,
)
from pglife_spec.lang.parse import ParseError, parse
from pglife_spec.meanings.interpret import value_of
from pglife_spec.postgres.build import build

OTHER = Var("other", EnumSort(Pm))
MACHINE = replace(TOY, variables=(*TOY.variables, OTHER))


def enums(depth: int) -> st.SearchStrategy[Expr]:
    """Of two enums: one side of a comparison at least is a variable."""
    plain = st.sampled_from([pm, OTHER])
    if depth == 0:
        return plain
    return plain | st.builds(Ite, bools(depth - 1), plain, st.sampled_from(Pm).map(const))


def ints(depth: int) -> st.SearchStrategy[Expr]:
    plain = st.sampled_from([clients, signalled, limit]) | st.integers(-2, 9).map(const)
    if depth == 0:
        return plain
    part = ints(depth - 1)
    both = st.builds(Add, part, part) | st.builds(Sub, part, part)
    return plain | both | st.builds(Ite, bools(depth - 1), part, part)


def bools(depth: int) -> st.SearchStrategy[Expr]:
    plain = st.sampled_from([fatal, patient, const(True), const(False)])
    if depth == 0:
        return plain
    part, enum_, int_ = bools(depth - 1), enums(depth - 1), ints(depth - 1)
    some = st.lists(part, max_size=3).map(tuple)
    return st.one_of(
        plain,
        st.builds(Not, part),
        st.builds(And, some),
        st.builds(Or, some),
        st.builds(Eq, part, part),
        st.builds(Eq, enum_, enum_ | st.sampled_from(Pm).map(const)),
        st.builds(Le, st.sampled_from(Child).map(const), st.just(writer)),
        st.builds(Eq, int_, int_),
        st.builds(Le, int_, int_),
        st.builds(Ite, part, part, part),
    )


STATES = [
    {
        "pm.state": a,
        "other": b,
        "writer": c,
        "pm.fatal_error": f,
        "clients": n,
        "clients_signalled": k,
    }
    for a, b, c, f, (n, k) in itertools.product(
        (Pm.RUN, Pm.STOP), (Pm.RUN, Pm.GONE), (Child.ABSENT, Child.DEAD), (True, False), [(0, 2)]
    )
]


@given(bools(3))
def test_what_is_shown_is_read_back_with_the_same_meaning(expr: Expr) -> None:
    read = parse(show(expr), MACHINE)
    assert show(parse(show(read), MACHINE)) == show(read)
    for state in STATES:
        params = {"max_connections": 2, "patient": state["pm.fatal_error"]}
        assert value_of(read, state, params) == value_of(expr, state, params)


def test_every_condition_of_postgres_is_read_back_as_it_is_shown() -> None:
    model = build()
    exprs = [g for a in model.actions for g in a.guards]
    exprs += [e for c in model.claims for e in (c.holds, c.reaches)]
    exprs += [e for p in model.properties for e in (p.given, p.then)]
    assert len(exprs) > 300
    assert [t for t in map(show, exprs) if show(parse(t, model)) != t] == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("pm.state != RUN", "not (pm.state = RUN)"),
        ("clients > 1", "not (clients <= 1)"),
        ("1 < clients + 1", "not (clients + 1 <= 1)"),
        ("clients >= 1", "1 <= clients"),
        ("pm.state in {RUN, STOP}", "pm.state = RUN or pm.state = STOP"),
        ("patient -> pm.state = RUN", "not patient or pm.state = RUN"),
        ("not not patient and true", "patient"),
        ("DEAD = writer or patient and pm.fatal_error", "DEAD = writer or (patient and "),
    ],
    ids=str,
)
def test_people_may_write_more_than_is_shown(text: str, shown: str) -> None:
    assert show(parse(text, TOY)).startswith(shown)


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("clientz = 1", 1, "no variable or parameter 'clientz'; nearest: clients"),
        ("patient and pm.state = RAN", 24, "no value 'RAN' of Pm; nearest: RUN"),
        ("pm.state = ", 12, "expected a name or a number, got the end"),
        ("pm.state = 3", 12, "expected Pm, got Int: 3"),
        ("pm.state", 1, "expected Bool, got Pm: pm.state"),
        ("RUN = RUN and DEAD = 1", 22, "expected Child, got Int: 1"),
        ("patient) or", 8, "expected the end, got ')'"),
        ("(patient", 9, "expected ')', got the end"),
        ("patient & patient", 9, "unexpected '&'"),
        ("patient <= patient", 9, "Booleans have no order"),
        ("clients + patient = 1", 11, "expected Int, got Bool: patient"),
        ("walrus", 1, "no variable or parameter 'walrus'"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_with_its_column(text: str, column: int, says: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(text, TOY)
    assert str(caught.value).startswith(f"{text!r}, column {column}: {says}")
    assert "\n" not in str(caught.value)
