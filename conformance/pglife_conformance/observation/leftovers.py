"""What a server may leave behind: processes, sockets, shared memory.

Begin with processes_in(), left_segments_of() and dynamic_segments_in(). cluster/teardown.py judges
what they find.

Source: SH-12, SH-44; /proc/sysvipc/shm, pg_dynshmem, /proc/PID/cwd.
"""

import ctypes
import os
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

from pglife_conformance.base.ids import Pid
from pglife_conformance.observation.processes import read_stat, read_title

RUN_MARK = "PGLIFE_RUN"
"""Environment variable that every process of a run inherits."""

_IPC_RMID = 0
_CLOCK_LAG_S = 1.0
"""The kernel's times are whole seconds, and up to a tick late."""
_SHM_DEST = 0o1000
"""Mode bit in /proc: the segment is removed, and exists until the last process detaches it."""


@dataclass(frozen=True)
class Process:
    """A process, found by its working directory or environment."""

    pid: Pid
    start_time: int
    title: str

    def __str__(self) -> str:
        return f"process {self.pid} {self.title!r}"


@dataclass(frozen=True)
class SysvSegment:
    """A System V shared memory segment."""

    shmid: int
    creator: Pid

    def __str__(self) -> str:
        return f"System V shared memory segment {self.shmid} (made by {self.creator})"

    def remove(self) -> None:
        """Remove it, if it is still there."""
        libc = ctypes.CDLL(None, use_errno=True)
        libc.shmctl(self.shmid, _IPC_RMID, None)


def processes_in(directory: Path, run_id: str = "") -> list[Process]:
    """Living processes that work in or below this directory, or have the mark of this run.

    Both, because PostgreSQL overwrites its environment with its title.
    """
    inside = os.fspath(directory)
    mark = f"{RUN_MARK}={run_id}".encode() if run_id else b""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        pid = Pid(int(name))
        if not (_works_in(pid, inside) or (mark and _has_mark(pid, mark))):
            continue
        stat = read_stat(pid)
        if stat is not None and stat.state not in "ZX":
            found.append(Process(pid, stat.start_time, read_title(pid)))
    return found


def _works_in(pid: Pid, directory: str) -> bool:
    try:
        cwd = os.readlink(f"/proc/{pid}/cwd").removesuffix(" (deleted)")
    except OSError:
        return False
    return cwd == directory or cwd.startswith(directory + "/")


def _has_mark(pid: Pid, mark: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return mark in file.read().split(b"\0")
    except OSError:
        return False


def sysv_segments_of(creators: Set[Pid], since: float) -> list[SysvSegment]:
    """The segments that these processes have made since a moment (of time.time()).

    An older segment was made by an earlier process with the same pid. Removed ones are left out;
    they may exist for a moment more: reading the command line of an exiting process keeps its
    memory attached.
    """
    try:
        lines = Path("/proc/sysvipc/shm").read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    rows = [dict(zip(lines[0].split(), line.split(), strict=False)) for line in lines[1:]]
    return [
        SysvSegment(int(row["shmid"]), Pid(int(row["cpid"])))
        for row in rows
        if int(row["cpid"]) in creators
        and int(row["ctime"]) >= since - _CLOCK_LAG_S
        and not int(row["perms"], 8) & _SHM_DEST
    ]


def left_segments_of(creators: Set[Pid], since: float) -> list[SysvSegment]:
    """The segments that these processes, all of which have exited, have left behind since then.

    Pids are reused, and soon where many servers are tested side by side: a segment whose maker
    lives belongs to another server, and must not be removed.
    """
    found = sysv_segments_of(creators, since)
    return [segment for segment in found if not _is_alive(segment.creator)]


def _is_alive(pid: Pid) -> bool:
    stat = read_stat(pid)
    return stat is not None and stat.state not in "ZX"


def dynamic_segments_in(data: Path) -> list[str]:
    """Files of dynamic shared memory in a data directory (dynamic_shared_memory_type = mmap)."""
    try:
        return sorted(os.listdir(data / "pg_dynshmem"))
    except FileNotFoundError:
        return []
