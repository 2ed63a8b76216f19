"""Pictures of the toy machine: every node and way is drawn, and nothing lies on anything."""

import itertools
import random
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import networkx as nx
import pytest
from toy import GONE, SMALL, TOY, fatal, pm

from pglife_spec.draw.arrows import arrows
from pglife_spec.draw.layout import arrange
from pglife_spec.draw.svg import to_svg
from pglife_spec.draw.text import to_dot, to_mermaid
from pglife_spec.draw.views import drawn, signals, views
from pglife_spec.explore import explore
from pglife_spec.graphs import LifeView, Role, life_graph
from pglife_spec.postgres.build import build
from pglife_spec.postgres.configurations import CONFIGS

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def graph():
    found = explore(TOY, SMALL, final=GONE)
    view = LifeView(pm, 'The "parent" <of all>', troubled=fatal, stimuli=("shut_down",))
    return life_graph(found, view)


def crowded():
    """Two nodes and an arrow that several families take."""
    made = nx.MultiDiGraph(title="Crowded")
    for name in ("A", "B"):
        made.add_node(name, states=1, start=name == "A", end=name == "B", role=Role.CRASH)
    for count, family, choices in (
        (6, "shut_down", ("fast",)),
        (5, "shut_down", ("smart",)),
        (2, "other_way", ()),
        (1, "third", ("a_very_long_choice_that_fits_no_label",)),
    ):
        action = f"{family}({', '.join(choices)})" if choices else family
        edge = {"action": action, "family": family, "choices": choices, "actor": "child"}
        made.add_edge("A", "B", key=action, **edge, count=count, role=Role.CRASH)
    return made


def test_an_arrow_is_labelled_with_its_commonest_family():
    (arrow,) = arrows(crowded())
    assert arrow.label == "shut down (fast, smart) +2"
    assert arrow.note == "other way, third"
    assert arrow.names == ["shut down (fast, smart)", "other way", "third"]
    assert arrow.counts.startswith("shut_down(fast) (6), shut_down(smart) (5), other_way (2)")


def test_svg_is_well_formed_and_shows_every_node_and_edge(graph):
    root = ET.fromstring(to_svg(graph))
    texts = {t.text for t in root.iter(f"{SVG}text")}
    assert set(graph) | {a.label for a in arrows(graph)} <= texts
    assert graph.graph["title"] in texts
    lines = [p for p in root.iter(f"{SVG}path") if p.find(f"{SVG}title") is not None]
    assert len(lines) == len(set(graph.edges()))


def test_a_picture_is_the_same_in_every_process(graph):
    """Strings hash differently in each process; the layout must not depend on it."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_draw as t;"
        "from pglife_spec.draw.svg import to_svg; print(to_svg(t.crowded()), end='')"
    )
    run = [sys.executable, "-c", script, str(Path(__file__).parent)]
    path = {"PYTHONPATH": ":".join(p for p in sys.path if p)}
    once, again = (
        subprocess.run(
            run, env=path | {"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    )
    assert once == again == to_svg(crowded())


def test_the_notes_name_what_a_label_counts():
    texts = [t.text for t in ET.fromstring(to_svg(crowded())).iter(f"{SVG}text")]
    assert "A \u2192 B: also other way, third" in texts


def test_the_legend_has_the_roles_that_are_drawn_and_fits(graph):
    for made, roles in ((graph, 2), (crowded(), 1)):
        root = ET.fromstring(to_svg(made))
        legend = [
            t
            for g in root.findall(f"{SVG}g")
            for t in g.findall(f"{SVG}text")
            if t.get("font-size") == "11"
        ]
        assert len(legend) == roles
        # DejaVu Sans, the widest of the fonts named, has letters of 0.6 em on average.
        ends = [float(t.get("x")) + len(t.text) * 11 * 0.6 for t in legend]
        assert max(ends) < float(root.get("width"))


def test_a_label_has_all_families_where_they_fit():
    made = crowded()
    for action in [a for *_, a in made.edges(keys=True) if a.startswith("shut_down")]:
        made.remove_edge("A", "B", action)
    (arrow,) = arrows(made)
    assert (arrow.label, arrow.note) == ("other way, third", "")


def test_mermaid_and_dot_name_every_family():
    said = ["shut down (fast, smart)", "other way", "third"]
    assert f'|"{"<br/>".join(said)}"|' in to_mermaid(crowded())
    assert "\\n".join(said) in to_dot(crowded())


def test_mermaid_and_dot_have_every_edge(graph):
    mermaid, dot = to_mermaid(graph), to_dot(graph)
    ways = len(set(graph.edges()))
    assert mermaid.count("-->") + mermaid.count("==>") == ways
    assert '    n1 -->|"reap writer"| n0' in mermaid.splitlines()
    assert dot.count(" -> ") == ways
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


@pytest.mark.parametrize("seed", range(8))
def test_an_edge_is_upright_but_next_to_its_nodes(seed):
    rng = random.Random(seed)
    pairs = rng.sample(list(itertools.permutations(range(6), 2)), 12)
    page = arrange([(80, 34)] * 6, [(a, b, (50, 18)) for a, b in pairs], [1] * 12)
    for route, (x, _) in zip(page.routes, page.labels, strict=True):
        assert x in {point[0] for point in route[1:-1]}


@pytest.mark.parametrize("version", [15, 18])
def test_postgres_has_a_picture_of_every_kind(version):
    known = views(version)
    assert {"postmaster", "backend", "dead_end_backend", "io_worker", "logger"} <= set(known)
    small = drawn(CONFIGS[f"small-{version}"], "backend")
    assert (small.bounds["backend"], small.bounds["dead_end"]) == (1, 0)


def test_the_life_of_a_backend_is_drawn():
    config = drawn(CONFIGS["small-18"], "backend")
    life = life_graph(explore(build(), config, claims=[]), views(18)["backend"])
    normal = [(a, b) for a, b, role in life.edges(data="role") if role is Role.NORMAL]
    assert ("ABSENT", "RUNNING") in normal
    assert ("RUNNING", "EXITED_0") in normal
    assert life.nodes["CRASHED"]["role"] is Role.CRASH


def test_the_signals_of_postgres_reach_the_postmaster_and_every_kind():
    graph = signals(build())
    assert graph.has_edge("operator", "postmaster", "SIGTERM")
    assert graph.has_edge("STARTUP", "postmaster", "PMSIGNAL_RECOVERY_STARTED")
    assert graph.has_edge("postmaster", "CHECKPOINTER", "SIGUSR2")
    assert not graph.has_edge("postmaster", "LOGGER", "SIGQUIT")
    assert graph.nodes["operator"]["actor"]
