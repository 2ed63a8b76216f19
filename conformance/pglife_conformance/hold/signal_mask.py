"""Which signals a child blocks from its fork on: a debugger that looks at each system call.

Begin with   FollowedChild.
Owns         ptrace(2) on a child from its fork until its handlers are set.
Leaves out   catching the fork (caught_forks.py), what a signal does then (scenarios).
Source       ptrace(2): PTRACE_SYSCALL stops a tracee before and after each call; proc(5): SigBlk.
             rule CN-11; postmaster/fork_process.c, utils/init/miscinit.c: InitPostmasterChild().
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time

from pglife_conformance.base.deadlines import REACTION_LIMIT
from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.hold.fork_point import CaughtFork
from pglife_conformance.hold.tracing import _LIBC, _PTRACE_DETACH
from pglife_conformance.observation.signals import read_signals

_PTRACE_SYSCALL = 24
_SYSCALL = signal.SIGTRAP | 0x80
_PTRACE_SETOPTIONS = 0x4200
_PTRACE_O_TRACESYSGOOD = 1

Blocked = frozenset[signal.Signals]
WATCHED: Blocked = frozenset(
    {
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGALRM,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGCHLD,
    }
)
"""Signals that mean something to a child."""


class FollowedChild(CaughtFork):
    """The postmaster's next child, followed from call to call."""

    pid = 0

    def __enter__(self) -> FollowedChild:
        return self

    def masks(self) -> list[Blocked]:
        """What it blocks from its fork on, until it blocks nothing; the postmaster goes on."""
        child = self.pid = self.wait_for_fork()
        _LIBC.ptrace(_PTRACE_DETACH, self._postmaster, None, None)
        options = ctypes.c_void_p(_PTRACE_O_TRACESYSGOOD)
        _LIBC.ptrace(_PTRACE_SETOPTIONS, child, None, options)
        found: list[Blocked] = []
        until = time.monotonic() + REACTION_LIMIT * self._cluster.scale
        passed_on = 0
        while True:
            state = read_signals(child)
            if state is None:
                return found
            blocked = state.blocked & WATCHED
            if not found or found[-1] != blocked:
                found.append(blocked)
            if not blocked:
                return found
            if time.monotonic() > until:
                raise Inconclusive("a child that begins", f"it blocks {found} for so long")
            _LIBC.ptrace(_PTRACE_SYSCALL, child, None, passed_on)
            with contextlib.suppress(ChildProcessError):
                seen = os.waitid(os.P_PID, child, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
                if seen is None or seen.si_code in (
                    os.CLD_EXITED,
                    os.CLD_KILLED,
                    os.CLD_DUMPED,
                ):
                    return found
                os.waitid(os.P_PID, child, os.WSTOPPED)
                passed_on = 0 if seen.si_status == _SYSCALL else seen.si_status & 0x7F
