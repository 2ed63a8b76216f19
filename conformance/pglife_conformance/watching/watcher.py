"""Watching one server: all evidence gathered in one place, and waiting for it.

Begin with Watcher.look() and Watcher.wait_for(). Waits poll with a growing pause and are woken
early by what the kernel announces: a child's exit (pidfd), a line in the log or a change of the
pid file (inotify). The kernel announces no births and no titles to an ordinary user, hence the
polling.
"""

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import SupportsIndex, TypeVar

from inotify_simple import INotify, flags

from pglife_conformance.base.failures import Expectation, Hang
from pglife_conformance.base.ids import Pid
from pglife_conformance.base.overload import note_wait
from pglife_conformance.events import Answer, Observation, Recorder, Stimulus
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.log import LogRecord, LogTail
from pglife_conformance.observation.pid_file import read_pid_file
from pglife_conformance.observation.processes import Child, ChildTable, RunState
from pglife_conformance.watching.postmaster import Postmaster

__tracebackhide__ = True
"""pytest shows the scenario's line, and no frame of this module."""

Found = TypeVar("Found")

_FIRST_PAUSE_S = 0.001
_LONGEST_PAUSE_S = 0.016
_LOG_LINES_SHOWN = 15
_IDLE_SHARE = 0.2
"""A server that uses less than this share of a processor and changes nothing does nothing."""

_CHANGES = flags.MODIFY | flags.CREATE | flags.DELETE


def _is_something(found: object) -> bool:
    """Whether a predicate's value ends a wait; an empty collection does not."""
    return found is not False and not (isinstance(found, Collection) and len(found) == 0)


def _inotify() -> INotify | None:
    """None where the user's limit of inotify instances is reached: then polling must do."""
    try:
        return INotify()
    except OSError:
        return None


class Watcher:
    """All that can be seen of one cluster.

    Args:
        data: the data directory.
        log: the tail of the server's log files.
        scale: factor for all deadlines.
        major: the server's major version.
        settings: the configuration that the suite has written; the caller goes on changing it.
    """

    def __init__(
        self,
        data: Path,
        log: LogTail,
        scale: float,
        *,
        major: int = 18,
        settings: dict[str, str] | None = None,
    ) -> None:
        self.data = data
        self.log = log
        self.major = major
        self.settings = {} if settings is None else settings
        self.recorders: list[Recorder] = []
        self.last: Observation | None = None
        self.postmaster: Postmaster | None = None
        self.postmaster_pids: set[Pid] = set()
        """Of every postmaster that this cluster has had."""
        self.seen_pids: set[Pid] = set()
        self.made_at = time.time()
        """A moment before the cluster's first process."""
        self.cluster_name = ""
        self._scale = scale
        self._family: ChildTable | None = None
        self._inotify = _inotify()
        self._was_flooded = False

    # Looking.

    def attach(self, postmaster: Postmaster) -> None:
        """Watch this postmaster from now on."""
        if self._family is not None:
            self._family.close()
        self.postmaster = postmaster
        self.postmaster_pids.add(postmaster.pid)
        self._family = ChildTable(postmaster.pid, self.cluster_name)
        self.also_watch(self.data)

    def also_watch(self, path: Path) -> None:
        """End pauses early when this file, or a file in this directory, changes."""
        if self._inotify is not None:
            with contextlib.suppress(FileNotFoundError):
                self._inotify.add_watch(path, _CHANGES)

    def stimulus(self, stimulus: Stimulus) -> None:
        """Report to the recorders what is about to be done, after a last look."""
        if self.recorders:
            self.look()
        for recorder in self.recorders:
            recorder.stimulus(stimulus)

    def look(self, answer: Answer | None = None) -> Observation:
        """Gather all evidence; recorders receive it if it differs from the last look.

        The exit status is read first: whatever the log says after the exit is complete.

        Raises:
            Expectation: once, when the server has written more in its log than is read.
        """
        code = self.postmaster.exit_code() if self.postmaster is not None else None
        kids, births, deaths = self._family.look() if self._family is not None else ((), (), ())
        pid_file = read_pid_file(self.data)
        self.seen_pids.update(child.pid for child in births)
        seen = Observation(
            at=time.monotonic(),
            kids=kids,
            births=births,
            deaths=deaths,
            log=tuple(self.log.read()),
            pid_file=pid_file.status if pid_file is not None else None,
            exit_code=code,
            answer=answer,
        )
        if self.log.is_flooded and not self._was_flooded:
            self._was_flooded = True
            self.last = seen
            raise self.failure(
                "a server that does not write in its log all the time", self.summary()
            )
        if self._differs(seen):
            for recorder in self.recorders:
                recorder.look(seen)
        self.last = seen
        return seen

    def _differs(self, seen: Observation) -> bool:
        last = self.last
        return (
            last is None
            or seen.answer is not None
            or self._moved(last, seen)
            or (seen.exit_code != last.exit_code)
        )

    @property
    def kids(self) -> tuple[Child, ...]:
        """The children as of the last look, zombies among them."""
        return self.last.kids if self.last is not None else ()

    def children(self, kind: Kind | None = None) -> list[Child]:
        """Look, and return the living children, oldest first; of one kind if it is named."""
        kids = self.look().kids
        return [kid for kid in kids if kid.is_alive and kind in (None, kid.kind)]

    # Waiting.

    def wait_for(
        self,
        name: str,
        predicate: Callable[[], Found | None],
        limit_s: float,
        *,
        describe: Callable[[], str] | None = None,
    ) -> Found:
        """Look until the predicate gives something, and return that.

        Args:
            name: what is waited for; the "expected" of a failure.
            predicate: called after each look. None, False and an empty collection are nothing yet.
            limit_s: the deadline in seconds, scaled by --deadline-scale.
            describe: what to report as observed, in place of the server's state.

        Raises:
            Hang: the deadline has passed, and nothing at all had moved.
            Expectation: the deadline has passed.
        """
        began = time.monotonic()
        until = began + limit_s * self._scale
        moved_at, pause = began, _FIRST_PAUSE_S
        cpu_then, cpu_at = self._cpu(), began
        while True:
            # Read before the look: a wait that was kept from the processor looks once more.
            now = time.monotonic()
            before = self.last
            seen = self.look()
            found = predicate()
            if found is not None and _is_something(found):
                return found
            if before is None or self._moved(before, seen):
                moved_at, pause = now, _FIRST_PAUSE_S
                cpu_then, cpu_at = self._cpu(), now
            if now >= until:
                cpu = (self._cpu() - cpu_then) / os.sysconf("SC_CLK_TCK") / max(now - cpu_at, 0.01)
                hangs = now - moved_at > (until - began) / 2 and cpu < _IDLE_SHARE
                raise self.failure(
                    f"{name}, within {until - began:g} s",
                    describe() if describe is not None else self.summary(),
                    hangs=hangs,
                )
            self._pause(min(pause, max(until - time.monotonic(), 0.0)))
            note_wait(pause, time.monotonic() - now)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def expect_still(self, name: str, predicate: Callable[[], bool], for_s: float) -> None:
        """The predicate is true now and stays so for `for_s` seconds.

        Raises:
            Expectation: it has become false.
        """
        try:
            self.wait_for(name, lambda: not predicate(), for_s)
        except Expectation:
            return
        raise self.failure(name, self.summary())

    def _moved(self, before: Observation, seen: Observation) -> bool:
        return (
            bool(seen.log or seen.births or seen.deaths)
            or seen.kids != before.kids
            or seen.pid_file != before.pid_file
        )

    def _cpu(self) -> int:
        return self._family.cpu_ticks() if self._family is not None else 0

    def _pause(self, seconds: float) -> None:
        poller = select.poll()
        if self._family is not None:
            for fd in self._family.pidfds():
                poller.register(fd, select.POLLIN)
        if self._inotify is not None:
            poller.register(self._inotify.fileno(), select.POLLIN)
        if poller.poll(max(seconds, 0.0) * 1000) and self._inotify is not None:
            self._inotify.read(timeout=0)

    # Reporting.

    def failure(self, expected: str, observed: str, *, hangs: bool = False) -> Expectation:
        """The exception for what was expected and what was seen instead, with all evidence."""
        kind = Hang if hangs else Expectation
        return kind(expected, observed, self.evidence())

    def summary(self) -> str:
        """The state of the server in one line."""
        seen = self.last
        if seen is None:
            return "nothing: it was never started"
        if seen.exit_code is not None:
            life = f"exited with {seen.exit_code}"
        else:
            life = f"running with {len(seen.kids)} children"
        status = seen.pid_file.value if seen.pid_file is not None else "none"
        last_line = next((r.message for r in reversed(self.log.records) if r.level == "LOG"), "")
        return f'{life}; pid file status {status}; last LOG line "{last_line}"'

    def evidence(self) -> str:
        """Processes and the end of the log."""
        lines = ["processes"]
        if self.postmaster is not None:
            lines.append(f"  {self.postmaster.pid} postmaster")
        lines += [f"  {child}" for child in self.kids]
        lines.append("log")
        lines += [f"  {record}" for record in self.log.records[-_LOG_LINES_SHOWN:]]
        return "\n".join(lines)

    def records(self, since: SupportsIndex = 0) -> list[LogRecord]:
        """The log records from this index on."""
        return self.log.records[since:]

    # Ending.

    def continue_stopped(self) -> None:
        """Send SIGCONT to the postmaster and to each stopped child."""
        if self.postmaster is None:
            return
        if self.postmaster.exit_code() is None:
            os.kill(self.postmaster.pid, signal.SIGCONT)
        for child in self.look().kids:
            if child.state is RunState.STOPPED:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGCONT)

    def close(self) -> None:
        """Close all descriptors."""
        if self._family is not None:
            self._family.close()
        if self._inotify is not None:
            self._inotify.close()
