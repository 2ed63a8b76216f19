"""Fair lassos: which cycles break a property, and which only an unfair run could take."""

from dataclasses import replace

import liveness_oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import (
    ACTIONS,
    GONE,
    PATIENT,
    PROPERTIES,
    SMALL,
    SYSTEM,
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

from pglife_spec.explore import check_properties, check_property, explore
from pglife_spec.lang.expr import ite
from pglife_spec.lang.machine import Actor, Fairness
from pglife_spec.postgres.build import build
from pglife_spec.postgres.configurations import CONFIGS
from pglife_spec.postgres.state.postmaster import EXITED
from pglife_spec.traces.trace import replay

(ENDS,) = PROPERTIES


def verdict(machine, config, prop=ENDS):
    return check_property(explore(machine, config, final=GONE), prop)


def test_a_shutdown_that_signals_all_children_ends():
    said = verdict(TOY, SMALL)
    assert said.holds
    assert said.states == 15


def test_a_patient_shutdown_waits_for_ever_for_a_client_that_stays():
    said = verdict(TOY, PATIENT)
    assert said.lasso is not None
    assert said.lasso.loop == len(said.lasso)
    assert said.lasso.moments[-1].state["clients"] == 1
    assert said.lasso.actions == (
        "start_up",
        "connect",
        "shut_down",
        "writer_ends[exit]",
        "reap_writer",
    )


def test_it_ends_where_clients_are_relied_on_to_leave():
    leaving = Fairness("clients", "clients leave", lambda a: a.name == "disconnect")
    prop = replace(ENDS, fairness=(SYSTEM, leaving))
    assert verdict(TOY, PATIENT, prop).holds


def test_without_fairness_even_an_enabled_step_may_never_come():
    said = verdict(TOY, SMALL, replace(ENDS, fairness=()))
    assert said.lasso is not None
    assert said.lasso.actions == ("start_up", "shut_down")


FLIP = action("flip", Actor.POSTMASTER, [pm == Pm.STOP], [fatal.becomes(~fatal)])


EXTRA = (
    FLIP,
    action("grow", Actor.CHILD, [clients <= 1], [clients.becomes(clients + 1)]),
    action("shrink", Actor.POSTMASTER, [clients >= 1], [clients.becomes(clients - 1)]),
    action("swap", Actor.CHILD, [clients >= 1], [clients.becomes(signalled), signalled.becomes(1)]),
    action("back", Actor.POSTMASTER, [pm == Pm.STOP, fatal], [pm.becomes(Pm.RUN)]),
    action("stay", Actor.CLIENT, [pm == Pm.STOP], [writer.becomes(Child.SIGNALLED)]),
)
"""More actions for random machines."""


def test_a_cycle_that_leaves_a_fair_action_waiting_is_no_counterexample():
    """Flipping for ever starves the rest, which is enabled all the time: not fair."""
    assert verdict(TOY.with_actions([*ACTIONS, FLIP]), SMALL).holds


def test_a_cycle_on_which_the_needed_action_is_now_and_then_disabled_is_one():
    """Weak fairness asks nothing for an action that is not enabled without a break."""
    leave = replace(ACTIONS[-1], guards=(*ACTIONS[-1].guards, fatal))
    said = verdict(TOY.with_actions([*ACTIONS[:-1], leave, FLIP]), SMALL)
    assert said.lasso is not None
    trace = said.lasso
    assert trace.loop is not None
    assert len(trace) - trace.loop == 1
    assert [m.state["pm.fatal_error"] for m in trace.moments[trace.loop :]] in (
        [False, True],
        [True, False],
    )
    assert trace.moments[trace.loop].state["writer"] is Child.ABSENT


def test_a_cycle_that_needs_the_environment_is_no_counterexample():
    """A client that comes and goes for ever is not what a server can be blamed for."""
    come = action("come", Actor.CLIENT, [pm == Pm.STOP], [fatal.becomes(~fatal)])
    leave = replace(ACTIONS[-1], guards=(*ACTIONS[-1].guards, fatal))
    said = verdict(TOY.with_actions([*ACTIONS[:-1], leave, come]), SMALL)
    assert said.lasso is not None, "at rest with the last flip missing"
    assert said.lasso.loop == len(said.lasso)


def test_a_cycle_may_have_to_visit_several_states_to_be_fair():
    """Two fair actions, disabled at different places of a ring of four states."""
    turn = action(
        "turn",
        Actor.POSTMASTER,
        [pm == Pm.STOP],
        [fatal.becomes(~fatal), clients.becomes(ite(clients == 0, 1, 0))],
    )
    end_1 = action("end_1", Actor.POSTMASTER, [pm == Pm.STOP, fatal], [pm.becomes(Pm.GONE)])
    end_2 = action("end_2", Actor.POSTMASTER, [pm == Pm.STOP, ~fatal], [pm.becomes(Pm.GONE)])
    start = action(
        "go", Actor.OPERATOR, [pm == Pm.START], [pm.becomes(Pm.STOP), writer.becomes(Child.DEAD)]
    )
    said = verdict(TOY.with_actions([start, turn, end_1, end_2]), SMALL)
    assert said.lasso is not None
    assert said.lasso.loop == 1
    assert said.lasso.actions == ("go", "turn")


def test_strong_fairness_asks_for_an_action_that_is_enabled_again_and_again():
    """The same ring as for weak fairness: now the postmaster must leave one day."""
    leave = replace(ACTIONS[-1], guards=(*ACTIONS[-1].guards, fatal))
    machine = TOY.with_actions([*ACTIONS[:-1], leave, FLIP])
    assert verdict(machine, SMALL, replace(ENDS, fairness=(replace(SYSTEM, strong=True),))).holds


def test_a_strongly_fair_cycle_may_avoid_the_states_that_enable_an_action():
    """From the ring that starves `leave` there is a way into one that never enables it."""
    rest = action("rest", Actor.POSTMASTER, [pm == Pm.STOP, clients == 0], [clients.becomes(2)])
    leave = replace(ACTIONS[-1], guards=(pm == Pm.STOP, clients == 0))
    machine = TOY.with_actions([*ACTIONS[:-1], leave, FLIP, rest])
    fair = Fairness("leave", "the parent leaves", lambda a: a.name == "leave", strong=True)
    said = verdict(machine, SMALL, replace(ENDS, fairness=(fair,)))
    assert said.lasso is not None
    assert all(m.state["clients"] > 0 for m in said.lasso.moments[said.lasso.loop :])


def test_an_incomplete_search_finds_lassos_but_proves_nothing():
    found = explore(TOY, SMALL, final=GONE, limit=12)
    said = check_property(found, ENDS)
    assert (said.lasso, said.complete, said.holds) == (None, False, False)
    found = explore(TOY, PATIENT, final=GONE, limit=25)
    assert not found.complete
    assert check_property(found, ENDS).lasso is not None


# The second algorithm.


def agree(machine, config, final=GONE):
    """Both algorithms say the same of each property; gives how many fail."""
    found = explore(machine, config, final=final, claims=[])
    said = list(check_properties(found, machine.properties))
    for one in said:
        other = liveness_oracle.check_property(found, one.prop)
        assert (one.states, one.holds) == (other.states, other.holds), one.prop.name
        if one.lasso is not None:
            assert one.lasso.loop == other.lasso.loop, one.prop.name
            assert replay(machine, config, one.lasso).explained
    return sum(not one.holds for one in said)


SOME_FAIRNESS = st.sets(st.sampled_from([a.name for a in (*ACTIONS, *EXTRA)]))
SOME_ACTIONS = st.sets(st.sampled_from(range(len(ACTIONS) + len(EXTRA))))


@given(SOME_ACTIONS, SOME_FAIRNESS, st.sampled_from([SMALL, PATIENT]))
@settings(max_examples=60, deadline=None)
def test_both_algorithms_agree_on_random_toys(left_out, fair, config):
    kept = [a for at, a in enumerate((*ACTIONS, *EXTRA)) if at not in left_out]
    prop = replace(ENDS, fairness=(Fairness("some", "they go on", lambda a: a.name in fair),))
    agree(replace(TOY, actions=tuple(kept), properties=(prop, ENDS)), config)


ASKED = (
    "every_crash_restart_ends",
    "every_fast_shutdown_ends",
    "every_recovery_ends",
    "every_start_opens_or_ends",
    "wait_dead_end_ends",
)


def test_both_algorithms_agree_on_postgres():
    """A release without its repairs: some properties hold, some fail."""
    machine, config = build(), CONFIGS["tiny-18"]
    asked = replace(machine, properties=tuple(p for p in machine.properties if p.name in ASKED))
    config = replace(
        config,
        params={**config.params, "writers": False},
        bounds={**config.bounds, "backend": 0},
    )
    assert len(asked.properties) == len(ASKED)
    assert 0 < agree(asked, config, EXITED) < len(ASKED)


def test_components_are_those_of_the_definition():
    graph = {0: [1], 1: [2], 2: [0, 3], 3: [4], 4: [3, 5], 5: [], 6: [6, 5]}
    found = liveness_oracle.components(graph, lambda s: [(0, t) for t in graph[s]])
    assert sorted(sorted(c) for c in found) == [[0, 1, 2], [3, 4], [5], [6]]
