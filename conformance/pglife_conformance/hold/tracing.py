"""A debugger attached to a child: the postmaster hears of the child's end when we let it.

Begin with   Traced.
Owns         ptrace(2), used to attach and never to stop, read or change anything.
Leaves out   stopping children (pins.py).
Source       ptrace(2): the end of a tracee is told to its tracer first, and to its parent when the
             tracer has waited for it.

With signals alone no child that SIGKILL has met stays unreaped for longer than the postmaster needs
for a turn of its loop.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from types import TracebackType

from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.observation.processes import Child

_PTRACE_DETACH = 17
_PTRACE_SEIZE = 0x4206
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_LIBC.ptrace.restype = ctypes.c_long


class Traced:
    """Holds the news of a child's end; used by one thread, and for a child that is stopped."""

    def __init__(self, cluster: Cluster, child: Child) -> None:
        self._pid = child.pid
        self._held = True
        if _LIBC.ptrace(_PTRACE_SEIZE, child.pid, None, None) != 0:
            reason = os.strerror(ctypes.get_errno())
            raise Inconclusive(f"a debugger attached to {child}", reason)
        cluster.at_end.append(self.let_go)

    def let_go(self) -> None:
        """The child has ended; now its parent hears of it."""
        if not self._held:
            return
        self._held = False
        with contextlib.suppress(ChildProcessError):
            # One status for the stop that it was found in, one for its end.
            while os.waitpid(self._pid, os.WNOHANG)[0] != 0:
                pass
            # It has not ended: a scenario that failed.
            _LIBC.ptrace(_PTRACE_DETACH, self._pid, None, None)

    def __enter__(self) -> Traced:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.let_go()
