"""Which modules each program imports: they are the cost of its start."""

import importlib
import subprocess
import sys

import pytest

from pglife_impl.base.kinds import Kind
from pglife_impl.process.registry import ROLES

ALL_ROLES = "from pglife_impl.postmaster import loop"
SQL = {
    "sqlglot",
    "pglife_impl.session.queries.parser",
    "pglife_impl.session.queries.tree",
    "pglife_impl.session.queries.query",
}
# Each compiles source at import, or imports much of the standard library.
HEAVY = {"dataclasses", "inspect", "logging", "asyncio", "random"}


def loaded_by(code: str) -> set[str]:
    """The modules of a new interpreter that has run this code."""
    command = f"import sys; {code}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_the_postmaster_imports_all_roles_but_no_sql() -> None:
    modules = loaded_by(ALL_ROLES)
    assert "pglife_impl.backend.main" in modules
    assert not modules & (SQL | HEAVY)


def test_the_postmaster_registers_a_role_for_every_kind() -> None:
    importlib.import_module("pglife_impl.postmaster.loop")
    assert set(ROLES) == set(Kind)


@pytest.mark.parametrize("program", ["pg_ctl.__main__", "postgres", "pg_controldata"])
def test_a_program_imports_no_server(program: str) -> None:
    modules = loaded_by(f"import pglife_impl.commands.{program}")
    assert not modules & (
        SQL | HEAVY | {"pglife_impl.postmaster.loop", "pglife_impl.postmaster.events"}
    )


def test_the_first_statement_imports_the_parser() -> None:
    modules = loaded_by(f"{ALL_ROLES}; import pglife_impl.session.protocol.simple")
    assert modules >= SQL


def test_decisions_import_base_only() -> None:
    modules = {name for name in loaded_by("import pglife_impl.postmaster.decide") if "." in name}
    ours = {name.split(".")[1] for name in modules if name.startswith("pglife_impl.")}
    assert ours == {"base", "postmaster"}
    assert not modules & {f"pglife_impl.postmaster.{name}" for name in ("loop", "perform")}
