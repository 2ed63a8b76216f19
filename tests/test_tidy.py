"""Rules of the source tree, one a test: sizes, imports, and generated pages."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pglife_spec

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "pglife_spec": ROOT / "spec" / "pglife_spec",
    "pglife_impl": ROOT / "impl" / "pglife_impl",
    "pglife_conformance": ROOT / "conformance" / "pglife_conformance",
}
LONGEST_MODULE, LONGEST_FUNCTION = 500, 60


def modules(*packages: str) -> Iterator[Path]:
    for name in packages or PACKAGES:
        yield from sorted(PACKAGES[name].rglob("*.py"))


def everything() -> Iterator[Path]:
    yield from modules()
    yield from sorted((ROOT / "tests").rglob("*.py"))


def said(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes: Iterator[ast.AST] = iter(tree.body) if top_level_only else ast.walk(tree)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.add(node.module)
    return found


def roots(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def test_modules_are_short_and_orient() -> None:
    wrong = []
    for path in everything():
        text = path.read_text()
        if text.count("\n") > LONGEST_MODULE:
            wrong.append(f"{said(path)}: more than {LONGEST_MODULE} lines")
        if path in set(modules()) and text.strip() and not ast.get_docstring(ast.parse(text)):
            wrong.append(f"{said(path)}: no docstring that orients")
    assert not wrong


def test_functions_are_short() -> None:
    wrong = []
    for path in everything():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                length = (node.end_lineno or node.lineno) - first + 1
                if length > LONGEST_FUNCTION:
                    wrong.append(f"{said(path)}: {node.name} has {length} lines")
    assert not wrong


def test_dependencies_point_one_way() -> None:
    """The server imports neither spec nor suite: their agreement must prove something."""
    forbidden = {
        "pglife_spec": {"pglife_impl", "pglife_conformance"},
        "pglife_impl": {"pglife_spec", "pglife_conformance"},
        "pglife_conformance": {"pglife_impl"},
    }
    wrong = [
        f"{said(path)} imports {name}"
        for package, never in forbidden.items()
        for path in modules(package)
        for name in roots(imports(path)) & never
    ]
    assert not wrong


def test_only_the_prover_imports_z3() -> None:
    spec = PACKAGES["pglife_spec"]
    provers = {spec / "prove", spec / "meanings" / "smt"}
    wrong = [
        said(path)
        for path in modules()
        if "z3" in roots(imports(path)) and not provers & set(path.parents)
    ]
    assert not wrong


def test_the_suite_asks_the_spec_through_its_public_face() -> None:
    """No module of the suite imports a submodule of pglife_spec."""
    wrong = [
        f"{said(path)} imports {name}"
        for path in modules("pglife_conformance")
        for name in imports(path)
        if name.startswith("pglife_spec.")
    ]
    assert not wrong


def test_the_suite_names_no_action_in_a_string() -> None:
    """Actions are objects of `pglife_spec.actions`: a renamed one fails in the type checker.

    A declared name of one word (`begin`) is also a word of SQL, and is not looked for.
    """
    names = {action.family for action in pglife_spec.machine().actions if "_" in action.family}
    wrong = [
        f"{said(path)}:{node.lineno}: {node.value!r}"
        for path in modules("pglife_conformance")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if node.value.split("(")[0] in names
    ]
    assert not wrong


def test_every_declared_action_is_on_the_public_face() -> None:
    """`pglife_spec.actions` has each declared action under its name."""
    declared = {action.family for action in pglife_spec.machine().actions}
    assert declared <= set(vars(pglife_spec.actions))


def test_the_plugin_is_light() -> None:
    """Every pytest run of an environment with pglife loads it, and its options."""
    home = PACKAGES["pglife_conformance"] / "pytest"
    found = {
        name
        for module in ("plugin", "options")
        for name in imports(home / f"{module}.py", top_level_only=True)
        if name != "pglife_conformance.pytest"
    }
    assert roots(found) - set(sys.stdlib_module_names) <= {"pytest"}


@pytest.mark.parametrize("call", ["os.fork", "signal.signal", "os.waitpid"])
def test_one_module_each_may_make_the_call(call: str) -> None:
    users = [
        said(path)
        for path in modules("pglife_impl")
        if any(
            isinstance(node, ast.Call) and ast.unparse(node.func) == call
            for node in ast.walk(ast.parse(path.read_text()))
        )
    ]
    assert len(users) <= 1, users


def sleeps(tree: ast.AST) -> set[int]:
    return {
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep")
    }


def test_no_module_sleeps_for_luck() -> None:
    """Waits are for evidence, with a deadline: a pause stands only in a loop that looks again."""
    wrong = []
    for path in modules("pglife_conformance"):
        tree = ast.parse(path.read_text())
        loops = [n for n in ast.walk(tree) if isinstance(n, ast.While | ast.For)]
        in_loops = set().union(*map(sleeps, loops)) if loops else set()
        wrong += [f"{said(path)}:{line}" for line in sleeps(tree) - in_loops]
    assert not wrong


def test_nothing_committed_names_a_machine() -> None:
    """No paths of a machine, no hosts of a package index, no folder beside the checkout."""
    pattern = re.compile(r"/work/(?!\{)|/opt/p|/root/|shared/|pypi\.|deb\.debian|files\.python")
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    wrong = []
    for name in files:
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".txt"} and path != Path(__file__).resolve():
            wrong += [
                f"{name}:{number}: {line.strip()}"
                for number, line in enumerate(path.read_text().splitlines(), 1)
                if pattern.search(line)
            ]
    assert not wrong


def differences() -> str:
    """docs/differences.md, from the DIFFERS: comments of the server."""
    lines = [
        "# Where the bundled server parts from PostgreSQL",
        "",
        "Collected from the `DIFFERS:` comments in `impl/`; "
        "`python tests/test_tidy.py` writes this page.",
        "",
    ]
    for path in modules("pglife_impl"):
        text = path.read_text().splitlines()
        for number, line in enumerate(text):
            if not line.strip().lstrip("# ").startswith("DIFFERS:"):
                continue
            words = [line.split("DIFFERS:", 1)[1].strip()]
            in_comment = line.strip().startswith("#")
            for more in text[number + 1 :]:
                stripped = more.strip()
                if stripped.startswith("#") != in_comment or stripped in ("", '"""'):
                    break
                words.append(stripped.lstrip("# "))
            lines.append(f"- `{path.relative_to(PACKAGES['pglife_impl'])}`: {' '.join(words)}")
    return "\n".join(lines) + "\n"


def test_differences_are_collected() -> None:
    page = ROOT / "docs" / "differences.md"
    assert page.read_text() == differences(), "run python tests/test_tidy.py"


if __name__ == "__main__":
    (ROOT / "docs" / "differences.md").write_text(differences())
