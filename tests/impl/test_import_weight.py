"""What a start costs: modules that the programs load before they are of use."""

from __future__ import annotations

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
# Each compiles source at import, or brings half of the standard library along.
HEAVY = {"dataclasses", "inspect", "logging", "asyncio", "random"}


def loaded_by(code: str) -> set[str]:
    """The modules of a fresh interpreter that has run this."""
    told = f"import sys; {code}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", told], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_the_postmaster_loads_all_roles_but_no_sql() -> None:
    modules = loaded_by(ALL_ROLES)
    assert "pglife_impl.backend.main" in modules
    assert not modules & (SQL | HEAVY)


def test_the_postmaster_registers_a_role_for_every_kind() -> None:
    importlib.import_module("pglife_impl.postmaster.loop")
    assert set(ROLES) == set(Kind)


@pytest.mark.parametrize("program", ["pg_ctl.__main__", "postgres", "pg_controldata"])
def test_a_program_loads_no_server(program: str) -> None:
    modules = loaded_by(f"import pglife_impl.commands.{program}")
    assert not modules & (
        SQL | HEAVY | {"pglife_impl.postmaster.loop", "pglife_impl.postmaster.events"}
    )


def test_the_first_statement_loads_what_understands_sql() -> None:
    modules = loaded_by(f"{ALL_ROLES}; import pglife_impl.session.protocol.simple")
    assert modules >= SQL
