"""postmaster.pid and the socket lock files: one postmaster for one data directory.

Begin with   DataDirectoryLock.take().
Owns         the eight lines of postmaster.pid, the test for orphans, unlinking at the end.
Leaves out   when a line changes (pm_*.py), the sockets themselves (sockets.py).
Source       utils/init/miscinit.c: CreateLockFile(), AddToDataDirLockFile(),
             RecheckDataDirLockFile(), UnlinkLockFiles(); rules SH-11, SH-12, SH-40..45, SL-09.

DIFFERS: PostgreSQL tells orphans of a dead postmaster by the attach count of a System V segment
whose key comes from the data directory's inode. Our memory is anonymous, so the postmaster holds
a flock on `global/pglife.lock` through a descriptor that every child attached to shared memory
inherits: the kernel frees it when the last of them is gone. Line 7 of the pid file shows the inode
and the generation where PostgreSQL shows key and id.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
from enum import IntEnum

from pglife_impl import ImplError
from pglife_impl.base.words import Level
from pglife_impl.log.elog import log

PID_FILE = "postmaster.pid"


class Line(IntEnum):
    """What stands where in postmaster.pid (4.5)."""

    PID = 1
    DATA_DIRECTORY = 2
    START_TIME = 3
    PORT = 4
    SOCKET_DIRECTORY = 5
    LISTEN_ADDRESS = 6
    SHMEM_KEY = 7
    STATUS = 8


class LockError(ImplError):
    """The lock cannot be had; in PostgreSQL's words."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class LockFiles:
    """Every lock file of this postmaster; the newest is unlinked first."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.start_time = int(time.time())  # of this postmaster, in every lock file
        self.orphan_fd = -1
        self.external_pid_file = ""

    def take_data_directory(self, data_directory: str) -> None:
        """Create postmaster.pid, or say who has it. The caller has made it its working directory.

        The orphan lock comes first: while we hold it no other postmaster gets further than this.
        """
        self.orphan_fd = os.open(
            os.path.join("global", "pglife.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        content = f"{os.getpid()}\n{data_directory}\n{self.start_time}\n"
        self._create(PID_FILE, content, data_directory, is_socket=False)
        self._no_orphans(data_directory)

    def take_socket(self, socket_path: str, data_directory: str, port: int) -> None:
        """Create the lock file beside a Unix socket."""
        content = f"{os.getpid()}\n{data_directory}\n{self.start_time}\n{port}\n"
        directory = os.path.dirname(socket_path)
        self._create(f"{socket_path}.lock", content + f"{directory}\n", socket_path, is_socket=True)

    def _create(self, path: str, content: str, subject: str, *, is_socket: bool) -> None:
        shown = path if is_socket else PID_FILE
        for _ in range(100):
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
            except FileExistsError:
                self._remove_if_stale(path, shown, subject, is_socket=is_socket)
                continue
            except OSError as e:
                raise LockError(f'could not create lock file "{shown}": {e.strerror}') from e
            try:
                os.write(fd, content.encode("utf-8", "surrogateescape"))
            finally:
                os.close(fd)
            self.paths.append(os.path.abspath(path))
            return
        raise LockError(f'could not create lock file "{shown}": File exists')

    def _remove_if_stale(self, path: str, shown: str, subject: str, *, is_socket: bool) -> None:
        """SH-43, SH-44: the file of a living process ends us, that of a dead one goes."""
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                lines = file.read().split("\n")
        except FileNotFoundError:
            return
        except OSError as e:
            raise LockError(f'could not open lock file "{shown}": {e.strerror}') from e
        if lines == [""]:
            raise LockError(
                f'lock file "{shown}" is empty',
                "Either another server is starting, or the lock file is the remnant of a"
                " previous server startup crash.",
            )
        other = _leading_number(lines[0])
        if other == 0:
            content = "\n".join(lines)
            raise LockError(f'bogus data in lock file "{shown}": "{content}"')
        if alive(abs(other)):
            raise LockError(
                f'lock file "{shown}" already exists', _who_has_it(other, subject, is_socket)
            )
        if not is_socket:
            self._no_orphans(subject, lines)
        try:
            os.unlink(path)
        except OSError as e:
            raise LockError(
                f'could not remove old lock file "{shown}": {e.strerror}',
                "The file seems accidentally left over, but it could not be removed."
                " Please remove the file by hand and try again.",
            ) from e

    def _no_orphans(self, data_directory: str, lines: list[str] | None = None) -> None:
        """SH-44, SH-45: refuse while somebody of an earlier life still has the shared memory."""
        try:
            fcntl.flock(self.orphan_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            key, ident = shmem_key(0)
            words = lines[Line.SHMEM_KEY - 1].split() if lines and len(lines) > 6 else []
            if len(words) == 2:
                key, ident = int(words[0]), int(words[1])
            raise LockError(
                f"pre-existing shared memory block (key {key}, ID {ident}) is still in use",
                "Terminate any old server processes associated with data directory"
                f' "{data_directory}".',
            ) from None

    def put_line(self, line: Line, text: str) -> None:
        """Rewrite one line of postmaster.pid, keeping the others. In one write, as a reader that
        comes in the middle must not see half a file."""
        try:
            fd = os.open(self.paths[0], os.O_RDWR | os.O_CLOEXEC)
        except OSError as e:  # somebody took the file away: SL-09 will see it
            log(Level.LOG, f'could not open file "{PID_FILE}": {e.strerror}')
            return
        try:
            self._rewrite(fd, line, text)
        except OSError as e:  # a full disk is no reason to end a server
            log(Level.LOG, f'could not write to file "{PID_FILE}": {e.strerror}')
        finally:
            os.close(fd)

    def _rewrite(self, fd: int, line: Line, text: str) -> None:
        data = os.read(fd, 65536).decode("utf-8", "surrogateescape")
        lines = data.split("\n")[:-1] if data.endswith("\n") else data.split("\n")
        lines += [""] * (line - len(lines))
        lines[line - 1] = text
        new = ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")
        if os.pwrite(fd, new, 0) != len(new):
            # A short write sets no errno; it is taken for a full disk.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.ftruncate(fd, len(new))

    def still_ours(self) -> bool:
        """SL-09: is postmaster.pid there, and our pid in it? Other troubles count as yes."""
        try:
            fd = os.open(PID_FILE, os.O_RDWR | os.O_CLOEXEC)
        except OSError as e:
            is_gone = e.errno in (errno.ENOENT, errno.ENOTDIR)
            rest = "" if is_gone else "; continuing anyway"
            log(Level.LOG, f'could not open file "{PID_FILE}": {e.strerror}{rest}')
            return not is_gone
        try:
            text = os.read(fd, 65536).decode("utf-8", "surrogateescape")
        except OSError as e:
            log(Level.LOG, f'could not read from file "{PID_FILE}": {e.strerror}')
            return True
        finally:
            os.close(fd)
        found = _leading_number(text)
        if found != os.getpid():
            told = f"contains wrong PID: {found} instead of {os.getpid()}"
            log(Level.LOG, f'lock file "{PID_FILE}" {told}')
        return found == os.getpid()

    def touch_sockets(self) -> None:
        """SL-10: keep cleaners of /tmp away."""
        for path in self.paths[1:]:
            for name in (path, path.removesuffix(".lock")):
                try:
                    os.utime(name)
                except OSError:
                    continue

    def unlink_all(self) -> None:
        """SH-12: the newest first, without looking whose they are."""
        for path in reversed(self.paths):
            try:
                os.unlink(path)
            except OSError:
                continue
        self.paths.clear()


def shmem_key(generation: int) -> tuple[int, int]:
    """What stands for System V key and id: the directory's inode, and the generation."""
    return os.stat(".").st_ino & 0x7FFFFFFF, generation


def alive(pid: int) -> bool:
    """SH-43: is that another living process of ours? Our own line and other users' are stale."""
    if pid in _family():
        return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _leading_number(text: str) -> int:
    """As atoi reads it: what does not begin with a number is 0."""
    match = re.match(r"\s*([+-]?\d+)", text)
    return int(match[1]) if match else 0


def _family() -> set[int]:
    """Pids that a stale file of ours may carry: we, our parent, and the grandparent."""
    family = {os.getpid(), os.getppid()}
    grandparent = os.environ.get("PG_GRANDPARENT_PID", "")
    if grandparent.isdigit():
        family.add(int(grandparent))
    return family


def _who_has_it(pid: int, subject: str, is_socket: bool) -> str:
    who = "postgres" if pid < 0 else "postmaster"
    if is_socket:
        return f'Is another {who} (PID {abs(pid)}) using socket file "{subject}"?'
    return f'Is another {who} (PID {abs(pid)}) running in data directory "{subject}"?'
