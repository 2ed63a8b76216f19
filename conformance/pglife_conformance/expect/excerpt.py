"""The server's log from one moment on, and what it must say.

Begin with Excerpt; `cluster.since()` makes one. An exact expectation (`expect_exactly()`) is a
sequence of lines, none missing, none twice, none added. Each line is a message of the postmaster
of any level but DEBUG, with `(PID n)` replaced by a name; or, since 18, a step of pmState as
`PM_RUN -> PM_STOP_BACKENDS`.

Source: rules PM-01, CR-02, SH-02, SH-11.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

from pglife_conformance.base import deadlines
from pglife_conformance.base.ids import Pid
from pglife_conformance.expect.children import children_when_running, is_complete
from pglife_conformance.expect.lines import READY_LINE
from pglife_conformance.observation.log import Level, LogRecord
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_conformance.observation.processes import Child
from pglife_conformance.watching.server import WatchedServer

__tracebackhide__ = True
"""pytest shows the scenario's line, and no frame of this module."""

_STEP = re.compile(r"updating PMState from (PM_\w+) to (PM_\w+)")
_PID = re.compile(r"\(PID (\d+)\)")
_LAUNCHER_EXITED = re.compile(
    r'background worker "logical replication launcher" \(PID \d+\) exited with exit code 1'
)
_ABOVE_DEBUG = frozenset(Level) - {Level.NONE, Level.DEBUG, Level.INFO, Level.NOTICE}

Found = TypeVar("Found")

HAS_STEPS = 18
"""The first release that logs the steps of pmState."""


@dataclass(frozen=True)
class OneOf:
    """A place in an exact expectation where the log may go on in several ways."""

    ways: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        return " or ".join("[" + ", ".join(way) + "]" for way in self.ways)


Line = str | OneOf


def step(before: str, after: str) -> str:
    """A step of pmState as an excerpt shows it."""
    return f"{before} -> {after}"


def in_version(lines: Sequence[Line], major: int) -> list[Line]:
    """The lines as this release logs them: without steps of pmState before 18."""
    if major >= HAS_STEPS:
        return list(lines)
    kept: list[Line] = []
    for line in lines:
        if isinstance(line, OneOf):
            ways = {tuple(part for part in way if " -> " not in part) for way in line.ways}
            if ways != {()}:
                kept.append(OneOf(tuple(sorted(ways))))
        elif " -> " not in line:
            kept.append(line)
    return kept


def same_lines(found: Sequence[str], expected: Sequence[Line]) -> bool:
    """Whether the lines are exactly the expected ones."""
    if not expected:
        return not found
    head, rest = expected[0], expected[1:]
    ways = head.ways if isinstance(head, OneOf) else ((head,),)
    return any(
        tuple(found[: len(way)]) == way and same_lines(found[len(way) :], rest) for way in ways
    )


class Excerpt:
    """The log of one server since one moment.

    A context manager, so that a scenario can show which action the log lines answer:

        with cluster.since() as then:
            cluster.reload()
        then.expect_line("received SIGHUP, reloading configuration files")

    Args:
        server: the server.
        mark: the index of its first record; by default that of the next record to be written.
    """

    def __init__(self, server: WatchedServer, mark: int | None = None) -> None:
        self.server = server
        self.watcher = server.watcher
        if mark is None:
            self.watcher.look()
            mark = len(self.watcher.log.records)
        self.mark = mark

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: the excerpt goes on."""

    @property
    def major(self) -> int:
        """The server's major version."""
        return self.server.major

    # Reading.

    def log(
        self, *levels: str, pid: Pid | None = None, matching: str | None = None
    ) -> list[LogRecord]:
        """The records so far.

        Args:
            levels: the levels to keep ("LOG", "FATAL"); by default all.
            pid: keep the records of this process only.
            matching: keep the records whose message matches this pattern (re.search).
        """
        self.watcher.look()
        return [
            record
            for record in self.watcher.records(self.mark)
            if (not levels or record.level in levels)
            and pid in (None, record.pid)
            and (matching is None or re.search(matching, record.message))
        ]

    def messages(
        self, *levels: str, pid: Pid | None = None, matching: str | None = None
    ) -> list[str]:
        """The messages of log() with the same arguments."""
        return [record.message for record in self.log(*levels, pid=pid, matching=matching)]

    def find_log(self, pattern: str) -> LogRecord | None:
        """The first record whose message matches (re.search), if there is one."""
        return next(iter(self.log(matching=pattern)), None)

    def pmstates(self) -> list[tuple[str, str]]:
        """The steps of pmState (18; PM-01)."""
        found = (_STEP.search(message) for message in self.messages())
        return [(match[1], match[2]) for match in found if match is not None]

    def postmaster_records(self) -> list[LogRecord]:
        """The records of the postmaster at LOG and above."""
        pids = self.watcher.postmaster_pids
        return [record for record in self.log(*_ABOVE_DEBUG) if record.pid in pids]

    def postmaster_lines(self, *, launcher_aside: bool = False) -> list[str]:
        """The messages of the postmaster at LOG and above.

        Args:
            launcher_aside: leave out the line about the logical replication launcher's exit
                with 1, which may come at any moment of a shutdown (SH-27).
        """
        lines = [record.message for record in self.postmaster_records()]
        return [line for line in lines if not (launcher_aside and _LAUNCHER_EXITED.fullmatch(line))]

    def exact_lines(self, names: Mapping[Pid, str] | None = None) -> list[str]:
        """The postmaster's lines as expect_exactly() compares them.

        Args:
            names: what stands for a pid in the lines about a child's death.
        """
        found = (self._exact(record, names or {}) for record in self.log(pid=self.server.pid))
        return [line for line in found if line is not None]

    def _exact(self, record: LogRecord, names: Mapping[Pid, str]) -> str | None:
        if record.level is Level.DEBUG:
            found = _STEP.fullmatch(record.message)
            return step(found[1], found[2]) if found is not None else None

        def name(found: re.Match[str]) -> str:
            return f"({names.get(Pid(int(found[1])), found[0][1:-1])})"

        return _PID.sub(name, record.message)

    # Expectations.

    def expect_log(
        self, pattern: str, within: float = deadlines.REACTION_LIMIT, *, times: int = 1
    ) -> LogRecord:
        """Wait for a record whose message matches (re.search), and return it.

        Args:
            pattern: the regular expression.
            within: the deadline in seconds.
            times: wait for so many matches, and return the last of them.
        """

        def found() -> LogRecord | None:
            records = self.log(matching=pattern)
            return records[times - 1] if len(records) >= times else None

        often = f"{times} log lines" if times > 1 else "a log line"
        return self._wait_for(f"{often} matching {pattern!r}", found, within)

    def expect_line(self, text: str, within: float = deadlines.REACTION_LIMIT) -> LogRecord:
        """Wait for a record whose message is exactly this, and return it."""
        return self._wait_for(
            f"the log line {text!r}",
            lambda: next((record for record in self.log() if record.message == text), None),
            within,
        )

    def expect_no_log(self, pattern: str, for_s: float = 0.0) -> None:
        """No record so far matches (re.search), and none for `for_s` seconds more."""
        found = self.find_log(pattern)
        if found is not None:
            raise self.watcher.failure(f"no log line matching {pattern!r}", str(found))
        if for_s:
            name = f"no log line matching {pattern!r}"
            self.server.expect_still(name, lambda: self.find_log(pattern) is None, for_s)

    def expect_child_exit(
        self, child: Child | int, code: int, within: float = deadlines.REACTION_LIMIT
    ) -> LogRecord:
        """Wait until the postmaster logs a child's exit status, check it, return the record.

        The line about status 0 has level DEBUG2 (RP-02).
        """
        pid = child if isinstance(child, int) else child.pid
        record = self.expect_log(rf"\(PID {pid}\) (exited with|was terminated by) ", within)
        if not record.message.endswith(f" exited with exit code {code}"):
            raise self.watcher.failure(f"exit status {code} of child {pid}", record.message)
        return record

    def expect_ready(self, within: float = deadlines.CRASH_RESTART_LIMIT) -> LogRecord:
        """Wait for the ready line, line 8 `ready` of the pid file, and all children."""
        wanted = children_when_running(self.major, self.watcher.settings)

        def ready() -> LogRecord | None:
            if not self.server.is_running():
                raise self.watcher.failure("a server that gets ready", self.watcher.summary())
            if self.server.pid_file_status() is not PidFileStatus.READY:
                return None
            record = self.find_log(f"^{READY_LINE}$")
            return record if record and is_complete(self.watcher.kids, wanted) else None

        return self._wait_for("the server to be ready with all its children", ready, within)

    def expect_postmaster_lines(
        self, expected: Collection[str], *, launcher_aside: bool = False
    ) -> None:
        """The postmaster has logged exactly this at LOG and above, in this order; not waited for.

        Args:
            expected: the messages.
            launcher_aside: as for postmaster_lines().
        """
        found = self.postmaster_lines(launcher_aside=launcher_aside)
        if found != list(expected):
            raise self.watcher.failure(
                f"exactly these lines of the postmaster: {expected}", str(found)
            )

    def expect_exactly(self, lines: Sequence[Line], names: Mapping[Pid, str] | None = None) -> None:
        """Wait until the postmaster has logged exactly these lines; see the module's docstring.

        Args:
            lines: the lines of 18; steps of pmState are left out before.
            names: what stands for a pid in the lines about a child's death.
        """
        wanted = in_version(lines, self.major)
        self._wait_for(
            f"exactly these lines of the postmaster: {[str(line) for line in wanted]}",
            lambda: same_lines(self.exact_lines(names), wanted),
            deadlines.REACTION_LIMIT,
            describe=lambda: str(self.exact_lines(names)),
        )

    def expect_pmstates(self, expected: list[tuple[str, str]]) -> None:
        """pmState has taken exactly these steps (PM-01); before 18 it is not logged."""
        if self.major < HAS_STEPS:
            return
        found = self.pmstates()
        if found != expected:
            raise self.watcher.failure(
                f"steps of pmState {steps_text(expected)}", steps_text(found) or "none"
            )

    def _wait_for(
        self,
        name: str,
        predicate: Callable[[], Found | None],
        within: float,
        *,
        describe: Callable[[], str] | None = None,
    ) -> Found:
        return self.server.wait_for(name, predicate, within, describe=describe)


def steps_text(steps: Collection[tuple[str, str]]) -> str:
    """Steps of pmState in one line."""
    return ", ".join(f"{before} to {after}" for before, after in steps)
