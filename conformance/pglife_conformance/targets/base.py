"""What every target offers: programs to start, a version, capabilities. Begin with Target."""

from __future__ import annotations

import abc
import copy
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Self

from pglife_conformance.base.failures import ProgramTooSlow, UnusableTarget
from pglife_conformance.base.findings import Finding, declared
from pglife_conformance.base.ids import Pid
from pglife_conformance.base.needs import Need
from pglife_conformance.observation.leftovers import RUN_MARK
from pglife_conformance.system.privilege import (
    ServerUser,
    can_be_contained,
    can_be_counted,
    contained_user,
    server_user,
)

RELEASES_WITH_RULES = (15, 18)
"""Major releases that the rules describe."""
_WRITTEN = " and ".join(map(str, RELEASES_WITH_RULES))

PROGRAM_LIMIT_S = 120.0
_LONGEST_LINE = 200
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
        """From `postgres --version`, as `postgres (PostgreSQL) 18.6` and what packagers add.

        Raises:
            ValueError: for a program that does not say that it is PostgreSQL.
        """
        line = text.strip().partition("\n")[0]
        _, is_postgres, rest = line.partition("(PostgreSQL)")
        found = _VERSION.search(rest)
        if not is_postgres or found is None:
            raise ValueError(f"says {line!r}, and not `postgres (PostgreSQL) VERSION`")
        return cls(int(found[1]), int(found[2] or 0), line)

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
        self._repaired: frozenset[Finding] = frozenset()
        self._claimed: frozenset[Need] | None = None
        self._reads_more = False

    @property
    def keeps_reading(self) -> bool:
        """Whether its programs keep root's right to read, since their user cannot run them else."""
        return self._reads_more or not self.user.can_read(self.paths_to_read())

    @abc.abstractmethod
    def command(self, program: Program) -> list[str]:
        """How to run one of the programs."""

    def has_program(self, program: Program) -> bool:
        """Whether the target has this program; only pg_controldata may be missing."""
        return True

    @abc.abstractmethod
    def paths_to_read(self) -> list[Path]:
        """What the server's user must be able to read."""

    def default_capabilities(self) -> frozenset[Need]:
        """What a target does that does not say it itself: everything."""
        return frozenset(Need)

    @property
    def capabilities(self) -> frozenset[Need]:
        """What the target does, as far as this machine lets the suite see it."""
        claimed = self._claimed if self._claimed is not None else self.default_capabilities()
        here = {
            Need.COUNTED_PROCESSES: can_be_counted(self.user),
            Need.CONTAINERS: can_be_contained(self.user),
        }
        return claimed - here.keys() | {need for need, is_met in here.items() if is_met}

    def run_as(self, user: ServerUser) -> Self:
        """The same target, whose programs run as this user."""
        other = copy.copy(self)
        other.user = user
        return other

    def in_a_container(self) -> Self:
        """The same target, each of whose programs runs in namespaces of its own (CONTAINERS)."""
        return self.run_as(contained_user(self.user))

    def declare_repaired(self, words: Iterable[str], by: str) -> None:
        """Note which findings the target does not have, each by its number or its repair's name.

        Raises:
            UnusableTarget: for a word that is neither; `by` says where it stands.
        """
        try:
            self._repaired |= declared(words)
        except ValueError as problem:
            raise UnusableTarget(f"{by}: {problem}") from None

    def has_repaired(self, finding: Finding) -> bool:
        """Whether the target declares this finding repaired; real servers declare nothing."""
        return finding in self._repaired

    def has_repair(self, name: str) -> bool:
        """Whether the target declares a finding with this repair."""
        return any(finding.repair == name for finding in self._repaired)

    def ask_about_itself(self) -> None:
        """Note what `postgres --repairs` and `postgres --capabilities` print.

        A server without these options refuses them. Its repairs are then those of --repaired, its
        capabilities those of its release.

        Raises:
            UnusableTarget: for a name that is no repair, or no capability.
        """
        repairs = self._ask("--repairs")
        if repairs is None:
            return
        self.declare_repaired(repairs, f"--target {self.name}: `postgres --repairs`")
        names = self._ask("--capabilities")
        if names is None:
            return
        unknown = [name for name in names if name not in {need.value for need in Need}]
        if unknown:
            raise UnusableTarget(
                f"--target {self.name}: `postgres --capabilities`: {unknown[0]!r} is unknown"
            )
        self._claimed = frozenset(map(Need, names))

    def _ask(self, option: str) -> list[str] | None:
        done = self.run(Program.POSTGRES, [option])
        return done.out.split() if done.code == 0 else None

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
                    f"{_last_line(done)}"
                )
            try:
                self._version = Version.parse(done.out)
            except ValueError as problem:
                raise UnusableTarget(
                    f"--target {self.name}: `postgres --version` {problem}"
                ) from None
        return self._version

    @property
    def about_rules(self) -> str | None:
        """What a run must say of a release that has no rules of its own, or None."""
        major = self.version.major
        if major in RELEASES_WITH_RULES:
            return None
        if min(RELEASES_WITH_RULES) - 1 <= major <= max(RELEASES_WITH_RULES):
            return f"PostgreSQL {major} has no rules of its own: the nearest of {_WRITTEN} apply"
        return f"PostgreSQL {major} is far from the releases that have rules ({_WRITTEN})"

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
        cwd: str = "/",
    ) -> subprocess.Popen[bytes]:
        """Start a program as the server's user, in a process group of its own.

        Its own group, so that Ctrl-C at our terminal reaches the suite and not the server.
        """
        command = self.command(program)
        # What is not there is said by subprocess better than by another program.
        words = self.user.by_exec(self.keeps_reading) if os.access(command[0], os.X_OK) else None
        return subprocess.Popen(
            [*(words or ()), *command, *args],
            env={**self.environment(run_id), **(env or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            preexec_fn=self.user.becoming(self.keeps_reading) if words is None else None,
            process_group=0,
        )

    def begin(
        self,
        program: Program,
        args: Sequence[str],
        *,
        run_id: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
    ) -> RunningProgram:
        """Start a program whose output is kept until it has ended."""
        # Files and not pipes: a server started by pg_ctl inherits them, and a pipe would not
        # come to its end before that server does.
        # The program that is returned closes them.
        out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        try:
            process = self.start(
                program,
                args,
                run_id=run_id,
                stdout=out.fileno(),
                stderr=err.fileno(),
                env=env,
                cwd=cwd,
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
    def pid(self) -> Pid:
        """Its pid."""
        return Pid(self._process.pid)

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


def _last_line(done: Finished) -> str:
    lines = (done.err or done.out).strip().splitlines()
    return lines[-1][:_LONGEST_LINE] if lines else "without a word"


def _all_of(file: IO[bytes]) -> str:
    file.seek(0)
    with file:
        return file.read().decode("utf-8", errors="replace")
