"""The pages for readers: what is generated is current, and what they point at exists.

`python tests/test_pages.py` writes docs/verbs.md anew.
"""

import ast
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pglife_spec import REPAIR_NAMES, machine, rules

ROOT = Path(__file__).resolve().parent.parent
SUITE = ROOT / "conformance" / "pglife_conformance"
VERBS = ROOT / "docs" / "verbs.md"
SUBJECTS = {
    "Cluster": "a server: `cluster.VERB(...)`",
    "Since": "a moment, `then = cluster.since()`, and what came after it: `then.VERB(...)`",
    "Session": "a client's session, `with cluster.session() as session`: `session.VERB(...)`",
    "Child": "a process of the server, as it was when it was looked at",
}
HEAD = """# The verbs of a scenario

What a scenario can do to a server and expect of it, by subject. Written by
`python tests/test_pages.py` from the docstrings of the suite.
"""
PAGES = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
]
FINDINGS = ROOT / "docs" / "findings.md"
README = ROOT / "README.md"


@dataclass(frozen=True)
class Verb:
    """A public method, or a property, of a class that scenarios use."""

    call: str
    statement: str


def classes() -> dict[str, ast.ClassDef]:
    """The classes of the suite's machinery by name."""
    found: dict[str, ast.ClassDef] = {}
    for path in sorted(SUITE.rglob("*.py")):
        if "scenarios" not in path.parts:
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ClassDef):
                    found.setdefault(node.name, node)
    return found


def verbs(name: str, known: dict[str, ast.ClassDef]) -> Iterator[Verb]:
    """The verbs of a class and of those it is derived from, in the order of the source."""
    for base in known[name].bases:
        if isinstance(base, ast.Name) and base.id in known:
            yield from verbs(base.id, known)
    for node in known[name].body:
        if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
            continue
        markers = {ast.unparse(d) for d in node.decorator_list}
        if any(marker.endswith(".setter") for marker in markers):
            continue
        statement = (ast.get_docstring(node) or "").split("\n\n")[0]
        is_property = {"property", "cached_property"} & markers
        call = node.name if is_property else f"{node.name}({arguments(node.args)})"
        yield Verb(call, " ".join(statement.split()))


def arguments(args: ast.arguments) -> str:
    """The arguments with their defaults and without their types."""
    plain = args.args[1:] if args.args and args.args[0].arg in ("self", "cls") else args.args
    missing = len(plain) - len(args.defaults[-len(plain) or len(args.defaults) :])
    defaults = [None] * missing + list(args.defaults[len(args.defaults) - len(plain) + missing :])
    said = [one(arg, default) for arg, default in zip(plain, defaults, strict=True)]
    if args.vararg:
        said.append(f"*{args.vararg.arg}")
    elif args.kwonlyargs:
        said.append("*")
    said += [one(a, d) for a, d in zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    if args.kwarg:
        said.append(f"**{args.kwarg.arg}")
    return ", ".join(said)


def one(arg: ast.arg, default: ast.expr | None) -> str:
    return arg.arg if default is None else f"{arg.arg}={ast.unparse(default)}"


def verbs_page() -> str:
    """docs/verbs.md."""
    known = classes()
    lines = [HEAD]
    for name, subject in SUBJECTS.items():
        lines += [f"## {name}: {subject}", "", "| verb | what it does |", "|---|---|"]
        for verb in verbs(name, known):
            lines.append("| `{}` | {} |".format(*(cell(t) for t in (verb.call, verb.statement))))
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def test_the_page_of_verbs_is_current() -> None:
    assert VERBS.read_text() == verbs_page(), "run python tests/test_pages.py"


def test_every_verb_has_a_statement() -> None:
    known = classes()
    silent = [
        f"{name}.{verb.call}"
        for name in SUBJECTS
        for verb in verbs(name, known)
        if not verb.statement
    ]
    assert not silent


def links(page: Path) -> Iterator[str]:
    yield from re.findall(r"\]\(([^)\s]+)\)", page.read_text())


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    wrong = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert not wrong


def quoted(text: str) -> set[str]:
    """What stands in backquotes, over line ends too."""
    return {" ".join(part.split()) for part in re.findall(r"`([^`]+)`", text)}


def test_findings_name_actions_repairs_and_scenarios_that_exist() -> None:
    text = FINDINGS.read_text()
    model = machine()
    actions = {a.name for a in model.actions} | {a.family for a in model.actions}
    traces = re.findall(r"\*\*Trace\*\*(.*?)\n\n", text, re.DOTALL)
    steps = set().union(*map(quoted, traces)) - {"P"}
    assert len(steps) > 20
    assert {s for s in steps if re.fullmatch(r"[a-z_]+(\(.*\))?", s)} - actions <= {"stray_signals"}
    rows = re.findall(r"^\| F\d\d \|.*\| `(\w+)` \|$", text, re.MULTILINE)
    assert set(rows) <= set(REPAIR_NAMES)
    assert len(rows) == 10
    scenarios = "\n".join(p.read_text() for p in SUITE.rglob("findings/*.py"))
    named = {name for name in re.findall(r"`(test_\w+)(?!\w|\.py)", text) if "/" not in name}
    assert {name for name in named if f"def {name}(" not in scenarios} == set()


def test_findings_name_claims_and_properties_that_exist() -> None:
    model = machine()
    known = {c.name for c in model.claims} | {p.name for p in model.properties}
    broken = re.findall(r"\*\*Breaks\.\*\*(.*?)\n\n", FINDINGS.read_text(), re.DOTALL)
    assert set().union(*map(quoted, broken)) <= known


def test_the_tables_name_steps_rules_and_findings_that_exist() -> None:
    text = (ROOT / "docs" / "tables.md").read_text()
    rows = [row.strip("| ").split(" | ") for row in text.splitlines() if row.startswith("| PM_")]
    assert len(rows) > 60
    families = {a.family.replace("_", " ") for a in machine().actions}
    ended = {part for row in rows if len(row) >= 5 for part in row[3].split(", ")}
    steps = {part for part in ended if not re.match(r"nothing|F\d\d|PM_|\u00b7|$", part)}
    assert len(steps & families) > 15
    assert set(re.findall(r"\b[A-Z]{2,3}\d{0,2}-\d+\b", text)) <= set(rules.rules())
    findings = set(re.findall(r"\bF\d\d\b", text))
    assert findings <= set(re.findall(r"^## (F\d\d)", FINDINGS.read_text(), re.MULTILINE))


def test_the_readme_names_commands_and_options_that_exist() -> None:
    from typer.main import get_command

    from pglife_spec.cli.main import app

    commands = set(get_command(app).commands)
    assert set(re.findall(r"pglife ([a-z]+)", README.read_text())) <= commands


def test_cells_of_the_numbers_are_short() -> None:
    rows = [
        row
        for row in (ROOT / "docs" / "numbers.md").read_text().splitlines()
        if row.startswith("|")
    ]
    cells = [cell.strip() for row in rows for cell in row.strip("|").split("|")]
    assert len(cells) > 60
    assert [cell for cell in cells if len(cell) > 70] == []


if __name__ == "__main__":
    VERBS.write_text(verbs_page())
