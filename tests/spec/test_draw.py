"""Pictures of the toy machine: the right edges, their roles, and nothing on top of anything."""

import itertools
import random
import xml.etree.ElementTree as ET

import pytest
from toy import GONE, SMALL, TOY, Child, fatal, pm, writer

from pglife_spec.draw.graph import Role, View, state_graph
from pglife_spec.draw.layout import arrange
from pglife_spec.draw.svg import to_svg
from pglife_spec.draw.text import to_dot, to_mermaid
from pglife_spec.explore import explore
from pglife_spec.lang.expr import LanguageError

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def found():
    return explore(TOY, SMALL, final=GONE)


@pytest.fixture(scope="module")
def graph(found):
    return state_graph(
        found, View(pm, 'The "parent" <of all>', troubled=fatal, stimuli=("shut_down",))
    )


def test_edges_are_the_changes_of_the_variable(graph):
    assert {(e.source, e.target): dict(e.families) for e in graph.edges} == {
        ("START", "RUN"): {"start_up": 3},
        ("RUN", "START"): {"reap_writer": 3},
        ("RUN", "STOP"): {"shut_down": 6},
        ("STOP", "GONE"): {"leave": 2},
    }
    assert sum(graph.nodes.values()) == 26
    assert graph.start == ("START",)


def test_roles_tell_the_normal_path_from_what_follows_a_crash(graph):
    assert graph.edge("STOP", "GONE").role is Role.NORMAL
    assert graph.edge("RUN", "START").role is Role.CRASH
    assert graph.roles["STOP"] is Role.NORMAL


def test_a_way_not_on_the_normal_path_is_other(found):
    graph = state_graph(found, View(writer, "writer", troubled=fatal, stimuli=("shut_down",)))
    roles = {(e.source, e.target): e.role for e in graph.edges}
    assert roles == {
        ("ABSENT", "RUNNING"): Role.NORMAL,
        ("RUNNING", "TOLD"): Role.NORMAL,
        ("RUNNING", "DEAD"): Role.CRASH,
        ("TOLD", "DEAD"): Role.NORMAL,
        ("DEAD", "ABSENT"): Role.NORMAL,
    }
    idle = state_graph(found, View(writer, "writer", troubled=fatal))
    assert idle.edge("TOLD", "DEAD").role is Role.OTHER


def test_evidence_shows_what_a_step_passes_through(found):
    """The parent's evidence has one value a line; the edges follow them."""
    graph = state_graph(found, View(pm, "pm", passed="pmstate"))
    assert [(e.source, e.target) for e in graph.edges] == [
        ("START", "RUN"),
        ("RUN", "START"),
        ("RUN", "STOP"),
        ("STOP", "GONE"),
    ]


def test_how_a_process_left_is_a_node_of_its_own(found):
    graph = state_graph(found, View(writer, "writer", left=pm))
    assert graph.ends == {"RUN", "STOP", "GONE"}


def test_only_enums_can_be_drawn(found):
    with pytest.raises(LanguageError, match="not of an enum"):
        state_graph(found, View(fatal, "fatal"))


def test_an_edge_is_labelled_with_its_commonest_family(graph):
    edge = graph.edge("RUN", "STOP")
    edge.families.update({"other_way": 2, "third": 1})
    assert edge.label == "shut down +2"
    assert edge.story == "shut_down (6), other_way (2), third (1)"
    for family in ("other_way", "third"):
        del edge.families[family]


def test_svg_is_well_formed_and_shows_every_node_and_edge(graph):
    root = ET.fromstring(to_svg(graph))
    texts = {t.text for t in root.iter(f"{SVG}text")}
    assert set(graph.nodes) | {e.label for e in graph.edges} <= texts
    assert graph.title in texts
    lines = [p for p in root.iter(f"{SVG}path") if p.find(f"{SVG}title") is not None]
    assert len(lines) == len(graph.edges)
    assert to_svg(graph) == to_svg(graph)


def test_mermaid_and_dot_have_every_edge(graph):
    mermaid, dot = to_mermaid(graph), to_dot(graph)
    assert mermaid.count("-->") + mermaid.count("==>") == len(graph.edges)
    assert '    n1 -->|"reap writer"| n0' in mermaid.splitlines()
    assert dot.count(" -> ") == len(graph.edges)
    assert dot.startswith('digraph "The \\"parent\\" <of all>" {')
    assert dot.rstrip().endswith("}")


def boxes(page, sizes, labels):
    placed = zip([*page.nodes, *page.labels], [*sizes, *labels], strict=True)
    return [(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for (x, y), (w, h) in placed]


@pytest.mark.parametrize("seed", range(8))
def test_nodes_and_labels_never_overlap_and_stay_on_the_page(seed):
    rng = random.Random(seed)
    count = rng.randrange(2, 12)
    sizes = [(rng.uniform(40, 200), 34) for _ in range(count)]
    pairs = list(itertools.permutations(range(count), 2))
    chosen = rng.sample(pairs, min(len(pairs), 2 * count))
    edges = [(a, b, (rng.uniform(30, 180), 18)) for a, b in chosen]
    page = arrange(sizes, edges)
    placed = boxes(page, sizes, [size for _, _, size in edges])
    for left, top, right, bottom in placed:
        assert 0 <= left < right <= page.width
        assert 0 <= top < bottom <= page.height
    for one, two in itertools.combinations(placed, 2):
        assert one[2] <= two[0] or two[2] <= one[0] or one[3] <= two[1] or two[3] <= one[1]


def test_a_route_runs_from_its_source_to_its_target():
    page = arrange([(80, 34)] * 3, [(0, 1, (50, 18)), (2, 0, (50, 18)), (1, 2, (50, 18))])
    down, up, _ = page.routes
    assert down[0][1] == page.nodes[0][1] + 17
    assert down[-1][1] == page.nodes[1][1] - 17
    assert up[0][1] == page.nodes[2][1] - 17
    assert up[-1][1] == page.nodes[0][1] + 17


def test_a_node_without_edges_is_placed_too():
    page = arrange([(80, 34)] * 3, [(0, 1, (50, 18))])
    assert len({*page.nodes}) == 3


def test_the_child_enum_is_fully_drawn(found):
    graph = state_graph(found, View(writer, "writer"))
    assert set(graph.nodes) == {m.name for m in Child}
