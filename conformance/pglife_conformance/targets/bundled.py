"""The bundled server, started as a program from outside like any other.

Begin with Bundled.find().
"""

from __future__ import annotations

import compileall
import importlib.util
import sys
import sysconfig
from pathlib import Path

from pglife_conformance.base.failures import UnusableTarget
from pglife_conformance.targets.base import Program, Target


class Bundled(Target):
    """`python -m pglife_impl.<program>`."""

    def __init__(self, path: Path) -> None:
        super().__init__("bundled")
        self._path = path

    @classmethod
    def find(cls) -> Bundled:
        """The server of this checkout or this installation."""
        spec = importlib.util.find_spec("pglife_impl")
        if spec is None or not spec.submodule_search_locations:
            raise UnusableTarget("--target bundled: the package pglife_impl is not installed")
        package = Path(next(iter(spec.submodule_search_locations)))
        if not (package / "commands/postgres.py").exists():
            raise UnusableTarget("--target bundled: pglife_impl has no program postgres")
        for module in ("setproctitle", "sqlglot"):
            if importlib.util.find_spec(module) is None:
                raise UnusableTarget(
                    f"--target bundled: {module} is missing: pip install 'pglife[server]'"
                )
        # Else each process that it forks, and each start, would compile what it imports.
        compileall.compile_dir(package, quiet=2)
        target = cls(package.parent)
        _ = target.version
        target.ask_about_itself()
        return target

    def command(self, program: Program) -> list[str]:
        return [sys.executable, "-m", f"pglife_impl.commands.{program}"]

    def paths_to_read(self) -> list[Path]:
        library = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
        return [Path(sys.executable), *library, self._path / "pglife_impl"]

    def extra_environment(self) -> dict[str, str]:
        # pytest's `pythonpath` does not reach child processes.
        return {"PYTHONPATH": str(self._path), "PYTHONDONTWRITEBYTECODE": "1"}
