"""Breadth-first exploration on the toy machine: exact counts, shortest traces, lint."""

from dataclasses import replace

import pytest
from toy import (
    ACTIONS,
    CLAIMS,
    GONE,
    PATIENT,
    SMALL,
    TOY,
    Child,
    Pm,
    action,
    claim,
    clients,
    fatal,
    pm,
    signalled,
    writer,
)

from pglife_spec.explore import explore
from pglife_spec.lang.expr import const, implies
from pglife_spec.lang.machine import Actor
from pglife_spec.meanings.interpret import false_guards, is_initial, take


def plain_search(machine, config):
    """All reachable states by the interpreter, as many clients as the bound."""
    top = config.bounds["clients"]
    first = {"pm.state": Pm.START, "writer": Child.ABSENT, "pm.fatal_error": False}
    first |= {"clients": 0, "clients_signalled": 0}
    assert is_initial(machine, first, config.params)
    seen, todo, steps = [first], [first], 0
    while todo:
        state = todo.pop()
        for step in machine.actions:
            if false_guards(step, state, config.params):
                continue
            after = take(step, state, config.params).after
            if after["clients"] + after["clients_signalled"] > top:
                continue
            steps += 1
            if after not in seen:
                seen.append(after)
                todo.append(after)
    return seen, steps


@pytest.mark.parametrize("config", [SMALL, PATIENT], ids=lambda c: c.name)
def test_counts_are_exact_and_equal_to_a_plain_search(config):
    found = explore(TOY, config, final=GONE)
    states, steps = plain_search(TOY, config)
    assert (found.states, found.transitions) == (len(states), steps) == (26, 46)
    assert found.levels == [1, 1, 3, 5, 7, 7, 2]
    assert {tuple(found.program.unpack(s).values()) for s in found.space} == {
        tuple(s.values()) for s in states
    }


def test_a_right_machine_has_no_violation_and_all_witnesses():
    found = explore(TOY, SMALL, final=GONE)
    assert found.ok
    assert found.complete
    assert found.missing_witnesses() == []
    assert found.finals == 2
    assert found.coverage()["connect"] == 4


def test_a_violation_has_a_shortest_trace():
    wrong = claim("never_two", implies(pm == Pm.RUN, clients <= 1), const(True))
    found = explore(TOY, SMALL, final=GONE, claims=[*CLAIMS, wrong])
    assert not found.ok
    trace = found.trace_to(found.violated["never_two"])
    assert trace.actions == ("start_up", "connect", "connect")
    assert trace.moments[-1].state["clients"] == 2
    assert trace.moments[1].evidence == (("fork", "writer"), ("pmstate", "RUN"))


def test_each_failing_claim_gets_its_own_nearest_state():
    claims = [claim(f"at_most_{n}", clients <= n, const(True)) for n in range(3)]
    found = explore(TOY, SMALL, final=GONE, claims=claims)
    depths = {name: len(found.trace_to(s)) for name, s in found.violated.items()}
    assert depths == {"at_most_0": 2, "at_most_1": 3}


def test_a_witness_that_is_never_reached_is_reported():
    hollow = claim("hollow", implies(clients == 9, fatal), clients == 9)
    found = explore(replace(TOY, claims=(*CLAIMS, hollow)), SMALL, final=GONE)
    assert found.missing_witnesses() == ["hollow"]
    assert found.program.unpack(found.witnessed["limit_is_kept"])["clients"] == 2


def test_a_stuck_state_is_a_deadlock_unless_it_is_final():
    stuck = TOY.with_actions(a for a in ACTIONS if a.name != "leave")
    found = explore(stuck, SMALL, final=GONE)
    assert len(found.deadlocks) == 2
    nearest = found.trace_to(found.deadlocks[0])
    assert nearest.moments[-1].state["pm.state"] is Pm.STOP
    assert explore(TOY, SMALL).deadlocks != []


def test_a_state_whose_only_step_is_cut_is_no_deadlock():
    grow = action("grow", Actor.CLIENT, [], [clients.becomes(clients + 1)])
    found = explore(TOY.with_actions([grow]), SMALL, claims=[])
    assert found.states == 3
    assert found.deadlocks == []
    assert found.cuts == [1]
    assert found.ok


def test_a_cut_step_of_the_server_is_an_error():
    grow = action("grow", Actor.CHILD, [], [clients.becomes(clients + 1)])
    found = explore(TOY.with_actions([grow]), SMALL, claims=[])
    assert found.wrong_cuts() == ["grow"]
    assert not found.ok


def test_a_counter_below_zero_makes_the_search_fail():
    wrong = action("lose", Actor.CLIENT, [pm == Pm.RUN], [signalled.becomes(signalled - 1)])
    found = explore(TOY.with_actions([*ACTIONS, wrong]), SMALL, final=GONE)
    assert not found.ok
    (state,) = found.underflows.values()
    assert found.trace_to(state).actions == ("start_up",)


def test_dead_actions_exclude_those_that_parameters_rule_out():
    never = action(
        "never", Actor.CHILD, [(writer == Child.SIGNALLED) & fatal & (pm == Pm.GONE)], []
    )
    ruled_out = action("ruled_out", Actor.CHILD, [TOY.params[1]], [])
    found = explore(TOY.with_actions([*ACTIONS, never, ruled_out]), SMALL, final=GONE)
    assert found.dead_actions() == ["never"]


def test_a_limit_makes_the_search_incomplete():
    found = explore(TOY, SMALL, final=GONE, limit=4)
    assert not found.complete
    assert 4 < found.states < 26


def test_stopping_at_the_first_violation_saves_the_rest():
    wrong = claim("never_one", clients == 0, const(True))
    found = explore(TOY, SMALL, claims=[wrong], stop_at_violation=True)
    assert found.states < 26
    assert len(found.trace_to(found.violated["never_one"])) == 2


def test_progress_is_reported_with_growing_numbers():
    seen = []
    explore(TOY, SMALL, final=GONE, progress=seen.append)
    assert seen
    assert seen[-1].states <= 26
