"""Clusters to start from: one initdb a run, then copies, which take a tenth of its time.

Begin with Template.make(), then copy_to().
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
    # In the data directory, so that a killed server leaves nothing in /dev/shm.
    "dynamic_shared_memory_type": "mmap",
    "log_min_messages": "debug2",
    "log_line_prefix": "%m [%p] ",
    "log_timezone": "UTC",
    "lc_messages": "C",
    # No autovacuum worker by itself: a scenario that needs one asks for it.
    "autovacuum_naptime": "1h",
}


def setting_lines(settings: dict[str, str]) -> str:
    """Settings in the syntax of postgresql.conf."""
    quoted = ((name, value.replace("'", "''")) for name, value in settings.items())
    return "".join(f"{name} = '{value}'\n" for name, value in quoted)


@dataclass(frozen=True)
class Template:
    """A data directory made by initdb, on which no server was started."""

    data: Path
    user: ServerUser

    @classmethod
    def make(cls, target: Target, run: Run) -> Template:
        """Run initdb; each xdist worker is a run and has a template of its own.

        Raises:
            UnusableTarget: initdb fails.
        """
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
        """Copy the data directory for this user, with cp(1), which is faster than Python."""
        paths = [os.fspath(self.data), os.fspath(data)]
        as_user = user.by_exec(keep_reading=False) if user.uid == self.user.uid else None
        if as_user is not None:
            # cp as the user itself makes that user the owner; `cp -a` takes a third longer.
            subprocess.run([*as_user, "cp", "-R", *paths], check=True)
            return
        subprocess.run(["cp", "-a", *paths], check=True)
        if user.uid != self.user.uid:
            owner = f"{user.uid}:{user.gid}"
            subprocess.run(["chown", "-R", owner, os.fspath(data)], check=True)
