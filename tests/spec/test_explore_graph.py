"""The explored graph as arrays, against the steps of the machine."""

from dataclasses import replace

import pytest
from toy import ACTIONS, GONE, SMALL, TOY, Pm, action, clients, pm, signalled

from pglife_spec.explore import explore
from pglife_spec.explore.graph import CUT_STEP
from pglife_spec.lang.machine import Actor

WILD = replace(SMALL, params={"max_connections": 9, "patient": False})


@pytest.mark.parametrize("limit", [None, 4])
def test_rows_are_the_enabled_actions_of_each_state_with_their_targets(limit):
    found = explore(TOY, WILD, final=GONE, limit=limit)
    graph, program = found.graph(), found.program
    states = [graph.state(i) for i in range(len(graph))]
    assert states == list(found.space)
    assert [states[found.space.parent(i)] for i in range(len(graph))] == [
        states[p] for p in graph.parents
    ]
    assert sum(graph.levels) == len(graph)
    assert (graph.expanded == len(graph)) == found.complete
    for at, state in enumerate(states[: graph.expanded]):
        steps = graph.steps(at)
        assert [a for a, _ in steps] == program.enabled(state)
        kept = [(a, states[t]) for a, t in steps if t != CUT_STEP]
        assert kept == sorted(program.successors(state))
    assert all(graph.steps(i) == [] for i in range(graph.expanded, len(graph)))
    assert (CUT_STEP in graph.targets) == (limit is None)


def test_bits_tell_which_expressions_hold_in_each_state():
    found = explore(TOY, SMALL, final=GONE)
    exprs = [pm == Pm.RUN, clients >= 1, signalled == clients]
    checks = found.program.checks(exprs)
    assert found.bits(exprs).tolist() == [checks(s) for s in found.space]


def test_no_more_than_64_expressions_fit_in_one_word():
    found = explore(TOY.with_actions(ACTIONS[:1]), SMALL)
    with pytest.raises(ValueError, match="at most 64"):
        found.bits([GONE] * 65)


def test_a_state_without_steps_has_an_empty_row():
    idle = action("idle", Actor.CHILD, [pm == Pm.GONE], [])
    graph = explore(TOY.with_actions([idle]), SMALL).graph()
    assert (len(graph), graph.steps(0)) == (1, [])
