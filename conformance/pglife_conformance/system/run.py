"""One run of the suite: its directory, its mark, and the sweeping of runs that were killed.

Begin with   Run.begin(), then sweep().
Owns         <tmp>/pglife-<uid>/<run id>/ with a lock that the run holds while it lives.
Leaves out   the end of one cluster (cleanup.py).
Source       issue 2, "Done when".

A run that was killed with SIGKILL holds its lock no longer. The next run takes such a lock, ends
exactly the processes that work in that run's directory or carry its mark, removes the shared
memory that they made, and then the directory. The directory is written before the first process
is started, so there is no moment in which a process could be without a trace.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pglife_conformance.base.failures import UnusableTarget
from pglife_conformance.observation.leftovers import Process, left_segments_of, processes_in
from pglife_conformance.system.cleanup import end_processes, stop_postmasters
from pglife_conformance.system.privilege import ServerUser

_LOCK = "lock"
_POSTMASTERS = "postmasters"
_PLACE = "place"
_PLENTY = 4 << 30


@dataclass
class Run:
    """This run's places on disk."""

    id: str
    directory: Path
    """In the registry: the lock and the notes for a sweep."""
    place: Path
    """Where the clusters are."""
    _lock: int

    @classmethod
    def begin(cls) -> Run:
        """Make the directory and hold its lock until the process ends."""
        base = registry()
        base.mkdir(mode=0o711, exist_ok=True)
        if base.is_symlink() or base.stat().st_uid != os.getuid():
            raise UnusableTarget(f"{base} is not ours; set TMPDIR to a place of your own")
        run_id = f"{os.getpid()}-{secrets.token_hex(3)}"
        directory = base / run_id
        directory.mkdir(mode=0o711)
        (directory / _POSTMASTERS).touch()
        # Locked before it has its name: a sweep never finds it free while we live.
        nameless = directory / "lock.new"
        lock = os.open(nameless, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        nameless.rename(directory / _LOCK)
        place = _room_for_clusters(directory)
        (directory / _PLACE).write_text(str(place), encoding="utf-8")
        place.mkdir(mode=0o711, exist_ok=True)
        return cls(run_id, directory, place, lock)

    def place_for(self, name: str, user: ServerUser) -> Path:
        """A fresh directory that belongs to the server's user."""
        # Short, for sockets lie below it; so one that is there already does come up.
        while True:
            path = self.place / f"{name}{secrets.token_hex(2)}"
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700)
                user.chown(path)
                return path

    def note_postmaster(self, pid: int) -> None:
        """Remember who made shared memory, for a sweep after our death."""
        with (self.directory / _POSTMASTERS).open("a", encoding="ascii") as file:
            file.write(f"{pid}\n")

    def end(self, keep: bool) -> None:
        """End what is left of this run and let go of its place.

        Without its lock a run is none of a later sweep's business: what is kept stays kept.
        """
        wipe(self.directory, keep=keep)
        if keep:
            (self.directory / _LOCK).unlink()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _room_for_clusters(directory: Path) -> Path:
    """In memory if there is plenty: copying a cluster is twenty times as fast there.

    A TMPDIR that somebody has set is obeyed.
    """
    memory = Path("/dev/shm")
    if "TMPDIR" not in os.environ and os.access(memory, os.W_OK):
        free = shutil.disk_usage(memory).free
        if free >= _PLENTY:
            return memory / f"pglife-{os.getuid()}-{directory.name}"
    return directory


def registry() -> Path:
    """Where the runs of this user have their directories."""
    return Path(tempfile.gettempdir()) / f"pglife-{os.getuid()}"


def sweep() -> list[str]:
    """End and remove what dead runs have left; returns their ids."""
    swept = []
    for directory in sorted(registry().glob("*/")):
        lock = _take_lock(directory)
        if lock is None:
            continue
        wipe(directory, keep=False)
        swept.append(directory.name)
        os.close(lock)
    return swept


def _take_lock(directory: Path) -> int | None:
    """The lock of a run that is dead; None if it lives or is none of ours."""
    try:
        lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def wipe(directory: Path, *, keep: bool) -> None:
    """End all processes of a run, then remove shared memory and files."""
    places = {directory}
    with contextlib.suppress(OSError):
        places.add(Path((directory / _PLACE).read_text(encoding="utf-8")))

    def left() -> list[Process]:
        return [found for place in places for found in processes_in(place, directory.name)]

    makers: set[int] = set()
    with contextlib.suppress(OSError):
        makers = {int(line) for line in (directory / _POSTMASTERS).read_text().split()}
    # One that was killed before it was noted has made its segment all the same.
    makers |= {process.pid for process in left()}
    # Politely first: a postmaster knows best which shared memory is its own.
    stop_postmasters(left)
    end_processes(left, signal.SIGKILL)
    with contextlib.suppress(OSError):
        began = (directory / _PLACE).stat().st_mtime
        for segment in left_segments_of(makers, began):
            segment.remove()
    if not keep:
        for place in places:
            shutil.rmtree(place, ignore_errors=True)
