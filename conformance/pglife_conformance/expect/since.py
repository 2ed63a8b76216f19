"""What happens to a server from one moment on: its log, its children, a crash cycle or none.

Begin with Since; `cluster.since()` makes one. Since.expect_crash_restart() is the one complete
judgement of a crash restart, used by every scenario that causes one.

Source: rules CR-01 to CR-25, SH-41; postmaster.c: HandleChildCrash(), PostmasterStateMachine().
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from pglife_conformance.base.deadlines import SIGKILL_TIMEOUT
from pglife_conformance.base.overload import is_overloaded
from pglife_conformance.expect.children import children_when_running
from pglife_conformance.expect.excerpt import HAS_STEPS, Excerpt, steps_text
from pglife_conformance.expect.lines import (
    ABNORMAL,
    READY_LINE,
    REINITIALIZING,
    SHUT_DOWN,
    SIGKILL_ROUND,
    TERMINATING,
)
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.leftovers import sysv_segments_of
from pglife_conformance.observation.processes import Child
from pglife_conformance.watching.server import WatchedServer

__tracebackhide__ = True
"""pytest shows the scenario's line, and no frame of this module."""

_RECOVERING = [
    "database system was interrupted; last known up at",
    "database system was not properly shut down; automatic recovery in progress",
]
_CLEAN = ["database system was shut down at"]

_CYCLE = [
    ("PM_RUN", "PM_WAIT_BACKENDS"),
    ("PM_WAIT_BACKENDS", "PM_WAIT_DEAD_END"),
    ("PM_WAIT_DEAD_END", "PM_NO_CHILDREN"),
    ("PM_NO_CHILDREN", "PM_STARTUP"),
    ("PM_STARTUP", "PM_RECOVERY"),
    ("PM_RECOVERY", "PM_RUN"),
]
_SHORT_CYCLE = [*_CYCLE[:4], ("PM_STARTUP", "PM_RUN")]
"""A postmaster that was kept from the processor reaps the startup process first (PG-21)."""


class Since(Excerpt):
    """An excerpt of the log, and the server as it was at its beginning."""

    def __init__(self, server: WatchedServer, mark: int | None = None) -> None:
        super().__init__(server, mark)
        postmaster = self.watcher.postmaster
        self.postmaster = None if postmaster is None else postmaster.pid
        self.kids = tuple(kid for kid in self.watcher.kids if kid.is_alive)
        """The children that lived at the beginning."""
        pid_file = server.pid_file()
        self.pid_file = () if pid_file is None else pid_file.lines

    def keys(self, *, without: Iterable[Kind] = ()) -> list[tuple[int, int]]:
        """The keys of the children that lived at the beginning, except of these kinds."""
        left_out = set(without)
        return sorted(kid.key for kid in self.kids if kid.kind not in left_out)

    def was_too_slow(self) -> bool:
        """Whether the SIGKILL timeout fired only because the machine is overloaded (SL-05).

        That is no fault of the server's. A SIGKILL round before its time is one, and so is a child
        that does not exit although it gets the processor.
        """
        records = {record.message: record for record in self.postmaster_records()}
        if SIGKILL_ROUND not in records or TERMINATING not in records:
            return False
        took = records[SIGKILL_ROUND].moment - records[TERMINATING].moment
        # The postmaster counts whole seconds, so one less may do.
        return took >= SIGKILL_TIMEOUT - 1 and is_overloaded()

    # A crash.

    def expect_crash_restart(self, death: str | Sequence[str], *, recovers: bool = True) -> None:
        """Wait for one whole crash cycle, and nothing else (CR-02, CR-20, CR-25, SH-41).

        Args:
            death: the line about the first death (killed_line(), exited_line()); or, for a
                crash that is logged otherwise (TR18-25), all lines before the reinitialisation.
            recovers: False if there is a shutdown checkpoint, and so nothing to recover.
        """
        first = [death, TERMINATING] if isinstance(death, str) else death
        self.expect_ready()
        late = [SIGKILL_ROUND] if self.was_too_slow() else []
        self.expect_postmaster_lines([*first, *late, REINITIALIZING, READY_LINE])
        self._expect_recovery(recovers)
        self._expect_cycle(recovers)
        self._expect_same_postmaster()
        self._expect_new_children()

    def _expect_recovery(self, recovers: bool) -> None:
        """One startup process logs what it has found (CR-23, ST-08)."""
        expected = _RECOVERING if recovers else _CLEAN
        records = self.log("LOG", matching="^database system was ")
        lines = [re.sub(r" at \d.*", " at", record.message) for record in records]
        if lines != expected or len({record.pid for record in records}) != 1:
            raise self.watcher.failure(
                f"one startup process that logs {expected}", str([str(r) for r in records])
            )

    def _expect_cycle(self, recovers: bool) -> None:
        if self.major < HAS_STEPS:
            return
        expected = _CYCLE if recovers else _SHORT_CYCLE
        found = self.pmstates()
        if found not in (expected, _SHORT_CYCLE):
            raise self.watcher.failure(
                f"steps of pmState {steps_text(expected)}", steps_text(found)
            )

    def _expect_same_postmaster(self) -> None:
        pid = self.server.pid
        pid_file = self.server.pid_file()
        lines = pid_file.lines if pid_file is not None else ()
        if pid != self.postmaster or lines[:6] != self.pid_file[:6]:
            raise self.watcher.failure(
                f"postmaster.pid as before: {self.pid_file}", f"{lines} of postmaster {pid}"
            )
        if lines[7:] != ("ready   ",):
            raise self.watcher.failure("postmaster.pid says `ready`", str(lines[7:]))
        segments = [s.shmid for s in sysv_segments_of({pid}, self.watcher.made_at)]
        if segments and [int(word) for word in lines[6].split()[1:]] != segments:
            raise self.watcher.failure(
                f"line 7 of postmaster.pid names the shared memory {segments}", lines[6]
            )

    def _expect_new_children(self) -> None:
        kids = self.server.children()
        old = {kid.key for kid in self.kids if kid.kind is not Kind.LOGGER}
        loggers = {kid.key for kid in self.kids if kid.kind is Kind.LOGGER}
        stayed = [kid for kid in kids if kid.key in old]
        if stayed:
            raise self.watcher.failure(
                "every child but the logger is new", "; ".join(map(str, stayed))
            )
        if {kid.key for kid in kids if kid.kind is Kind.LOGGER} != loggers:
            raise self.watcher.failure("the logger stays", "; ".join(map(str, kids)))
        expect_complete(self.server)

    def expect_undisturbed(self, *, said: Iterable[str] = (), gone: Iterable[Child] = ()) -> None:
        """There was no crash: the children live, and the postmaster is the same.

        Args:
            said: all that the postmaster has logged at LOG and above.
            gone: the children that have exited.
        """
        left_out = {child.key for child in gone}
        living = {kid.key for kid in self.server.children()}
        missing = [kid for kid in self.kids if kid.key not in left_out | living]
        if missing:
            raise self.watcher.failure(
                "no other child exits",
                f"gone: {'; '.join(map(str, missing))}; {self.watcher.summary()}",
            )
        self.expect_postmaster_lines(list(said))
        self.expect_pmstates([])
        if self.server.pid != self.postmaster or not self.server.is_running():
            raise self.watcher.failure("the same postmaster", self.watcher.summary())

    def expect_abnormal_exit(self, said: Sequence[str], *, reason: str = ABNORMAL) -> None:
        """The postmaster exits 1 after exactly these lines, `reason` and `... is shut down`.

        The line about the logical replication launcher's exit may be among them (SH-27).

        Args:
            said: the postmaster's lines at LOG and above before the reason.
            reason: the last line but one.
        """
        self.server.expect_exit(code=1)
        self.expect_postmaster_lines([*said, reason, SHUT_DOWN], launcher_aside=True)
        if self.server.pid_file() is not None:
            raise self.watcher.failure("postmaster.pid is gone", "it is there")


def expect_complete(server: WatchedServer, extra: Counter[Kind] | None = None) -> None:
    """Wait until exactly the background processes of a primary in PM_RUN live, and `extra`."""
    wanted = children_when_running(server.major, server.watcher.settings) + (extra or Counter())
    counts = {str(kind): count for kind, count in sorted(wanted.items(), key=lambda i: i[0].value)}
    server.wait_for(
        f"exactly these children: {counts}",
        lambda: Counter(kid.kind for kid in server.children()) == wanted,
        describe=lambda: "; ".join(map(str, server.children())),
    )
