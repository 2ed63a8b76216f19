"""ITF files: what is written can be read, by others too, and replay explains what is wrong."""

import json
from dataclasses import replace

import pytest
from toy import GONE, PATIENT, PROPERTIES, SMALL, TOY, Child, Pm

from pglife_spec.explore import check_property, explore
from pglife_spec.traces.trace import Moment, TraceError, read_itf, replay, to_itf, write_itf


@pytest.fixture(scope="module")
def trace():
    found = explore(TOY, SMALL, final=GONE)
    return found.trace_to(found.witnessed["gone_means_alone"], "the way out")


def test_a_file_is_itf(trace):
    data = to_itf(trace)
    assert data["#meta"]["format"] == "ITF"
    assert data["vars"] == [v.name for v in TOY.variables]
    assert data["states"][0] == {
        "#meta": {"index": 0},
        "pm.state": "START",
        "writer": "ABSENT",
        "pm.fatal_error": False,
        "clients": 0,
        "clients_signalled": 0,
    }
    assert data["states"][1]["#meta"] == {
        "index": 1,
        "action": "start_up",
        "evidence": [["fork", "writer"], ["pmstate", "RUN"]],
    }


def test_what_is_written_is_read_back(trace, tmp_path):
    path = tmp_path / "out.itf.json"
    write_itf(trace, path)
    assert json.loads(path.read_text()) == to_itf(trace)
    assert read_itf(path, TOY) == trace


def test_a_lasso_keeps_its_loop(tmp_path):
    lasso = check_property(explore(TOY, PATIENT, final=GONE), PROPERTIES[0]).lasso
    path = tmp_path / "lasso.itf.json"
    write_itf(lasso, path)
    assert read_itf(path, TOY) == lasso
    assert replay(TOY, PATIENT, lasso).explained


def test_big_integers_are_written_as_apalache_does(trace, tmp_path):
    big = replace(trace, moments=(Moment({"clients": 2**60}), Moment({"clients": 1})))
    data = to_itf(big)
    assert [s["clients"] for s in data["states"]] == [{"#bigint": str(2**60)}, 1]
    path = tmp_path / "big.itf.json"
    write_itf(big, path)
    assert read_itf(path, TOY).moments == big.moments


def test_replay_explains_a_trace_of_the_machine(trace):
    said = replay(TOY, SMALL, trace)
    assert said.explained
    assert said.trace.moments == trace.moments


def test_replay_names_the_false_guard_of_the_first_impossible_step(trace):
    moments = list(trace.moments)
    moments[2] = replace(moments[2], action="leave")
    said = replay(TOY, SMALL, replace(trace, moments=tuple(moments)))
    assert said.failed_at == 2
    assert said.reason == "leave is impossible: pm.state = STOP is false where pm.state = RUN"
    assert len(said.trace.moments) == 2


def test_replay_says_what_an_action_gives_instead(trace):
    wrong = Moment(dict(trace.moments[1].state) | {"writer": Child.DEAD}, "start_up")
    said = replay(TOY, SMALL, replace(trace, moments=(trace.moments[0], wrong)))
    assert said.reason == "start_up gives writer = RUNNING and not DEAD"


def test_replay_finds_actions_and_values_that_a_trace_leaves_out(trace):
    seen = [Moment({"pm.state": m.state["pm.state"]}) for m in trace.moments]
    said = replay(TOY, SMALL, replace(trace, moments=tuple(seen)))
    assert said.explained
    assert len(said.trace.actions) == len(trace)


def test_replay_says_that_no_action_leads_there(trace):
    seen = (Moment({"pm.state": Pm.START}), Moment({"pm.state": Pm.GONE}))
    said = replay(TOY, SMALL, replace(trace, moments=seen))
    assert said.failed_at == 1
    assert said.reason == ("no action leads there: start_up gives pm.state = RUN and not GONE")


def test_replay_refuses_a_wrong_start_and_an_unknown_action(trace):
    seen = (Moment({"pm.state": Pm.GONE}),)
    assert replay(TOY, SMALL, replace(trace, moments=seen)).failed_at == 0
    unknown = (trace.moments[0], Moment({}, "explode"))
    said = replay(TOY, SMALL, replace(trace, moments=unknown))
    assert said.reason == "the machine has no action 'explode'"


def test_replay_refuses_a_loop_that_does_not_close(trace):
    said = replay(TOY, SMALL, replace(trace, loop=0))
    assert said.reason == "no action leads from the last state back to state 0"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "is not an ITF trace"),
        ('{"states": []}', "has no states"),
        ('{"states": [{"nonsense": 1}]}', "the machine has no 'nonsense'"),
        ('{"states": [{"pm.state": "LOST"}]}', "state 0: pm.state takes Pm, got 'LOST'"),
        ('{"states": [{"clients": true}]}', "clients takes Int, got True"),
        ('{"states": [{}], "loop": 3}', "loop must be the index of a state"),
        ('{"states": [3]}', "expected an object"),
    ],
)
def test_bad_files_are_refused_with_a_reason(tmp_path, text, says):
    path = tmp_path / "bad.itf.json"
    path.write_text(text)
    with pytest.raises(TraceError, match=says):
        read_itf(path, TOY)
