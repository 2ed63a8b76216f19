"""Graphs of the toy machine: the right nodes, edges and attributes, and files that others read."""

import io
import json
from dataclasses import replace

import networkx as nx
import pytest
from toy import GONE, SMALL, TOY, Child, clients, fatal, pm, signalled, writer

from pglife_spec.explore import explore
from pglife_spec.graphs import (
    LifeView,
    Role,
    covered,
    life_graph,
    signal_graph,
    state_graph,
    to_graphml,
    to_json,
)
from pglife_spec.lang.expr import LanguageError
from pglife_spec.lang.machine import emit, when
from pglife_spec.traces.simulate import simulate

VIEW = LifeView(pm, "The parent", troubled=fatal, stimuli=("shut_down",))


@pytest.fixture(scope="module")
def found():
    return explore(TOY, SMALL, final=GONE)


@pytest.fixture(scope="module")
def graph(found):
    return life_graph(found, VIEW)


def role(graph, source, target):
    (found,) = {data["role"] for data in graph[source][target].values()}
    return found


def test_edges_are_the_changes_of_the_variable(graph):
    assert {(a, b, key): n for a, b, key, n in graph.edges(keys=True, data="count")} == {
        ("START", "RUN", "start_up"): 3,
        ("RUN", "START", "reap_writer"): 3,
        ("RUN", "STOP", "shut_down"): 6,
        ("STOP", "GONE", "leave"): 2,
    }
    assert sum(n for _, n in graph.nodes(data="states")) == 26
    assert [name for name, start in graph.nodes(data="start") if start] == ["START"]


def test_roles_tell_the_normal_path_from_what_follows_a_crash(graph):
    assert role(graph, "STOP", "GONE") is Role.NORMAL
    assert role(graph, "RUN", "START") is Role.CRASH
    assert graph.nodes["STOP"]["role"] is Role.NORMAL


def test_a_way_not_on_the_normal_path_is_other(found):
    graph = life_graph(found, LifeView(writer, "w", troubled=fatal, stimuli=("shut_down",)))
    assert {(a, b): role(graph, a, b) for a, b in graph.edges()} == {
        ("ABSENT", "RUNNING"): Role.NORMAL,
        ("RUNNING", "SIGNALLED"): Role.NORMAL,
        ("RUNNING", "DEAD"): Role.CRASH,
        ("SIGNALLED", "DEAD"): Role.NORMAL,
        ("DEAD", "ABSENT"): Role.NORMAL,
    }
    idle = life_graph(found, LifeView(writer, "w", troubled=fatal))
    assert role(idle, "SIGNALLED", "DEAD") is Role.OTHER


def test_what_the_repaired_machine_lacks_is_a_finding(found):
    """A machine without crashes stands for the repaired one: the way back to START is gone."""
    calm = TOY.with_actions([a for a in TOY.actions if a.name != "writer_ends[crash]"])
    repaired = explore(calm, SMALL, final=GONE)
    graph = life_graph(found, VIEW, repaired=repaired)
    assert role(graph, "RUN", "START") is Role.FINDING
    assert role(graph, "STOP", "GONE") is Role.NORMAL


def test_evidence_shows_what_a_step_passes_through(found):
    """The parent's evidence has one value a line; the edges follow them."""
    graph = life_graph(found, LifeView(pm, "pm", passed="pmstate"))
    assert list(dict.fromkeys(graph.edges())) == [
        ("START", "RUN"),
        ("RUN", "START"),
        ("RUN", "STOP"),
        ("STOP", "GONE"),
    ]


def test_how_a_process_ended_is_a_node_of_its_own(found):
    graph = life_graph(found, LifeView(writer, "writer", left=pm))
    assert {name for name, end in graph.nodes(data="end") if end} == {"RUN", "STOP", "GONE"}


def test_a_counted_kind_is_followed_through_its_counters(found):
    graph = life_graph(found, LifeView({"RUNNING": clients, "SIGNALLED": signalled}, "one client"))
    assert set(graph) == {"ABSENT", "RUNNING", "SIGNALLED"}
    assert graph.has_edge("ABSENT", "RUNNING", "connect")
    assert graph.has_edge("RUNNING", "SIGNALLED", "shut_down")


def test_only_enums_and_counters_have_a_life(found):
    with pytest.raises(LanguageError, match="not of an enum"):
        life_graph(found, LifeView(fatal, "fatal"))


def test_every_value_of_the_child_is_a_node(found):
    assert set(life_graph(found, LifeView(writer, "writer"))) == {m.name for m in Child}


def test_the_state_graph_has_every_state_and_step(found):
    graph = state_graph(found)
    assert (len(graph), graph.number_of_edges()) == (found.states, found.transitions)
    (first,) = (n for n, initial in graph.nodes(data="initial") if initial)
    assert graph.nodes[first]["pm.state"] == "START"
    assert graph.nodes[first]["pm.fatal_error"] is False
    assert graph.nodes[first]["clients"] == 0
    edge = next(iter(graph[first].values()))["start_up"]
    assert edge == {
        "action": "start_up",
        "family": "start_up",
        "actor": "postmaster",
        "environment": False,
    }
    assert "clients" not in state_graph(found, values=False).nodes[first]


def test_shortest_paths_of_the_state_graph_are_those_of_the_search(found):
    graph = state_graph(found, values=False)
    (first,) = found.program.initial
    lengths = nx.single_source_shortest_path_length(graph, first)
    assert lengths == dict(graph.nodes(data="depth"))


def test_a_trace_covers_the_ways_that_it_takes(graph):
    walk = simulate(TOY, SMALL, steps=60, seed=2, weights={"shut_down": 5, "writer_ends[crash]": 0})
    taken = covered(graph, VIEW, [walk])
    assert set(taken.edges()) == {("START", "RUN"), ("RUN", "STOP"), ("STOP", "GONE")}
    assert covered(graph, VIEW, []).number_of_edges() == 0


def test_evidence_and_counters_are_covered_too(found):
    walk = simulate(TOY, SMALL, steps=60, seed=2, weights={"connect": 9})
    counted = LifeView({"RUNNING": clients, "SIGNALLED": signalled}, "one client")
    for view in (LifeView(pm, "pm", passed="pmstate"), counted, LifeView(writer, "w", left=pm)):
        graph = life_graph(found, view)
        assert 0 < covered(graph, view, [walk]).number_of_edges() <= graph.number_of_edges()


def test_signals_are_read_from_the_effects_of_actions():
    """Also from effects under a condition; a signal that the machine keeps as a flag is given."""
    leave = replace(
        TOY.action("leave"), effects=(when(~fatal, emit("signal", "SIGTERM", "writer")),)
    )
    sent = [("operator", "SIGINT", "parent", "shut_down")]
    machine = TOY.with_actions([*TOY.actions[:-1], leave])
    graph = signal_graph(machine, sources={"postmaster": "parent"}, sent=sent)
    assert dict(graph["parent"]["writer"]) == {
        "SIGTERM": {"signal": "SIGTERM", "actions": ("leave",)}
    }
    assert graph.has_edge("operator", "parent", "SIGINT")
    assert dict(graph.nodes(data="actor")) == {"parent": False, "writer": False, "operator": True}


def test_graphml_is_read_back(graph):
    back = nx.read_graphml(io.BytesIO(to_graphml(graph).encode()), force_multigraph=True)
    assert set(back.edges(keys=True)) == set(graph.edges(keys=True))
    assert back.nodes["STOP"]["role"] == "normal"
    assert back.edges["RUN", "STOP", "shut_down"]["count"] == 6


def test_json_is_read_back(found, graph):
    for made in (graph, state_graph(found)):
        back = nx.node_link_graph(json.loads(to_json(made)), edges="edges")
        assert set(back.edges(keys=True)) == set(made.edges(keys=True))
        assert len(back) == len(made)
