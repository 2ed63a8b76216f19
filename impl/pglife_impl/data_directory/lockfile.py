"""postmaster.pid and the socket lock files: one postmaster for one data directory.

Begin with LockFiles.take_data_directory().
Source: utils/init/miscinit.c: CreateLockFile(), AddToDataDirLockFile(), RecheckDataDirLockFile(),
UnlinkLockFiles(); rules SH-11, SH-12, SH-40..45, SL-09.

DIFFERS: PostgreSQL detects orphans of a dead postmaster by the attach count of a System V segment
whose key comes from the data directory's inode. Shared memory is anonymous here, so the postmaster
holds a flock on `global/pglife.lock` through a descriptor that every attached child inherits; the
kernel frees the lock when the last of them exits. Line 7 of postmaster.pid shows the inode and the
generation in place of key and id.
"""

import contextlib
import errno
import fcntl
import os
import time
from enum import IntEnum

from pglife_impl import ImplError
from pglife_impl.base.texts import atoi
from pglife_impl.base.words import Level
from pglife_impl.log.elog import log

PID_FILE = "postmaster.pid"


class Line(IntEnum):
    """The line numbers of postmaster.pid, from 1."""

    PID = 1
    DATA_DIRECTORY = 2
    START_TIME = 3
    PORT = 4
    SOCKET_DIRECTORY = 5
    LISTEN_ADDRESS = 6
    SHMEM_KEY = 7
    STATUS = 8


class LockError(ImplError):
    """The lock is taken or cannot be created, with PostgreSQL's message."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class LockFiles:
    """The lock files of this postmaster; the newest is unlinked first."""

    orphan_fd: int  # opened by take_data_directory()

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.start_time = int(time.time())  # of this postmaster, in every lock file
        self.external_pid_file = ""

    def take_data_directory(self, data_directory: str) -> None:
        """Create postmaster.pid in the working directory.

        The orphan lock is taken first: a second postmaster cannot pass this point meanwhile.

        Raises:
            LockError: another postmaster, or a child of a dead one, uses the directory.
        """
        self.orphan_fd = os.open(
            os.path.join("global", "pglife.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        content = f"{os.getpid()}\n{data_directory}\n{self.start_time}\n"
        self._create(PID_FILE, content, data_directory, is_socket=False)
        self._no_orphans(data_directory)

    def take_socket(self, socket_path: str, data_directory: str, port: int) -> None:
        """Create the lock file of a Unix socket; LockError if a live process has it."""
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
        """Remove the lock file of a dead process; LockError if it lives (SH-43, SH-44)."""
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
        other = atoi(lines[0])
        if other == 0:
            content = "\n".join(lines)
            raise LockError(f'bogus data in lock file "{shown}": "{content}"')
        if alive(abs(other)):
            raise LockError(
                f'lock file "{shown}" already exists', _owner_hint(other, subject, is_socket)
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
        """LockError while a child of a dead postmaster is attached to its shared memory (SH-45)."""
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
        """Rewrite one line of postmaster.pid, keeping the others.

        The file is written in one call, so that a reader never sees half of it.
        """
        try:
            fd = os.open(self.paths[0], os.O_RDWR | os.O_CLOEXEC)
        except OSError as e:  # the file was removed: the recheck of SL-09 will find out
            log(Level.LOG, f'could not open file "{PID_FILE}": {e.strerror}')
            return
        try:
            self._rewrite(fd, line, text)
        except OSError as e:  # a full disk must not end the server
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
            # A short write sets no errno; PostgreSQL assumes a full disk.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.ftruncate(fd, len(new))

    def still_ours(self) -> bool:
        """Return whether postmaster.pid holds this pid; True if it cannot be read (SL-09)."""
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
        found = atoi(text)
        if found != os.getpid():
            problem = f"contains wrong PID: {found} instead of {os.getpid()}"
            log(Level.LOG, f'lock file "{PID_FILE}" {problem}')
        return found == os.getpid()

    def touch_sockets(self) -> None:
        """Update the times of the socket files, so that cleaners of /tmp spare them (SL-10)."""
        for path in self.paths[1:]:
            for name in (path, path.removesuffix(".lock")):
                try:
                    os.utime(name)
                except OSError:
                    continue

    def unlink_all(self) -> None:
        """Unlink all lock files that do not name another postmaster, the newest first (SH-12).

        DIFFERS: PostgreSQL does not look whose they are. It removes the lock file of a server that
        has taken its place, and that server finds its lock file missing and shuts down, too.
        """
        for path in reversed(self.paths):
            with contextlib.suppress(OSError):
                if not _names_another(path):
                    os.unlink(path)
        self.paths.clear()


def _names_another(path: str) -> bool:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return atoi(file.readline()) not in (0, os.getpid())


def server_lives(data_directory: str) -> bool:
    """Return whether a postmaster or a child of one has the orphan lock of a directory.

    A directory whose lock cannot be looked at may have a server.
    """
    try:
        fd = os.open(os.path.join(data_directory, "global", "pglife.lock"), os.O_RDONLY)
    except OSError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def shmem_key(generation: int) -> tuple[int, int]:
    """Return the values shown as System V key and id: the inode and the generation."""
    return os.stat(".").st_ino & 0x7FFFFFFF, generation


def alive(pid: int) -> bool:
    """Return whether a pid in a lock file means a live process of this user (SH-43)."""
    if pid in _own_pids():
        return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _own_pids() -> set[int]:
    """Return the pids that mean a stale file: this process, its parent and grandparent."""
    pids = {os.getpid(), os.getppid()}
    grandparent = os.environ.get("PG_GRANDPARENT_PID", "")
    if grandparent.isdigit():
        pids.add(int(grandparent))
    return pids


def _owner_hint(pid: int, subject: str, is_socket: bool) -> str:
    who = "postgres" if pid < 0 else "postmaster"
    if is_socket:
        return f'Is another {who} (PID {abs(pid)}) using socket file "{subject}"?'
    return f'Is another {who} (PID {abs(pid)}) running in data directory "{subject}"?'
