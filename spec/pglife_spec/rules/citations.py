"""What cites a rule: declarations of a machine, and the scenarios of the suite.

Begin with `of_machine` and `of_suite`; each gives citations by rule id. The suite is read as text,
so nothing of it is imported.
"""

import ast
import enum
import importlib.util
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pglife_spec.lang.machine import Machine, Mutant
from pglife_spec.rules import ID

SUITE = "pglife_conformance"


class Citing(enum.Enum):
    """What can cite a rule."""

    ACTION = "action"
    CLAIM = "claim"
    PROPERTY = "property"
    MUTANT = "mutant"
    SCENARIO = "scenario"


@dataclass(frozen=True)
class Citation:
    """Something that cites a rule.

    Args:
        name: of the declaration, or `folder/file.py::function` below the suite's scenarios.
        statement: what it claims, in words.
    """

    citing: Citing
    name: str
    statement: str


Citations = Mapping[str, Sequence[Citation]]


def of_machine(machine: Machine, mutants: Iterable[Mutant] = ()) -> Citations:
    """Citations by the declarations of a machine; a mutant cites what the claim it breaks cites."""
    found: dict[str, list[Citation]] = defaultdict(list)
    families = {action.family: action for action in machine.actions}.values()
    ids_of_claim = {claim.name: claim.ids for claim in machine.claims}
    for citing, declared in (
        (Citing.ACTION, [(a.family, a.doc, a.rules) for a in families]),
        (Citing.CLAIM, [(c.name, c.doc, c.ids) for c in machine.claims]),
        (Citing.PROPERTY, [(p.name, p.doc, p.ids) for p in machine.properties]),
        (Citing.MUTANT, [(m.name, m.doc, ids_of_claim.get(m.killed_by, ())) for m in mutants]),
    ):
        for name, statement, ids in declared:
            for id_ in ids:
                found[id_].append(Citation(citing, name, statement))
    return found


def suite_folder() -> Path | None:
    """The folder of the conformance suite's package, if it is installed beside this one."""
    spec = importlib.util.find_spec(SUITE)
    folders = spec.submodule_search_locations if spec else None
    return Path(folders[0]) if folders else None


def of_suite(folder: Path) -> Citations:
    """Citations by the scenarios below a folder.

    A function cites the ids that its decorator `claim` has; a class or an object that is given
    `rules` cites those.
    """
    found: dict[str, list[Citation]] = defaultdict(list)
    for path in sorted(folder.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            for name, ids in _citing(node):
                where = f"{path.relative_to(folder).as_posix()}::{name}".removeprefix("scenarios/")
                said = ast.get_docstring(node) if isinstance(node, _DOCUMENTED) else None
                statement = " ".join((said or "").split())
                for id_ in dict.fromkeys(ids):
                    found[id_].append(Citation(Citing.SCENARIO, where, statement))
    return found


_DOCUMENTED = (ast.FunctionDef, ast.ClassDef)


def _citing(node: ast.AST) -> Iterator[tuple[str, list[str]]]:
    """The name of what a node declares and the ids that it cites."""
    if isinstance(node, ast.FunctionDef):
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and _called(decorator) == "claim":
                yield node.name, _ids(decorator.args)
    elif isinstance(node, ast.ClassDef):
        for part in node.body:
            if isinstance(part, ast.Assign) and _names(part) == ["rules"]:
                yield node.name, _ids([part.value])
    elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
        for keyword in node.value.keywords:
            if keyword.arg == "rules":
                yield ", ".join(_names(node)), _ids([keyword.value])


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _names(assign: ast.Assign) -> list[str]:
    return [target.id for target in assign.targets if isinstance(target, ast.Name)]


def _ids(values: Iterable[ast.expr]) -> list[str]:
    """The ids among the constants of some expressions."""
    constants = (node for value in values for node in ast.walk(value))
    texts = (node.value for node in constants if isinstance(node, ast.Constant))
    words = (word for text in texts if isinstance(text, str) for word in text.split())
    return [word for word in words if ID.fullmatch(word)]


def together(*parts: Citations) -> Citations:
    """Citations of several origins as one mapping."""
    found: dict[str, list[Citation]] = defaultdict(list)
    for part in parts:
        for id_, citations in part.items():
            found[id_].extend(citations)
    return found
