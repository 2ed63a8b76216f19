"""Servers refuse root: whom they run as, and what that user must still be able to read.

Begin with   server_user(); counted_user() for a server whose processes are counted alone.
Owns         the change of user, by setpriv(1) or else in the forked child, the one ambient
             capability it may keep, the limit of processes.
Leaves out   starting programs (targets/base.py).
Source       ST-01, CT-04; credentials(7), capabilities(7).

As an ordinary user there is nothing to do. As root the child becomes `nobody` with no
supplementary group. Where the interpreter or the checkout lies below a directory closed to others
(a home of root's), it keeps CAP_DAC_READ_SEARCH as an ambient capability: reading only, and
PostgreSQL's own checks look at the user, not at capabilities. Rejected: opening up those
directories (not ours), copying the interpreter (it finds its library by its place).

RLIMIT_NPROC counts all processes of a user, so a limit that shall count one server's needs a user
of its own: as root a uid that nobody has, else a user namespace, in which Linux counts apart since
5.14. Rejected: tracing the postmaster and stopping it at each fork (its signals would go through
the tracer), a namespace as root too (inside it the capability to read means nothing).
"""

from __future__ import annotations

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

from pglife_conformance.system.dispositions import ignores_nothing, reset_ignored_signals
from pglife_conformance.system.reservations import reserve

_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_SET_CHILD_SUBREAPER = 36
_CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION_3 = 0x20080522
_CLONE_NEWUSER = 0x10000000

_OWN_UIDS = range(60706, 61184)
"""Given to nobody by any of the schemes that systemd's uid list knows, and below 65536."""

# Looked up before any fork: the child should do as little as possible.
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
    """Whom servers run as."""

    uid: int
    gid: int
    is_other: bool
    """The suite is root and has to change."""
    is_counted: bool = False
    """Nobody else's processes count towards its limit."""
    limit_at_start: int | None = None
    """The soft RLIMIT_NPROC that its programs are started with."""

    def chown(self, path: Path) -> None:
        """Give a directory or file to the server."""
        if self.is_other:
            os.chown(path, self.uid, self.gid)

    def by_exec(self, keep_reading: bool) -> list[str] | None:
        """Words before a command that make it this user's; None if it takes becoming().

        A suite of some hundred megabytes is not forked for each program then: without anything to
        be done in the child subprocess uses vfork(2).
        """
        if self.is_counted or self.limit_at_start is not None or not ignores_nothing():
            return None
        if not self.is_other:
            return []
        words = ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups"]
        if keep_reading:
            words += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        return words if _can_be_run(tuple(words)) else None

    def becoming(self, keep_reading: bool) -> Callable[[], None]:
        """What a forked child does before exec: default signals, this user, its limit."""
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

    def limit_processes(self, pid: int, soft: int | None) -> bool:
        """Set the soft RLIMIT_NPROC of one of its processes; None takes the limit away.

        Where we may not do it (a root without CAP_SYS_RESOURCE), a child does it that is this
        user; as long as it lives it counts towards the limit.
        """
        try:
            _limit(pid, soft)
        except PermissionError:
            return self._limit_as_user(pid, soft)
        except ProcessLookupError:
            return False
        return True

    def _limit_as_user(self, pid: int, soft: int | None) -> bool:
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
        """Whether this user reaches and reads all of these without help."""
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
    """Tried: these words before a command. Not every setpriv(1) knows all of them."""
    try:
        return subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _limit(pid: int, soft: int | None) -> None:
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
    """Whether counted_user() has one to give."""
    return user.is_other or _namespaces_count_apart()


def counted_user(user: ServerUser) -> ServerUser:
    """One like `user` whose processes are counted alone, for one server."""
    if not user.is_other:
        return replace(user, is_counted=True)
    uid = _uid_without_processes()
    return replace(user, uid=uid, gid=uid, is_counted=True)


def _uid_without_processes() -> int:
    """A uid without name and without processes, that no run beside this one takes as well."""
    begin = os.getpid() % len(_OWN_UIDS)
    used = {entry.pw_uid for entry in pwd.getpwall()}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            used.add(process.stat().st_uid)
    in_turn: list[int] = [*_OWN_UIDS[begin:], *_OWN_UIDS[:begin]]
    return next(uid for uid in in_turn if uid not in used and reserve(f"uid-{uid}"))


def _enter_own_namespace(uid: int, gid: int) -> None:
    """A user namespace in which this user is called as outside."""
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
    """Tried: with a limit of two a process in a namespace of its own may have one child."""
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
    """Make orphans of our descendants our children, so that their exit status is not lost."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
