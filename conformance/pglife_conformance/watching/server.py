"""A server under observation: its children, its files, and named waits for what it does.

Begin with WatchedServer. Everything here looks and waits; what is done to the server is in
`cluster/`, what its log must say in `expect/`. Each `expect_...` waits for its condition and raises
Expectation, or Hang, after `within` seconds (scaled by --deadline-scale).
"""

import re
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from signal import Signals
from typing import Protocol, TypeVar

from pglife_conformance.base import deadlines
from pglife_conformance.base.ids import Pid
from pglife_conformance.observation.idle import IdleProbe
from pglife_conformance.observation.kinds import Kind, as_kind
from pglife_conformance.observation.leftovers import processes_in
from pglife_conformance.observation.pid_file import PidFile, PidFileStatus, read_pid_file
from pglife_conformance.observation.processes import Child, read_title
from pglife_conformance.observation.signals import pending_signals
from pglife_conformance.observation.sleeping import sleep_ms, sleeps_without_end
from pglife_conformance.watching.postmaster import Postmaster
from pglife_conformance.watching.watcher import Watcher

__tracebackhide__ = True
"""pytest shows the scenario's line, and no frame of this module."""

Found = TypeVar("Found")


class HasPid(Protocol):
    """A child, a session, a postmaster."""

    @property
    def pid(self) -> Pid:
        """Its process id."""


Process = HasPid | Pid


def pid_of(process: Process) -> Pid:
    """The pid of a process that is given as an object or as a pid."""
    return Pid(process) if isinstance(process, int) else process.pid


class WatchedServer:
    """A cluster as one who only watches sees it.

    Args:
        directory: the directory in which all its processes work; its data directory is below it.
        watcher: its evidence.
    """

    def __init__(self, directory: Path, watcher: Watcher) -> None:
        self.directory = directory
        self.watcher = watcher
        self.data = watcher.data

    # The postmaster.

    @property
    def major(self) -> int:
        """The server's major version."""
        return self.watcher.major

    @property
    def pid(self) -> Pid:
        """The postmaster's pid."""
        return self._postmaster().pid

    def is_running(self) -> bool:
        """Whether the postmaster has not exited."""
        return self.watcher.look().exit_code is None

    def expect_exit(self, code: int | None = 0, within: float = deadlines.SHUTDOWN_LIMIT) -> None:
        """Wait for the postmaster's exit and check its exit status; None accepts any status."""
        self.wait_for(
            "the postmaster's exit", lambda: self._postmaster().exit_code() is not None, within
        )
        found = self.watcher.look().exit_code
        if code not in (None, found):
            raise self.watcher.failure(
                f"exit status {code} of the postmaster", f"exit status {found}"
            )

    def expect_no_process(
        self, *but: Process, within: float = deadlines.CRASH_RESTART_LIMIT
    ) -> None:
        """Wait until exactly the processes `but` work in the directory; none by default."""
        left = {pid_of(process) for process in but}
        self.wait_for(
            f"no process but {sorted(left)}" if left else "no process",
            lambda: {process.pid for process in processes_in(self.directory)} == left,
            within,
            describe=lambda: "; ".join(map(str, processes_in(self.directory))),
        )

    # Children.

    def children(self, kind: Kind | str | None = None) -> list[Child]:
        """Living children as of now, oldest first; of one kind if it is named."""
        return self.watcher.children(None if kind is None else as_kind(kind))

    def child(
        self,
        kind: Kind | str,
        within: float = deadlines.REACTION_LIMIT,
        *,
        other_than: Child | Iterable[Child] = (),
    ) -> Child:
        """Wait for a child of this kind and return it, the oldest first.

        Args:
            other_than: children that do not count; for a successor of one that has exited.
        """
        olds = (other_than,) if isinstance(other_than, Child) else tuple(other_than)
        keys = {old.key for old in olds}
        return self.wait_for(
            f"{'another' if keys else 'a'} child of kind {as_kind(kind)}",
            lambda: next((kid for kid in self.children(kind) if kid.key not in keys), None),
            within,
        )

    def child_with_pid(self, pid: Pid) -> Child:
        """Wait for the child with this pid, alive or not yet reaped, and return it."""
        return self.wait_for(
            f"a child with pid {pid}",
            lambda: next((kid for kid in self.watcher.look().kids if kid.pid == pid), None),
            deadlines.REACTION_LIMIT,
        )

    def expect_death(self, child: Child, within: float = deadlines.REACTION_LIMIT) -> None:
        """Wait until this child has exited, whether reaped or not."""

        def has_exited() -> bool:
            return not any(kid.key == child.key and kid.is_alive for kid in self.watcher.kids)

        self.wait_for(f"the end of {child}", has_exited, within)

    def expect_reaped(self, child: Child, within: float = deadlines.REACTION_LIMIT) -> None:
        """Wait until the postmaster has reaped this child."""
        self.wait_for(
            f"{child} to be reaped",
            lambda: all(kid.key != child.key for kid in self.watcher.kids),
            within,
        )

    def expect_count(
        self, kind: Kind | str, count: int, within: float = deadlines.REACTION_LIMIT
    ) -> None:
        """Wait until exactly `count` children of this kind live."""
        self.wait_for(
            f"{count} children of kind {as_kind(kind)}",
            lambda: len(self.children(kind)) == count,
            within,
            describe=self._living,
        )

    def expect_only(self, *children: Child, within: float = deadlines.SHUTDOWN_LIMIT) -> None:
        """Wait until exactly these children live."""
        keys = {child.key for child in children}
        self.wait_for(
            f"only these children: {'; '.join(map(str, children)) or 'none'}",
            lambda: {kid.key for kid in self.children()} == keys,
            within,
            describe=self._living,
        )

    def expect_same_children(self, for_s: float = deadlines.SETTLED) -> None:
        """For `for_s` seconds no child is born and none exits."""
        keys = {kid.key for kid in self.children()}
        self.expect_still(
            "the same children", lambda: {kid.key for kid in self.children()} == keys, for_s
        )

    def expect_no_child(self, kind: Kind | str, for_s: float = deadlines.SETTLED) -> None:
        """For `for_s` seconds no child of this kind lives."""
        self.expect_still(f"no {as_kind(kind)}", lambda: not self.children(kind), for_s)

    # A process, asleep or with signals pending.

    def expect_idle(self, *processes: Process, within: float = deadlines.REACTION_LIMIT) -> None:
        """Wait until each process sleeps with no signal pending: it has done what it had to do.

        Without an argument the postmaster is meant.
        """
        pids = [pid_of(process) for process in processes] or [self.pid]
        rests = [IdleProbe(pid) for pid in pids]
        self.wait_for(
            f"idle: {', '.join(f'{pid} {read_title(pid)!r}' for pid in pids)}",
            lambda: all(rest.is_idle() for rest in rests),
            within,
        )

    def expect_sleep(
        self, process: Process, ms: int | Collection[int], within: float = deadlines.REACTION_LIMIT
    ) -> int:
        """Wait until a process sleeps with this timeout, and return the timeout.

        Args:
            process: the process; it sleeps in epoll_wait(2).
            ms: the timeout in milliseconds, or a range or set of timeouts that are right.
        """
        pid, wanted = pid_of(process), {ms} if isinstance(ms, int) else ms
        return self.wait_for(
            f"a sleep of {ms} ms of {pid} {read_title(pid)!r}",
            lambda: found if (found := sleep_ms(pid)) in wanted else None,
            within,
            describe=lambda: f"{sleep_ms(pid)} ms",
        )

    def expect_endless_sleep(
        self, process: Process, within: float = deadlines.REACTION_LIMIT
    ) -> None:
        """Wait until a process sleeps without a timeout."""
        pid = pid_of(process)
        self.wait_for(
            f"a sleep without a timeout of {pid} {read_title(pid)!r}",
            lambda: sleeps_without_end(pid),
            within,
            describe=lambda: f"{sleep_ms(pid)} ms",
        )

    def expect_pending(
        self, child: Child, *signals: Signals, within: float = deadlines.REACTION_LIMIT
    ) -> None:
        """Wait until exactly these signals of the postmaster are pending in a stopped child."""
        self.wait_for(
            f"pending in {child}: {_names(signals)}",
            lambda: pending_signals(child) == set(signals),
            within,
            describe=lambda: _names(pending_signals(child)),
        )

    def expect_title(
        self, process: Process, pattern: str, within: float = deadlines.REACTION_LIMIT
    ) -> str:
        """Wait until the title of a child matches (re.search), and return the title."""
        pid = pid_of(process)

        def title() -> str:
            return next((kid.title for kid in self.watcher.kids if kid.pid == pid), "")

        def matches() -> str | None:
            found = title()
            return found if re.search(pattern, found) else None

        return self.wait_for(
            f"a title matching {pattern!r} of {pid}",
            matches,
            within,
            describe=lambda: repr(title()),
        )

    # Files.

    def pid_file(self) -> PidFile | None:
        """postmaster.pid, by line; None without one."""
        return read_pid_file(self.data)

    def pid_file_status(self) -> PidFileStatus | None:
        """Line 8 of postmaster.pid."""
        pid_file = self.pid_file()
        return pid_file.status if pid_file is not None else None

    def expect_pid_file(self, status: PidFileStatus, within: float = deadlines.START_LIMIT) -> None:
        """Wait until line 8 of postmaster.pid is this status."""
        self.wait_for(
            f"the pid file to say `{status.value}`",
            lambda: self.pid_file_status() is status,
            within,
        )

    def expect_file(self, path: Path | str, within: float = deadlines.REACTION_LIMIT) -> None:
        """Wait until this file, relative to the data directory, exists."""
        self.wait_for(f"the file {path}", (self.data / path).exists, within)

    def expect_no_file(self, path: Path | str, within: float = deadlines.REACTION_LIMIT) -> None:
        """Wait until this file, relative to the data directory, does not exist."""
        self.wait_for(f"no file {path}", lambda: not (self.data / path).exists(), within)

    # Waiting.

    def wait_for(
        self,
        name: str,
        predicate: Callable[[], Found | None],
        within: float = deadlines.REACTION_LIMIT,
        *,
        describe: Callable[[], str] | None = None,
    ) -> Found:
        """Wait until the predicate gives something; see Watcher.wait_for()."""
        return self.watcher.wait_for(name, predicate, within, describe=describe)

    def expect_still(
        self, name: str, predicate: Callable[[], bool], for_s: float = deadlines.SETTLED
    ) -> None:
        """The predicate is true now and stays so for `for_s` seconds: for "nothing happens"."""
        self.watcher.expect_still(name, predicate, for_s)

    def let_pass(self, seconds: float, since: float | None = None) -> None:
        """Go on looking until `seconds` after `since` (of time.monotonic(), by default now)."""
        until = (time.monotonic() if since is None else since) + seconds
        self.wait_for(
            f"{seconds:g} s to pass",
            lambda: time.monotonic() >= until,
            max(until - time.monotonic(), 0.0) + deadlines.REACTION_LIMIT,
        )

    def _living(self) -> str:
        return "; ".join(map(str, self.children())) or "no children"

    def _postmaster(self) -> Postmaster:
        if self.watcher.postmaster is None:
            raise AssertionError("this cluster has never been started")
        return self.watcher.postmaster


def _names(signals: Iterable[Signals]) -> str:
    return ", ".join(sorted(number.name for number in signals)) or "none"
