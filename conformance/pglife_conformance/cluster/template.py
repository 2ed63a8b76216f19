"""Clusters to start from: one initdb a session, then copies of it.

Begin with   Template.make(), then copy_to().
Owns         the settings that every cluster of the suite has.
Leaves out   starting servers.
Source       measured: copying takes a tenth of an initdb.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pglife_conformance.base.failures import UnusableTarget
from pglife_conformance.system.privilege import ServerUser
from pglife_conformance.system.run import Run
from pglife_conformance.targets.base import Program, Target

COMMON_SETTINGS: dict[str, str] = {
    "listen_addresses": "",
    "port": "5432",
    "max_connections": "20",
    "shared_buffers": "2MB",
    "fsync": "off",
    # In the data directory, which goes as a whole: a killed server leaves nothing in /dev/shm.
    "dynamic_shared_memory_type": "mmap",
    "log_min_messages": "debug2",
    "log_line_prefix": "%m [%p] ",
    "log_timezone": "UTC",
    "lc_messages": "C",
    # No worker of its own accord: a scenario that wants one asks for it.
    "autovacuum_naptime": "1h",
}


def setting_lines(settings: dict[str, str]) -> str:
    """As postgresql.conf wants them."""
    quoted = ((name, value.replace("'", "''")) for name, value in settings.items())
    return "".join(f"{name} = '{value}'\n" for name, value in quoted)


@dataclass(frozen=True)
class Template:
    """A data directory made by initdb, never started."""

    data: Path
    user: ServerUser

    @classmethod
    def make(cls, target: Target, run: Run) -> Template:
        """The template of this run (each xdist worker is a run of its own)."""
        data = run.place_for("template", target.user) / "data"
        cls._initdb(target, run, data)
        with (data / "postgresql.conf").open("a", encoding="utf-8") as conf:
            conf.write("\n" + setting_lines(COMMON_SETTINGS))
        return cls(data, target.user)

    @staticmethod
    def _initdb(target: Target, run: Run, data: Path) -> None:
        options = target.initdb_options()
        done = target.run(Program.INITDB, [f"--pgdata={data}", *options], run_id=run.id)
        if done.code != 0:
            raise UnusableTarget(
                f"--target {target.name}: initdb exits {done.code}: "
                f"{(done.err or done.out).strip()[-300:]}"
            )

    def copy_to(self, data: Path, user: ServerUser) -> None:
        """A data directory of its own; `cp` is faster than we are."""
        paths = [os.fspath(self.data), os.fspath(data)]
        as_user = user.by_exec(keep_reading=False) if user.uid == self.user.uid else None
        if as_user is not None:
            # Whoever makes the files owns them: a quarter of the time goes into telling cp to.
            subprocess.run([*as_user, "cp", "-R", *paths], check=True)
            return
        subprocess.run(["cp", "-a", *paths], check=True)
        if user.uid != self.user.uid:
            owner = f"{user.uid}:{user.gid}"
            subprocess.run(["chown", "-R", owner, os.fspath(data)], check=True)
