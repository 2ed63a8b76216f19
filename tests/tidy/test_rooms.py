"""Folders are subsystems: which may import which, and no circle between folders or files.

rooms.toml is the table. A folder may import itself and what its row names.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS: dict[str, dict[str, list[str]]] = tomllib.loads(
    Path(__file__).with_name("rooms.toml").read_text(encoding="utf-8")
)
HOUSES = {"pglife_spec": "spec", "pglife_impl": "impl", "pglife_conformance": "conformance"}


def modules(house: str) -> dict[str, Path]:
    """The modules of a package, by dotted name."""
    found = {}
    for path in (ROOT / HOUSES[house] / house).rglob("*.py"):
        parts = path.relative_to(ROOT / HOUSES[house]).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """The modules of the same package that a file imports, wherever it does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                if name in known:
                    yield name
                elif node.module in known:
                    yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)


def files(house: str) -> nx.DiGraph[str]:
    """Which module imports which."""
    known = modules(house)
    graph: nx.DiGraph[str] = nx.DiGraph()
    for name, path in known.items():
        graph.add_edges_from((name, other) for other in imported(path, known) if other != name)
    return graph


def room(house: str, path: Path) -> str:
    """The folder that a file belongs to: the longest one that the table names."""
    folder = path.relative_to(ROOT / HOUSES[house] / house).parent
    while str(folder) not in ROOMS[house] and str(folder) != ".":
        folder = folder.parent
    return str(folder)


def folders(house: str) -> nx.DiGraph[str]:
    """Which folder imports which, with an example of each import."""
    known = modules(house)
    graph: nx.DiGraph[str] = nx.DiGraph()
    for one, other in files(house).edges:
        here, there = room(house, known[one]), room(house, known[other])
        if here != there:
            graph.add_edge(here, there, example=f"{one} imports {other}")
    return graph


@pytest.mark.parametrize("house", HOUSES)
def test_folders_import_what_the_table_allows(house: str) -> None:
    wrong = [
        f"{here} may not import {there}: {data['example']}"
        for here, there, data in folders(house).edges(data=True)
        if there not in ROOMS[house][here]
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("house", HOUSES)
def test_the_table_allows_nothing_unused(house: str) -> None:
    used = folders(house)
    unused = [
        f"{here} need not import {there}"
        for here, row in ROOMS[house].items()
        for there in row
        if not used.has_edge(here, there)
    ]
    assert not unused, "\n".join(unused)


@pytest.mark.parametrize("house", HOUSES)
@pytest.mark.parametrize("graph_of", [folders, files])
def test_no_circle(house: str, graph_of: object) -> None:
    assert callable(graph_of)
    circles = [c for c in nx.strongly_connected_components(graph_of(house)) if len(c) > 1]
    assert not circles
