"""Generated Python: steps, successors, evidence and explanations on the toy machine."""

import random
from dataclasses import replace

import pytest
from toy import (
    ACTIONS,
    PATIENT,
    SMALL,
    TOY,
    Child,
    Pm,
    action,
    clients,
    fatal,
    pm,
    signalled,
    writer,
)

from pglife_spec.lang.expr import LanguageError, Var, const, ite
from pglife_spec.lang.machine import Actor, Config, emit, when
from pglife_spec.meanings.python.program import CUT, DISABLED, compile_machine

PROGRAM = compile_machine(TOY, SMALL)
START = PROGRAM.initial[0]


def state(**more):
    values = dict(PROGRAM.unpack(START))
    values |= {k.replace("__", "."): v for k, v in more.items()}
    return PROGRAM.pack(values)


def test_one_initial_state_is_found_from_its_conditions():
    assert PROGRAM.initial == (state(),)
    assert PROGRAM.unpack(START)["pm.state"] is Pm.START


def test_initial_states_are_enumerated_where_conditions_leave_a_choice():
    init = (
        pm == Pm.START,
        (writer == Child.ABSENT) | (writer == Child.DEAD),
        clients + signalled == 2,
    )
    program = compile_machine(replace(TOY, init=init), SMALL)
    assert len(program.initial) == 2 * 2 * 3
    check = program.predicate(init[1] & init[2])
    assert all(check(s) for s in program.initial)


def test_packing_is_undone_by_unpacking():
    values = {
        "pm.state": Pm.STOP,
        "writer": Child.SIGNALLED,
        "pm.fatal_error": True,
        "clients": 1,
        "clients_signalled": 2,
    }
    assert PROGRAM.unpack(PROGRAM.pack(values)) == values


@pytest.mark.parametrize(
    ("name", "value"),
    [("clients", 3), ("clients", -1), ("clients", True), ("pm.state", 1), ("writer", Pm.RUN)],
)
def test_values_that_do_not_fit_are_refused(name, value):
    with pytest.raises(LanguageError, match=name.replace(".", r"\.")):
        PROGRAM.pack(PROGRAM.unpack(START) | {name: value})


def test_a_step_changes_only_what_effects_mention():
    after = PROGRAM.step("shut_down", state(pm__state=Pm.RUN, writer=Child.RUNNING, clients=2))
    assert PROGRAM.unpack(after) == {
        "pm.state": Pm.STOP,
        "writer": Child.SIGNALLED,
        "pm.fatal_error": False,
        "clients": 0,
        "clients_signalled": 2,
    }


def test_a_disabled_action_names_its_first_false_guard():
    assert PROGRAM.step("connect", START) == DISABLED
    assert PROGRAM.why_not("connect", START) == "pm.state = RUN is false where pm.state = START"
    full = state(pm__state=Pm.RUN, clients=2)
    assert PROGRAM.step("connect", full) == DISABLED
    reason = PROGRAM.why_not("connect", full)
    assert reason is not None
    assert reason.endswith("clients = 2, clients_signalled = 0, max_connections = 2")


def test_a_step_out_of_bounds_is_cut_and_counted():
    program = compile_machine(TOY, replace(SMALL, params={"max_connections": 9, "patient": False}))
    full = state(pm__state=Pm.RUN, clients=2)
    assert program.step("connect", full) == CUT
    assert program.emissions("connect", full) == (CUT, [])
    assert program.why_not("connect", full) == "there would be more than the bound"
    index = program.index("connect")
    assert index not in [i for i, _ in program.successors(full)]
    assert index in program.enabled(full)
    assert program.cuts[index] >= 3
    assert program.underflows == {}


def test_counters_that_share_a_bound_are_limited_together():
    program = compile_machine(TOY, replace(SMALL, params={"max_connections": 9, "patient": False}))
    assert program.step("connect", state(pm__state=Pm.RUN, clients=1, clients_signalled=1)) == CUT
    both = state(pm__state=Pm.RUN, clients=1, clients_signalled=1)
    assert program.unpack(program.step("shut_down", both))["clients_signalled"] == 2


def test_a_step_of_the_server_that_is_cut_is_not_enabled():
    grow = action("grow", Actor.CHILD, [], [clients.becomes(clients + 1)])
    program = compile_machine(TOY.with_actions([*ACTIONS, grow]), SMALL)
    full = state(pm__state=Pm.RUN, clients=2)
    assert program.index("grow") not in program.enabled(full)


def test_a_counter_below_zero_is_kept_apart_from_cuts():
    wrong = action("lose_client", Actor.FAULT, [], [clients.becomes(clients - 1)])
    program = compile_machine(TOY.with_actions([*ACTIONS, wrong]), SMALL)
    assert "lose_client" not in {program.actions[i].name for i, _ in program.successors(START)}
    assert program.underflows == {len(ACTIONS): START}


def test_evidence_names_members_and_is_read_at_its_point_of_the_step():
    after, evidence = PROGRAM.emissions(
        "shut_down", state(pm__state=Pm.RUN, writer=Child.RUNNING, clients=1)
    )
    assert PROGRAM.unpack(after)["writer"] is Child.SIGNALLED
    assert evidence == [("signal", "clients"), ("signal", "writer", "SIGNALLED")]
    _, evidence = PROGRAM.emissions("connect", state(pm__state=Pm.RUN))
    assert evidence == [("count", 1, False)]


def test_actions_that_parameters_rule_out_are_kept_as_disabled():
    never = action("never", Actor.CLIENT, [TOY.params[1]], [clients.becomes(0)])
    machine = TOY.with_actions([*ACTIONS, never])
    assert compile_machine(machine, SMALL).disabled == (len(ACTIONS),)
    assert compile_machine(machine, PATIENT).disabled == ()
    assert compile_machine(machine, SMALL).step("never", START) == DISABLED


def reachable(program):
    seen, todo = set(program.initial), list(program.initial)
    while todo:
        for _, after in program.successors(todo.pop()):
            if after not in seen:
                seen.add(after)
                todo.append(after)
    return seen


@pytest.mark.parametrize("config", [SMALL, PATIENT], ids=lambda c: c.name)
def test_fused_successors_and_evidence_agree_with_single_steps(config):
    program = compile_machine(TOY, config)
    states = reachable(program)
    assert len(states) > 10
    for s in states:
        alone = [(i, program.step(i, s)) for i in range(len(program.actions))]
        assert sorted(program.successors(s)) == [(i, t) for i, t in alone if t >= 0]
        assert program.enabled(s) == [i for i, t in alone if t != DISABLED]
        assert [program.emissions(i, s)[0] for i, _ in alone] == [t for _, t in alone]


def test_fused_checks_agree_with_single_predicates():
    exprs = [pm == Pm.RUN, clients >= 1, ~fatal, const(True), const(False), clients <= signalled]
    checks = PROGRAM.checks(exprs)
    single = [PROGRAM.predicate(e) for e in exprs]
    for s in reachable(PROGRAM):
        assert checks(s) == sum(p(s) << k for k, p in enumerate(single))


def test_evaluate_gives_members_numbers_and_truth():
    s = state(writer=Child.DEAD, clients=2)
    assert PROGRAM.evaluate(writer)(s) is Child.DEAD
    assert PROGRAM.evaluate(clients + 5)(s) == 7
    assert PROGRAM.evaluate(writer == Child.DEAD)(s) is True
    assert PROGRAM.evaluate(ite(fatal, Pm.RUN, Pm.STOP))(s) is Pm.STOP


def test_effects_see_what_those_before_them_have_done():
    swap = action(
        "juggle",
        Actor.CLIENT,
        [signalled == 1],
        [
            clients.becomes(signalled),
            signalled.becomes(clients + 1),
            when(
                signalled == 2,
                [clients.becomes(0), emit("count", clients, signalled)],
                fatal.becomes(True),
            ),
            when(fatal, signalled.becomes(0)),
        ],
    )
    program = compile_machine(TOY.with_actions([swap]), SMALL)
    before = state(clients_signalled=1)
    after, evidence = program.emissions(0, before)
    assert program.unpack(after) == program.unpack(before) | {"clients": 0, "clients_signalled": 2}
    assert evidence == [("count", 0, 2)]
    assert program.successors(before) == [(0, after)]


def test_names_of_the_machine_never_reach_the_source():
    odd = Var("x = __import__('os')\n", clients.sort, bound="clients")
    machine = replace(
        TOY,
        variables=(*TOY.variables, odd),
        init=(*TOY.init, odd == 0),
        actions=(
            action("'); y", Actor.CLIENT, [], [odd.becomes(odd + 1), emit('"', "')\n", odd)]),
        ),
    )
    program = compile_machine(machine, SMALL)
    assert program.emissions(0, program.initial[0])[1] == [('"', "')\n", 1)]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (Config("bad", {"max_connections": 2}, {"clients": 2}), "has no value for patient"),
        (Config("bad", {"max_connections": 0, "patient": True}, {"clients": 2}), "assumption"),
        (Config("bad", {"max_connections": 2, "patient": True}), "has no bound clients"),
        (Config("bad", {"max_connections": True, "patient": True}, {"clients": 2}), "takes Int"),
        (Config("bad", {**SMALL.params, "extra": 1}, {"clients": 2}), "no such parameter: extra"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_configuration_that_does_not_fit_is_refused(config, says):
    with pytest.raises(LanguageError, match=says):
        compile_machine(TOY, config)


def test_many_variables_spread_over_several_words():
    extra = tuple(Var(f"x{i}", clients.sort) for i in range(60))
    raise_all = action(
        "raise_all",
        Actor.CLIENT,
        [extra[0] == 0],
        [v.becomes(v + 1 + (i % 2)) for i, v in enumerate(extra)],
    )
    machine = replace(
        TOY,
        variables=(*TOY.variables, *extra),
        init=(*TOY.init, *(v == 0 for v in extra)),
        actions=(*TOY.actions, raise_all),
    )
    program = compile_machine(machine, SMALL)
    after = program.step("raise_all", program.initial[0])
    values = program.unpack(after)
    assert [values[v.name] for v in extra] == [1 + i % 2 for i in range(60)]
    rng = random.Random(7)
    drawn = values | {v.name: rng.randrange(3) for v in extra}
    assert program.unpack(program.pack(drawn)) == drawn
