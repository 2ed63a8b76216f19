"""One run of the suite: its directory, its mark, and the sweeping of runs that were killed.

Begin with Run.begin(), then sweep(). A run has a directory <tmp>/pglife-<uid>/<run id>/ with a lock
that it holds while it lives. The next run takes the lock of a run that was killed, ends exactly
the processes that work in that run's directory or have its mark, removes the shared memory that
they made, and then the directory. The directory exists before the first process is started, so
every process can be traced to its run.
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
from pglife_conformance.base.ids import Pid
from pglife_conformance.observation.leftovers import Process, left_segments_of, processes_in
from pglife_conformance.system.cleanup import end_processes, stop_postmasters
from pglife_conformance.system.privilege import ServerUser

_LOCK = "lock"
_POSTMASTERS = "postmasters"
_PLACE = "place"
_PLENTY = 4 << 30


@dataclass
class Run:
    """The directories of one run."""

    id: str
    directory: Path
    """Below registry(): the lock, and what a sweep must know."""
    place: Path
    """The directory of its clusters."""
    _lock: int

    @classmethod
    def begin(cls) -> Run:
        """Make the directory, and hold its lock until the process ends.

        Raises:
            UnusableTarget: the registry belongs to another user.
        """
        base = registry()
        base.mkdir(mode=0o711, exist_ok=True)
        if base.is_symlink() or base.stat().st_uid != os.getuid():
            raise UnusableTarget(f"{base} is not ours; set TMPDIR to a place of your own")
        run_id = f"{os.getpid()}-{secrets.token_hex(3)}"
        directory = base / run_id
        directory.mkdir(mode=0o711)
        (directory / _POSTMASTERS).touch()
        # Locked before it has its name: no sweep finds it unlocked while this run lives.
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
        # Short, since the paths of sockets are limited; so a name may exist already.
        while True:
            path = self.place / f"{name}{secrets.token_hex(2)}"
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700)
                user.chown(path)
                return path

    def note_postmaster(self, pid: Pid) -> None:
        """Note the pid that makes shared memory, for a sweep if this run is killed."""
        with (self.directory / _POSTMASTERS).open("a", encoding="ascii") as file:
            file.write(f"{pid}\n")

    def end(self, keep: bool) -> None:
        """End the run's processes and remove its directories, unless they are to be kept.

        A kept directory has no lock file, so no later sweep removes it.
        """
        wipe(self.directory, keep=keep)
        if keep:
            (self.directory / _LOCK).unlink()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _room_for_clusters(directory: Path) -> Path:
    """A directory in /dev/shm if there is space: a cluster is copied 20 times as fast there.

    If TMPDIR is set, the run's directory.
    """
    memory = Path("/dev/shm")
    if "TMPDIR" not in os.environ and os.access(memory, os.W_OK):
        free = shutil.disk_usage(memory).free
        if free >= _PLENTY:
            return memory / f"pglife-{os.getuid()}-{directory.name}"
    return directory


def registry() -> Path:
    """The directory with one directory for each run of this user."""
    return Path(tempfile.gettempdir()) / f"pglife-{os.getuid()}"


def sweep() -> list[str]:
    """End and remove what killed runs have left; return their ids."""
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
    """Take the lock of a killed run; None if the run lives, or belongs to another user."""
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

    makers: set[Pid] = set()
    with contextlib.suppress(OSError):
        makers = {Pid(int(line)) for line in (directory / _POSTMASTERS).read_text().split()}
    # A postmaster may have been killed before it was noted, and have a segment.
    makers |= {process.pid for process in left()}
    # SIGQUIT first: a postmaster that exits by itself removes its shared memory.
    stop_postmasters(left)
    end_processes(left, signal.SIGKILL)
    with contextlib.suppress(OSError):
        began = (directory / _PLACE).stat().st_mtime
        for segment in left_segments_of(makers, began):
            segment.remove()
    if not keep:
        for place in places:
            shutil.rmtree(place, ignore_errors=True)
