"""A child caught at its fork, before it has done anything: a debugger that is told of forks.

Begin with   CaughtFork.
Owns         ptrace(2) on the postmaster until its next fork, and on that child until it is let go.
Leaves out   children that are there already (tracing.py, held_ends.py), stopping them (pins.py).
Source       ptrace(2): PTRACE_O_TRACEFORK stops the parent at its fork and the child before its
             first instruction. STOP, sent as soon as the child is seen, comes much later.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import time
from types import TracebackType

from pglife_conformance.base.deadlines import REACTION_LIMIT
from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.hold.tracing import _LIBC, _PTRACE_DETACH, _PTRACE_SEIZE

_PTRACE_CONT = 7
_PTRACE_GETEVENTMSG = 0x4201
_PTRACE_O_TRACEFORK = 2
_PTRACE_EVENT_FORK = 1
_TICK_S = 0.002


class CaughtFork:
    """Holds the postmaster's next child, and the postmaster with it; used by one thread."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._postmaster = cluster.pid
        self._child: int | None = None
        options = ctypes.c_void_p(_PTRACE_O_TRACEFORK)
        if _LIBC.ptrace(_PTRACE_SEIZE, self._postmaster, None, options) != 0:
            reason = os.strerror(ctypes.get_errno())
            raise Inconclusive("a debugger attached to the postmaster", reason)
        cluster.at_end.append(self.let_go)

    def wait_for_fork(self) -> int:
        """The child's pid, when both are held.

        Not by Cluster.wait_for(), which says what a server has failed to do.
        """
        until = time.monotonic() + REACTION_LIMIT * self._cluster.scale
        ended = os.pidfd_open(self._postmaster)
        try:
            while (child := self._has_forked()) is None:
                if time.monotonic() > until or select.select([ended], [], [], _TICK_S)[0]:
                    raise Inconclusive("a fork that is caught", "no fork")
        finally:
            os.close(ended)
        self._child = child
        os.waitid(os.P_PID, child, os.WSTOPPED)
        return child

    def let_child_go(self) -> None:
        """The child goes on, and the postmaster to its next fork."""
        assert self._child is not None, "a fork that has been caught"
        _LIBC.ptrace(_PTRACE_DETACH, self._child, None, None)
        self._child = None
        _LIBC.ptrace(_PTRACE_CONT, self._postmaster, None, None)

    def let_go(self) -> None:
        """Both go on, if they are still there."""
        for pid in (self._child, self._postmaster):
            if pid is not None:
                _LIBC.ptrace(_PTRACE_DETACH, pid, None, None)
        self._child = None

    def __enter__(self) -> CaughtFork:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.let_go()

    @staticmethod
    def _stopped(pid: int) -> int | None:
        """Why it has stopped, if it has."""
        with contextlib.suppress(ChildProcessError):
            seen = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG)
            return None if seen is None else seen.si_status
        return None

    def _has_forked(self) -> int | None:
        while (why := self._stopped(self._postmaster)) is not None:
            if why >> 8 == _PTRACE_EVENT_FORK:
                pid = ctypes.c_ulong()
                _LIBC.ptrace(_PTRACE_GETEVENTMSG, self._postmaster, None, ctypes.byref(pid))
                return pid.value
            # It has been sent something, and gets it.
            _LIBC.ptrace(_PTRACE_CONT, self._postmaster, None, why & 0x7F)
        return None
