"""What every target offers: programs to start, a version, capabilities.

Begin with   Target.
Owns         the running of a target's programs as the server's user.
Leaves out   the life of one cluster (cluster.py).
Source       DESIGN section 4 (Target).
"""

from __future__ import annotations

import abc
import copy
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Self

from pglife_conformance.base.failures import ProgramTooSlow, UnusableTarget
from pglife_conformance.base.needs import Need
from pglife_conformance.observation.leftovers import RUN_MARK
from pglife_conformance.system.privilege import ServerUser, can_be_counted, server_user

PROGRAM_LIMIT_S = 120.0
_VERSION = re.compile(r"(\d+)(?:\.(\d+)|(devel|beta\d+|rc\d+))?")


class Program(StrEnum):
    """The programs that the suite runs."""

    INITDB = "initdb"
    PG_CTL = "pg_ctl"
    POSTGRES = "postgres"
    PG_CONTROLDATA = "pg_controldata"


@dataclass(frozen=True)
class Version:
    """A release, and how the server itself writes it."""

    major: int
    minor: int
    text: str

    @classmethod
    def parse(cls, text: str) -> Version:
        """From `postgres --version`; `postgres (PostgreSQL) 18.6` and what packagers add."""
        found = _VERSION.search(text.rpartition("PostgreSQL)")[2])
        if found is None:
            raise UnusableTarget(f"no version in {text!r}")
        return cls(int(found[1]), int(found[2] or 0), text.strip())

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Finished:
    """A program that has ended."""

    code: int
    out: str
    err: str


class Target(abc.ABC):
    """A server under test, as a set of commands."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.user: ServerUser = server_user()
        self._version: Version | None = None

    @abc.abstractmethod
    def command(self, program: Program) -> list[str]:
        """How to run one of the programs."""

    @abc.abstractmethod
    def paths_to_read(self) -> list[Path]:
        """What the server's user must be able to read."""

    @property
    @abc.abstractmethod
    def capabilities(self) -> frozenset[Need]:
        """What the target can do."""

    @property
    def allowed_here(self) -> frozenset[Need]:
        """Needs that any target meets if the machine lets the suite have it."""
        return frozenset({Need.COUNTED_PROCESSES} if can_be_counted(self.user) else ())

    def run_as(self, user: ServerUser) -> Self:
        """The same target, whose programs run as this user."""
        other = copy.copy(self)
        other.user = user
        return other

    def has_repair(self, name: str) -> bool:
        """Whether the target declares a defect of real releases repaired; real ones do not."""
        return False

    def extra_environment(self) -> dict[str, str]:
        """What its programs need beyond the common environment."""
        return {}

    def initdb_options(self) -> list[str]:
        """What makes initdb quick and its cluster small."""
        return ["--auth=trust", "--username=postgres"]

    @property
    def version(self) -> Version:
        """As the server says it."""
        if self._version is None:
            done = self.run(Program.POSTGRES, ["--version"])
            if done.code != 0:
                raise UnusableTarget(
                    f"--target {self.name}: `postgres --version` exits {done.code}: "
                    f"{(done.err or done.out).strip()[-200:]}"
                )
            self._version = Version.parse(done.out)
        return self._version

    def environment(self, run_id: str = "") -> dict[str, str]:
        """The environment of every program: C locale, no PG variables of the user's."""
        kept = {"PATH", "LD_LIBRARY_PATH", "TMPDIR"}
        env = {name: value for name, value in os.environ.items() if name in kept}
        env |= {"LC_ALL": "C", "TZ": "UTC", "HOME": "/"}
        if run_id:
            env[RUN_MARK] = run_id
        return env | self.extra_environment()

    def start(
        self,
        program: Program,
        args: Sequence[str],
        *,
        run_id: str = "",
        stdout: int,
        stderr: int,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a program as the server's user, in a process group of its own.

        Its own group, so that Ctrl-C at our terminal reaches the suite and not the server.
        """
        keep_reading = not self.user.can_read(self.paths_to_read())
        command = self.command(program)
        # What is not there is said by subprocess better than by another program.
        words = self.user.by_exec(keep_reading) if os.access(command[0], os.X_OK) else None
        return subprocess.Popen(
            [*(words or ()), *command, *args],
            env={**self.environment(run_id), **(env or {})},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            preexec_fn=self.user.becoming(keep_reading) if words is None else None,
            process_group=0,
        )

    def begin(
        self,
        program: Program,
        args: Sequence[str],
        *,
        run_id: str = "",
        env: Mapping[str, str] | None = None,
    ) -> RunningProgram:
        """Start a program whose output is kept until it has ended."""
        # Files and not pipes: a server started by pg_ctl inherits them, and a pipe would not
        # come to its end before that server does.
        # The program that is returned closes them.
        out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        try:
            process = self.start(
                program, args, run_id=run_id, stdout=out.fileno(), stderr=err.fileno(), env=env
            )
        except OSError as problem:
            raise UnusableTarget(f"--target {self.name}: {program}: {problem}") from problem
        return RunningProgram(" ".join([program, *args]), process, out, err)

    def run(
        self,
        program: Program,
        args: Sequence[str],
        *,
        run_id: str = "",
        limit_s: float = PROGRAM_LIMIT_S,
    ) -> Finished:
        """Run a program to its end."""
        return self.begin(program, args, run_id=run_id).finish(limit_s)


class RunningProgram:
    """A program under way."""

    def __init__(
        self, name: str, process: subprocess.Popen[bytes], out: IO[bytes], err: IO[bytes]
    ) -> None:
        self._name = name
        self._process = process
        self._out = out
        self._err = err

    @property
    def pid(self) -> int:
        """Its pid."""
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it has not ended."""
        self._process.send_signal(number)

    def has_ended(self) -> bool:
        """Whether it has."""
        return self._process.poll() is not None

    def finish(self, limit_s: float = PROGRAM_LIMIT_S) -> Finished:
        """Wait for its end; ProgramTooSlow kills it."""
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.abandon()
            raise ProgramTooSlow(f"{self._name} takes over {limit_s:g} s") from None
        except BaseException:
            self.abandon()
            raise
        return Finished(self._process.returncode, _all_of(self._out), _all_of(self._err))

    def abandon(self) -> None:
        """Kill it, if it has not ended."""
        self._process.kill()
        self._process.wait()


def _all_of(file: IO[bytes]) -> str:
    file.seek(0)
    with file:
        return file.read().decode("utf-8", errors="replace")
