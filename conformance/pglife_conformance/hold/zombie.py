"""A child that ends in its own way and is not reaped until we let it: a debugger that passes on
its signals.

Begin with   EndHeld.
Owns         ptrace(2) on a running child, used to pass on its signals and to hold back its end.
Leaves out   holding the end of a child that is killed (tracing.py), stopping children (pins.py).
Source       ptrace(2): a tracee stops at each signal until its tracer has passed it on; waitid(2):
             with WNOWAIT a look at a status leaves it there, and the parent hears nothing of it.
"""

from __future__ import annotations

import contextlib
import os

from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.hold.tracing import _LIBC, Traced
from pglife_conformance.observation.processes import Child, read_stat

_PTRACE_CONT = 7
_LOOK = os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT


class EndHeld(Traced):
    """Holds the news of the end of a child that runs; used by one thread."""

    def __init__(self, cluster: Cluster, child: Child) -> None:
        super().__init__(cluster, child)
        self._cluster = cluster
        self._child = child

    def __enter__(self) -> EndHeld:
        return self

    def expect_end(self) -> None:
        """Let it have its signals until it has ended; its parent does not hear of that."""
        self._cluster.wait_for(f"the end of {self._child}, held back", self._has_ended)

    def _has_ended(self) -> bool:
        with contextlib.suppress(ChildProcessError):
            while (seen := os.waitid(os.P_PID, self._pid, _LOOK)) is not None:
                if seen.si_code in (os.CLD_EXITED, os.CLD_KILLED, os.CLD_DUMPED):
                    break
                os.waitid(os.P_PID, self._pid, os.WSTOPPED | os.WNOHANG)
                _LIBC.ptrace(_PTRACE_CONT, self._pid, None, seen.si_status & 0x7F)
        stat = read_stat(self._pid)
        return stat is not None and stat.state == "Z"
