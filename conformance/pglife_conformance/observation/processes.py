"""The children of a postmaster, read from /proc: which ones live, in what state, which have gone.

Begin with ChildTable.look(). A child is identified by pid and start time together, for pids are
reused. A zombie has no title any more, so its kind is remembered. `children` of /proc may omit a
child while another one exits; so a look is repeated until the list is the same before and after
it, and a known child whose pidfd says that it is alive is read by itself.

Source: proc(5), pidfd_open(2).
"""

import os
import select
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pglife_conformance.base.ids import Pid
from pglife_conformance.observation.files import read_whole
from pglife_conformance.observation.kinds import PREFIX, Kind, kind_of_title

_MAX_READINGS = 20
_TAIL = 12
"""A title that ends like the postmaster's command line, in this many letters, is half written."""


class RunState(Enum):
    """The state of a process, as far as its lifecycle is concerned."""

    RUNNING = "running"
    STOPPED = "stopped"
    ZOMBIE = "zombie"


Key = tuple[Pid, int]


@dataclass(frozen=True)
class Child:
    """A direct child of the postmaster as it was at one look."""

    pid: Pid
    start_time: int
    """In clock ticks since boot."""
    kind: Kind
    state: RunState
    title: str

    @property
    def key(self) -> Key:
        """Pid and start time: no later process has both."""
        return self.pid, self.start_time

    @property
    def is_alive(self) -> bool:
        """Whether it has not exited."""
        return self.state is not RunState.ZOMBIE

    def __str__(self) -> str:
        mark = "" if self.state is RunState.RUNNING else f" ({self.state.value})"
        return f"{self.pid} {self.kind}{mark} {self.title!r}"


@dataclass(frozen=True)
class Death:
    """A child that was reaped."""

    child: Child
    """As it was last seen."""


@dataclass(frozen=True)
class Stat:
    """Fields of /proc/PID/stat."""

    pid: Pid
    ppid: Pid
    state: str
    start_time: int
    cpu_ticks: int


def read_stat(pid: Pid) -> Stat | None:
    """The status of a process, or None if there is no process with this pid."""
    try:
        text = read_whole(f"/proc/{pid}/stat")
    except OSError:
        return None
    # The command's name stands in parentheses and may contain anything, parentheses too.
    fields = text[text.rindex(b")") + 2 :].split()
    return Stat(
        pid=pid,
        ppid=Pid(int(fields[1])),
        state=fields[0].decode(),
        start_time=int(fields[19]),
        cpu_ticks=int(fields[11]) + int(fields[12]),
    )


def read_title(pid: Pid) -> str:
    """The command line as `ps` shows it, but with a trailing space where PostgreSQL wrote one."""
    try:
        raw = read_whole(f"/proc/{pid}/cmdline")
    except OSError:
        return ""
    return raw.rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", errors="replace")


def children_of(pid: Pid) -> list[Pid]:
    """Pids of the direct children, oldest first."""
    try:
        return [Pid(int(word)) for word in read_whole(f"/proc/{pid}/task/{pid}/children").split()]
    except FileNotFoundError:
        if Path(f"/proc/{pid}").exists():
            return _children_by_scan(pid)
    except ProcessLookupError:
        pass
    return []


def _children_by_scan(parent: Pid) -> list[Pid]:
    """For kernels without CONFIG_PROC_CHILDREN."""
    stats = (read_stat(Pid(int(name))) for name in os.listdir("/proc") if name.isdigit())
    ours = [stat for stat in stats if stat is not None and stat.ppid == parent]
    return [stat.pid for stat in sorted(ours, key=lambda stat: (stat.start_time, stat.pid))]


def _state(letter: str) -> RunState:
    if letter in "Tt":
        return RunState.STOPPED
    if letter in "ZX":
        return RunState.ZOMBIE
    return RunState.RUNNING


class ChildTable:
    """The postmaster's children over time."""

    def __init__(self, postmaster: Pid, cluster_name: str = "") -> None:
        self.postmaster = postmaster
        self._cluster_name = cluster_name
        self._tail = read_title(postmaster)[-_TAIL:]
        self._known: dict[Key, Child] = {}
        self._pidfds: dict[Key, int] = {}
        self._ended: list[Key] = []
        """Keys whose pidfd has been seen readable, in that order."""

    def look(self) -> tuple[tuple[Child, ...], tuple[Child, ...], tuple[Death, ...]]:
        """All children, the new ones, and those that were reaped since the last look."""
        now = self._snapshot()
        births = tuple(child for key, child in now.items() if key not in self._known)
        gone = [key for key in self._known if key not in now]
        self._note_ends()
        order = {key: place for place, key in enumerate(self._ended)}
        gone.sort(key=lambda key: order.get(key, len(order)))
        deaths = tuple(Death(self._known[key]) for key in gone)
        for key in gone:
            self._forget(key)
        for child in births:
            self._watch(child)
        self._known = now
        return tuple(now.values()), births, deaths

    def pidfds(self) -> Iterable[int]:
        """One for each living child; each becomes readable when its process ends."""
        self._note_ends()
        ended = set(self._ended)
        return [fd for key, fd in self._pidfds.items() if key not in ended]

    def cpu_ticks(self) -> int:
        """Processor time used so far by the postmaster and its children."""
        pids = [self.postmaster, *(child.pid for child in self._known.values())]
        return sum(stat.cpu_ticks for stat in map(read_stat, pids) if stat is not None)

    def close(self) -> None:
        """Close the pidfds."""
        for fd in self._pidfds.values():
            os.close(fd)
        self._pidfds.clear()

    def _snapshot(self) -> dict[Key, Child]:
        pids = children_of(self.postmaster)
        reading = self._reading(pids)
        for _ in range(_MAX_READINGS):
            after = children_of(self.postmaster)
            if after == pids:
                break
            pids = after
            reading = self._reading(pids)
        return reading

    def _reading(self, pids: Iterable[Pid]) -> dict[Key, Child]:
        children: dict[Key, Child] = {}
        for pid in pids:
            child = self._read(pid)
            if child is not None:
                children[child.key] = child
        for key in self._known:
            if key not in children:
                missed = self._read(key[0], known=True)
                if missed is not None and missed.key == key:
                    children[key] = missed
        return dict(sorted(children.items(), key=lambda item: (item[0][1], item[0][0])))

    def _read(self, pid: Pid, known: bool = False) -> Child | None:
        stat = read_stat(pid)
        if stat is None:
            return None
        if stat.ppid != self.postmaster and not self._is_orphan(stat, known):
            return None
        state = _state(stat.state)
        last = self._known.get((pid, stat.start_time))
        title = read_title(pid) if state is not RunState.ZOMBIE else ""
        if self._tail and title.startswith(PREFIX) and title.endswith(self._tail):
            # The title is just being written over the postmaster's command line.
            kind = last.kind if last is not None else Kind.UNKNOWN
        elif title:
            kind = kind_of_title(title, self._cluster_name)
        else:
            # The command line empties a moment before the state says zombie.
            kind = last.kind if last is not None else Kind.UNKNOWN
            title = last.title if last is not None else ""
        if last is not None and (last.kind, last.state, last.title) == (kind, state, title):
            return last
        return Child(pid, stat.start_time, kind, state, title)

    def _is_orphan(self, stat: Stat, known: bool) -> bool:
        """A child that has outlived its postmaster counts as a child until it exits."""
        if not known or (stat.pid, stat.start_time) not in self._known:
            return False
        # Adopted by the suite. Left unreaped, as evidence that the postmaster did not reap it.
        return not (_state(stat.state) is RunState.ZOMBIE and stat.ppid == os.getpid())

    def _watch(self, child: Child) -> None:
        try:
            self._pidfds[child.key] = os.pidfd_open(child.pid)
        except OSError:
            self._ended.append(child.key)

    def _forget(self, key: Key) -> None:
        fd = self._pidfds.pop(key, None)
        if fd is not None:
            os.close(fd)
        if key in self._ended:
            self._ended.remove(key)

    def _note_ends(self) -> None:
        if not self._pidfds:
            return
        by_fd = {fd: key for key, fd in self._pidfds.items() if key not in self._ended}
        poller = select.poll()
        for fd in by_fd:
            poller.register(fd, select.POLLIN)
        self._ended += [by_fd[fd] for fd, _ in poller.poll(0)]
