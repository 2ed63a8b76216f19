"""A PostgreSQL-compatible bin directory: real PostgreSQL, or a port; see BinDirectory.at()."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

from pglife_conformance.base.failures import UnusableTarget
from pglife_conformance.base.needs import Need
from pglife_conformance.targets.base import Program, Target

_SINCE: dict[Need, int] = {
    Need.WALSUMMARIZER: 17,
    Need.IO_WORKERS: 18,
    Need.SIGNAL_LOG: 18,
    Need.PMSTATE_LOG: 18,
    Need.PROTOCOL_3_2: 18,
}
_CANNOT_RUN = {126, 127}
"""How a shell exits that may not run a program, or does not find it."""


class BinDirectory(Target):
    """Programs in one directory."""

    def __init__(self, directory: Path, name: str) -> None:
        super().__init__(name)
        self.directory = directory

    @classmethod
    def at(cls, directory: Path, name: str) -> BinDirectory:
        """The target in this directory, if the programs are there and say their version."""
        if not directory.is_dir():
            raise UnusableTarget(f"--target {name}: {directory} is not a directory")
        for program in Program:
            path = directory / program
            if not path.is_file():
                if program is Program.PG_CONTROLDATA:
                    continue
                raise UnusableTarget(f"--target {name}: there is no {program} in {directory}")
            if not os.access(path, os.X_OK):
                raise UnusableTarget(f"--target {name}: {path} is not executable")
        target = cls(directory, name)
        # A program may be a script that runs another, in a directory closed to the servers' user.
        if target.run(Program.POSTGRES, ["--version"]).code in _CANNOT_RUN:
            target._reads_more = True
        # The version is asked now, so that a program that cannot be run is noticed at once;
        # initdb too, for it may lack a library that postgres does not use.
        _ = target.version
        asked = target.run(Program.INITDB, ["--version"])
        if asked.code != 0:
            raise UnusableTarget(f"--target {name}: initdb cannot be run: {asked.err.strip()}")
        target.ask_about_itself()
        return target

    def command(self, program: Program) -> list[str]:
        return [str(self.directory / program)]

    def has_program(self, program: Program) -> bool:
        return (self.directory / program).is_file()

    def paths_to_read(self) -> list[Path]:
        return [self.directory / program for program in Program if self.has_program(program)]

    def initdb_options(self) -> list[str]:
        options = ["--no-sync", "--no-instructions", "--wal-segsize=1"]
        return [*super().initdb_options(), *options, "--no-locale", "--encoding=UTF8"]

    def default_capabilities(self) -> frozenset[Need]:
        major = self.version.major
        able = {need for need in Need if major >= _SINCE.get(need, 0)}
        if not self._has_pg_prewarm:
            able.discard(Need.PG_PREWARM)
        if not self.has_program(Program.PG_CONTROLDATA):
            able.discard(Need.PG_CONTROLDATA)
        return frozenset(able)

    @cached_property
    def _has_pg_prewarm(self) -> bool:
        """Whether this module of contrib is installed beside the programs."""
        root = self.directory.resolve().parent
        return any(any(place.rglob("pg_prewarm.so")) for place in root.glob("lib*"))
