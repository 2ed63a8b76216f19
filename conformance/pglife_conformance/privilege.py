"""Servers refuse root: whom they run as, and what that user must still be able to read.

Begin with   server_user().
Owns         the change of user in the forked child, the one ambient capability it may keep.
Leaves out   starting programs (targets/base.py).
Source       ST-01, CT-04; credentials(7), capabilities(7).

As an ordinary user there is nothing to do. As root the child becomes `nobody` with no
supplementary group. Where the interpreter or the checkout lies below a directory closed to others
(a home of root's), it keeps CAP_DAC_READ_SEARCH as an ambient capability: reading only, and
PostgreSQL's own checks look at the user, not at capabilities. Rejected: opening up those
directories (not ours), copying the interpreter (it finds its library by its place).
"""

from __future__ import annotations

import ctypes
import os
import pwd
import resource
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_SET_CHILD_SUBREAPER = 36
_CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION_3 = 0x20080522

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

    def owns(self, path: Path) -> None:
        """Give a directory or file to the server."""
        if self.is_other:
            os.chown(path, self.uid, self.gid)

    def becoming(self, keep_reading: bool) -> Callable[[], None] | None:
        """What a forked child does before exec; None if there is nothing to do."""
        if not self.is_other:
            return None
        uid, gid = self.uid, self.gid

        def become() -> None:
            if keep_reading:
                _LIBC.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            if keep_reading:
                _keep_reading()

        return become

    def limit_processes(self, pid: int, soft: int | None) -> bool:
        """Set the soft RLIMIT_NPROC of one of its processes; None takes the limit away.

        Done by a child that is this user: a root without CAP_SYS_RESOURCE may not do it.
        """
        child = os.fork()
        if child == 0:
            code = 1
            try:
                become = self.becoming(keep_reading=False)
                if become is not None:
                    become()
                _, hard = resource.prlimit(pid, resource.RLIMIT_NPROC)
                wanted = hard if soft is None else soft
                resource.prlimit(pid, resource.RLIMIT_NPROC, (wanted, hard))
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


def adopt_orphans() -> None:
    """Make orphans of our descendants our children, so that their exit status is not lost."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
