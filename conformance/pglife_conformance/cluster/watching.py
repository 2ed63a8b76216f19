"""Looking at one server: all evidence gathered in one place, and waiting for it.

Begin with   Watcher.look() and Watcher.wait_for().
Owns         the one stream of observations, the waits with name and deadline, and telling a
             server that hangs from one that is slow.
Leaves out   what is done to the server (cluster.py), what is allowed (the monitor).
Source       DESIGN section 4 (Evidence).

Waits poll with a growing pause and are woken early by what the kernel announces: a child's end
(pidfd), a line in the log or a change of the pid file (inotify). Births and titles have no
announcement that an ordinary user may hear, hence the polling.
"""

from __future__ import annotations

import ctypes
import os
import select
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from pglife_conformance.base.failures import Expectation, Hang
from pglife_conformance.base.overload import note_wait
from pglife_conformance.cluster.postmaster import Postmaster
from pglife_conformance.events import Answer, Observation, Recorder, Stimulus
from pglife_conformance.observation.log import LogRecord, LogTail
from pglife_conformance.observation.pid_file import read_pid_file
from pglife_conformance.observation.processes import Child, Family

Found = TypeVar("Found")

_FIRST_PAUSE_S = 0.001
_LONGEST_PAUSE_S = 0.016
_LOG_LINES_SHOWN = 15
_IDLE_SHARE = 0.2
"""A family that uses less than this share of a processor, and changes nothing, does nothing."""

_IN_MODIFY = 0x2
_IN_CREATE = 0x100
_IN_DELETE = 0x200
_IN_NONBLOCK = os.O_NONBLOCK
_IN_CLOEXEC = os.O_CLOEXEC
_LIBC = ctypes.CDLL(None, use_errno=True)


def _is_something(found: object) -> bool:
    """Whether a wait is over that has found this; no rows are no evidence."""
    return found is not False and not (isinstance(found, Collection) and len(found) == 0)


class Alarm:
    """inotify: readable when one of the watched files has changed."""

    def __init__(self) -> None:
        self.fd: int = _LIBC.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC)

    def watch(self, path: Path) -> None:
        """Notice changes of this file, or of files in this directory."""
        if self.fd >= 0:
            mask = _IN_MODIFY | _IN_CREATE | _IN_DELETE
            _LIBC.inotify_add_watch(self.fd, os.fsencode(path), mask)

    def clear(self) -> None:
        """Forget what has been announced."""
        try:
            os.read(self.fd, 65536)
        except OSError:
            return

    def close(self) -> None:
        """Give the descriptor back."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Watcher:
    """All that can be seen of one cluster."""

    def __init__(self, data: Path, log: LogTail, scale: float, cluster_name: str = "") -> None:
        self.log = log
        self.recorders: list[Recorder] = []
        self.last: Observation | None = None
        self.postmaster: Postmaster | None = None
        self.seen_pids: set[int] = set()
        self._data = data
        self._scale = scale
        self.cluster_name = cluster_name
        self._family: Family | None = None
        self._alarm = Alarm()
        self._was_flooded = False

    # Looking.

    def attach(self, postmaster: Postmaster) -> None:
        """From now on this is the postmaster."""
        if self._family is not None:
            self._family.close()
        self.postmaster = postmaster
        self._family = Family(postmaster.pid, self.cluster_name)
        self._alarm.watch(self._data)

    def also_watch(self, path: Path) -> None:
        """Be woken by this file too."""
        self._alarm.watch(path)

    def stimulus(self, stimulus: Stimulus) -> None:
        """Tell the recorders what is about to be done, after a last look at what was before."""
        if self.recorders:
            self.look()
        for recorder in self.recorders:
            recorder.stimulus(stimulus)

    def look(self, answer: Answer | None = None) -> Observation:
        """Gather all evidence; the recorders hear of it if it is any different.

        The exit status is asked first: whatever the log says after it has ended is complete.

        Raises:
            Expectation: once, when the server has written more in its log than is read.
        """
        code = self.postmaster.exit_code() if self.postmaster is not None else None
        kids, births, deaths = self._family.look() if self._family is not None else ((), (), ())
        pid_file = read_pid_file(self._data)
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
            or bool(seen.log or seen.births or seen.deaths or seen.answer)
            or seen.kids != last.kids
            or seen.pid_file != last.pid_file
            or seen.exit_code != last.exit_code
        )

    @property
    def kids(self) -> tuple[Child, ...]:
        """The children as of the last look."""
        return self.last.kids if self.last is not None else ()

    # Waiting.

    def wait_for(
        self,
        name: str,
        predicate: Callable[[], Found | None],
        limit_s: float,
        *,
        describe: Callable[[], str] | None = None,
    ) -> Found:
        """Look until the predicate gives something; its value is returned.

        None, False and an empty collection are nothing yet. `name` says what is waited for and
        becomes the "expected" of a failure.
        """
        began = time.monotonic()
        until = began + limit_s * self._scale
        moved_at, pause = began, _FIRST_PAUSE_S
        cpu_then, cpu_at = self._cpu(), began
        while True:
            # Asked before the look: whoever has been kept waiting looks once more at the end.
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
        if self._alarm.fd >= 0:
            poller.register(self._alarm.fd, select.POLLIN)
        if poller.poll(max(seconds, 0.0) * 1000):
            self._alarm.clear()

    # Telling.

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

    def records(self, since: int = 0) -> list[LogRecord]:
        """What the log has said since this record."""
        return self.log.records[since:]

    def close(self) -> None:
        """Give all descriptors back."""
        if self._family is not None:
            self._family.close()
        self._alarm.close()
