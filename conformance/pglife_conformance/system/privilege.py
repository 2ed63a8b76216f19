"""The user that servers run as, since they refuse root, and what it must be able to read.

Begin with server_user(), counted_user() for a server whose processes are counted alone, and
contained_user() for one in namespaces of its own. As an ordinary user the suite runs servers as
itself. As root it runs them as `nobody`, with no supplementary group, by setpriv(1) or else in the
forked child. Where the interpreter or the checkout lies below a directory closed to others (root's
home), the server keeps CAP_DAC_READ_SEARCH as an ambient capability: for reading only, and
PostgreSQL's own checks look at the user, not at capabilities. Rejected: opening up those
directories (they are not the suite's), copying the interpreter (it finds its library by its
location).

RLIMIT_NPROC counts all processes of a user, so a limit that counts one server's processes needs a
user of its own: as root a uid without processes, else a user namespace, in which Linux counts
separately since 5.14. Rejected: tracing the postmaster and stopping it at each fork (its signals
would pass through the tracer), a namespace as root too (the capability to read means nothing in
it).

Source: ST-01, CT-04; credentials(7), capabilities(7).
"""

import contextlib
import ctypes
import os
import pwd
import resource
import stat
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from pglife_conformance.base.ids import Pid
from pglife_conformance.system.dispositions import ignores_nothing, reset_ignored_signals
from pglife_conformance.system.reservations import reserve

_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_SET_CHILD_SUBREAPER = 36
_CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION_3 = 0x20080522
_CLONE_NEWUSER = 0x10000000

_CONTAINED = ("unshare", "--pid", "--ipc", "--fork")

_OWN_UIDS = range(60706, 61184)
"""Assigned by none of the schemes in systemd's list of uids, and below 65536."""

# Loaded before any fork: a forked child does as little as possible.
_LIBC = ctypes.CDLL(None, use_errno=True)


class _CapHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _CapData(ctypes.Structure):
    _fields_ = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


@dataclass(frozen=True)
class ServerUser:
    """The user that servers run as."""

    uid: int
    gid: int
    is_other: bool
    """Whether the suite is root, and a server changes its user."""
    is_counted: bool = False
    """Whether no other process counts towards its limit."""
    is_contained: bool = False
    """Whether each program is the first process of namespaces of its own, as in a container."""
    limit_at_start: int | None = None
    """The soft RLIMIT_NPROC that its programs are started with."""

    def chown(self, path: Path) -> None:
        """Make the server's user the owner of a directory or file."""
        if self.is_other:
            os.chown(path, self.uid, self.gid)

    def by_exec(self, keep_reading: bool) -> list[str] | None:
        """The command that runs another as this user; None if becoming() is needed.

        With it the suite, of some hundred megabytes, is not forked for each program: with nothing
        to do in the child, subprocess uses vfork(2).
        """
        if self.is_counted or self.limit_at_start is not None or not ignores_nothing():
            return None
        words: list[str] = []
        if self.is_contained:
            words += _CONTAINED
        if not self.is_other:
            return [*words, "--user", "--map-current-user"] if words else words
        words += ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups"]
        if keep_reading:
            words += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        return words if _can_be_run(tuple(words)) else None

    def becoming(self, keep_reading: bool) -> Callable[[], None]:
        """A function for the forked child before exec: default signals, this user, its limit."""
        limit = self.limit_at_start

        def become() -> None:
            reset_ignored_signals()
            if self.is_other:
                self._change_user(keep_reading)
            elif self.is_counted:
                _enter_own_namespace(self.uid, self.gid)
            if limit is not None:
                _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
                resource.setrlimit(resource.RLIMIT_NPROC, (limit, hard))

        return become

    def _change_user(self, keep_reading: bool) -> None:
        if keep_reading:
            _LIBC.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
        os.setgroups([])
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)
        if keep_reading:
            _keep_reading()

    def limit_processes(self, pid: Pid, soft: int | None) -> bool:
        """Set the soft RLIMIT_NPROC of one of its processes; None raises it to the hard limit.

        Where the suite is not permitted (root without CAP_SYS_RESOURCE), a child that runs as this
        user sets it; while that child lives it counts towards the limit.

        Returns:
            Whether the limit is set.
        """
        try:
            _limit(pid, soft)
        except PermissionError:
            return self._limit_as_user(pid, soft)
        except ProcessLookupError:
            return False
        return True

    def _limit_as_user(self, pid: Pid, soft: int | None) -> bool:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                if self.is_other:
                    self._change_user(keep_reading=False)
                _limit(pid, soft)
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        return status == 0

    def can_read(self, paths: Iterable[Path]) -> bool:
        """Whether this user can read all of these without the capability."""
        return not self.is_other or all(map(self._reads, paths))

    def _reads(self, path: Path) -> bool:
        real = path.resolve()
        if not self._has(real, stat.S_IRUSR):
            return False
        return all(self._has(parent, stat.S_IXUSR) for parent in real.parents)

    def _has(self, path: Path, bit: int) -> bool:
        try:
            status = path.stat()
        except OSError:
            return False
        if status.st_uid == self.uid:
            return bool(status.st_mode & bit)
        if status.st_gid == self.gid:
            return bool(status.st_mode & (bit >> 3))
        return bool(status.st_mode & (bit >> 6))


@cache
def _can_be_run(words: tuple[str, ...]) -> bool:
    """Whether this setpriv(1) knows all these options; found by running it."""
    try:
        return subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _limit(pid: Pid, soft: int | None) -> None:
    _, hard = resource.prlimit(pid, resource.RLIMIT_NPROC)
    wanted = hard if soft is None else soft
    resource.prlimit(pid, resource.RLIMIT_NPROC, (wanted, hard))


def _keep_reading() -> None:
    bit = 1 << _CAP_DAC_READ_SEARCH
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    data = (_CapData * 2)(_CapData(bit, bit, bit), _CapData(0, 0, 0))
    if _LIBC.capset(ctypes.byref(header), data) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    if _LIBC.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_READ_SEARCH, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_CAP_AMBIENT)")


def server_user() -> ServerUser:
    """The user that servers of this run are started as."""
    if os.geteuid() != 0:
        return ServerUser(os.geteuid(), os.getegid(), is_other=False)
    for name in ("nobody", "postgres"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return ServerUser(entry.pw_uid, entry.pw_gid, is_other=True)
    return ServerUser(65534, 65534, is_other=True)


def can_be_counted(user: ServerUser) -> bool:
    """Whether counted_user() works on this machine."""
    return user.is_other or _namespaces_count_apart()


def contained_user(user: ServerUser) -> ServerUser:
    """A user like `user` each of whose programs runs in pid and IPC namespaces of its own."""
    return replace(user, is_contained=True)


def can_be_contained(user: ServerUser) -> bool:
    """Whether contained_user() works on this machine."""
    words = contained_user(user).by_exec(keep_reading=False)
    return words is not None and _can_be_run(tuple(words))


def counted_user(user: ServerUser) -> ServerUser:
    """A user like `user` whose processes are counted alone, for one server."""
    if not user.is_other:
        return replace(user, is_counted=True)
    uid = _uid_without_processes()
    return replace(user, uid=uid, gid=uid, is_counted=True)


def _uid_without_processes() -> int:
    """A uid without a name and without processes, reserved for this run."""
    begin = os.getpid() % len(_OWN_UIDS)
    used = {entry.pw_uid for entry in pwd.getpwall()}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            used.add(process.stat().st_uid)
    in_turn: list[int] = [*_OWN_UIDS[begin:], *_OWN_UIDS[:begin]]
    return next(uid for uid in in_turn if uid not in used and reserve(f"uid-{uid}"))


def _enter_own_namespace(uid: int, gid: int) -> None:
    """Enter a user namespace in which this user has the same uid as outside."""
    if _LIBC.unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWUSER)")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        file = os.open(f"/proc/self/{name}", os.O_WRONLY)
        os.write(file, text.encode())
        os.close(file)


@cache
def _namespaces_count_apart() -> bool:
    """Whether a process in its own namespace, with a limit of two, can have one child."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _enter_own_namespace(os.getuid(), os.getgid())
            _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
            resource.setrlimit(resource.RLIMIT_NPROC, (2, hard))
            grandchild = os.fork()
            if grandchild == 0:
                os._exit(0)
            os.waitpid(grandchild, 0)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return status == 0


def adopt_orphans() -> None:
    """Become the parent of orphaned descendants, so that their exit status can be read."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
