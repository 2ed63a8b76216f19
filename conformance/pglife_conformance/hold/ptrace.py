"""Processes held by a debugger, at moments that no signal can hold.

Begin with Traced (the postmaster does not learn of a child's exit), HeldZombie (the same, for a
child that goes on running until it exits), CaughtFork (the next child before its first
instruction) and FollowedChild (which signals it blocks, system call by system call). Each is used
by one thread.

Source: ptrace(2): a tracee's exit is reported to its tracer first, and to its parent when the
tracer has waited for it; a tracee stops at each signal until its tracer has passed it on;
PTRACE_O_TRACEFORK stops the parent at its fork and the child before its first instruction;
PTRACE_SYSCALL stops a tracee before and after each call.
"""

import contextlib
import ctypes
import os
import select
import signal
import time

from pglife_conformance.base.deadlines import REACTION_LIMIT
from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.base.ids import Pid
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.hold.held import Held
from pglife_conformance.observation.processes import Child, read_stat
from pglife_conformance.observation.signals import read_signals

_CONT = 7
_DETACH = 17
_SYSCALL = 24
_SETOPTIONS = 0x4200
_GETEVENTMSG = 0x4201
_SEIZE = 0x4206
_O_TRACESYSGOOD = 1
_O_TRACEFORK = 2
_EVENT_FORK = 1
_SYSCALL_STOP = signal.SIGTRAP | 0x80

_TICK_S = 0.002
_PEEK = os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT
"""A look at a status that leaves it there: the parent is not notified."""
_EXITS = (os.CLD_EXITED, os.CLD_KILLED, os.CLD_DUMPED)

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_LIBC.ptrace.restype = ctypes.c_long

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
"""The signals that FollowedChild reports."""


def _ptrace(request: int, pid: Pid, data: int = 0) -> bool:
    return bool(_LIBC.ptrace(request, pid, None, data) == 0)


def seize(pid: Pid, what: str, options: int = 0) -> None:
    """Attach a debugger to a process without stopping it.

    Raises:
        Inconclusive: the kernel refuses; `what` names the process.
    """
    if not _ptrace(_SEIZE, pid, options):
        raise Inconclusive(f"a debugger attached to {what}", os.strerror(ctypes.get_errno()))


def detach(pid: Pid, number: int = 0) -> None:
    """Detach the debugger, passing on this signal; nothing if it is not attached."""
    _ptrace(_DETACH, pid, number)


class Traced(Held):
    """A child, stopped otherwise, whose exit its parent does not learn of until the release.

    With signals alone, no killed child stays unreaped for longer than one iteration of ServerLoop.
    """

    def __init__(self, cluster: Cluster, child: Child) -> None:
        seize(child.pid, str(child))
        self._child = child
        super().__init__(cluster)

    def _release(self) -> None:
        with contextlib.suppress(ChildProcessError):
            # One status for the stop that it was found in, one for its exit.
            while os.waitpid(self._child.pid, os.WNOHANG)[0] != 0:
                pass
            # The child has not exited: the scenario has failed.
            detach(self._child.pid)


class HeldZombie(Traced):
    """A running child that receives its signals, and stays a zombie from its exit on."""

    def expect_zombie(self) -> None:
        """Pass on signals until the child is a zombie; its parent is not notified."""
        self.cluster.wait_for(f"{self._child} to be a zombie", self._is_zombie)

    def _is_zombie(self) -> bool:
        pid = self._child.pid
        with contextlib.suppress(ChildProcessError):
            while (seen := os.waitid(os.P_PID, pid, _PEEK)) is not None:
                if seen.si_code in _EXITS:
                    break
                os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG)
                _ptrace(_CONT, pid, seen.si_status & 0x7F)
        stat = read_stat(pid)
        return stat is not None and stat.state == "Z"


class CaughtFork(Held):
    """The postmaster's next child, held before its first instruction, and the postmaster too.

    SIGSTOP, sent as soon as a child is seen, comes much later.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._postmaster = cluster.pid
        self._child: Pid | None = None
        seize(self._postmaster, "the postmaster", _O_TRACEFORK)
        super().__init__(cluster)

    def wait_for_fork(self) -> Pid:
        """Wait until both are held, and return the child's pid.

        Not by Cluster.wait_for(): a missing fork is no failure of the server.

        Raises:
            Inconclusive: the postmaster has exited or has not forked in time.
        """
        until = time.monotonic() + REACTION_LIMIT * self.cluster.scale
        exited = os.pidfd_open(self._postmaster)
        try:
            while (child := self._has_forked()) is None:
                if time.monotonic() > until or select.select([exited], [], [], _TICK_S)[0]:
                    raise Inconclusive("a fork that is caught", "no fork")
        finally:
            os.close(exited)
        self._child = child
        os.waitid(os.P_PID, child, os.WSTOPPED)
        return child

    def release_postmaster(self) -> None:
        """Let the postmaster run for good, and hold the child."""
        detach(self._postmaster)

    def release_child(self) -> None:
        """Let the child run, and the postmaster until its next fork."""
        assert self._child is not None, "a fork that has been caught"
        detach(self._child)
        self._child = None
        _ptrace(_CONT, self._postmaster)

    def _release(self) -> None:
        for pid in (self._child, self._postmaster):
            if pid is not None:
                detach(pid)
        self._child = None

    @staticmethod
    def _stop_reason(pid: Pid) -> int | None:
        with contextlib.suppress(ChildProcessError):
            seen = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG)
            return None if seen is None else seen.si_status
        return None

    def _has_forked(self) -> Pid | None:
        while (reason := self._stop_reason(self._postmaster)) is not None:
            if reason >> 8 == _EVENT_FORK:
                pid = ctypes.c_ulong()
                _LIBC.ptrace(_GETEVENTMSG, self._postmaster, None, ctypes.byref(pid))
                return Pid(pid.value)
            # The postmaster was sent a signal: pass it on.
            _ptrace(_CONT, self._postmaster, reason & 0x7F)
        return None


class FollowedChild(CaughtFork):
    """The postmaster's next child, followed from system call to system call.

    Source: rule CN-11; postmaster/fork_process.c, utils/init/miscinit.c: InitPostmasterChild().
    """

    pid = Pid(0)

    def masks(self) -> list[Blocked]:
        """Each set of WATCHED signals that the child blocks, from its fork until it blocks none.

        The postmaster is released at the fork.
        """
        child = self.pid = self.wait_for_fork()
        detach(self._postmaster)
        _ptrace(_SETOPTIONS, child, _O_TRACESYSGOOD)
        found: list[Blocked] = []
        until = time.monotonic() + REACTION_LIMIT * self.cluster.scale
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
                raise Inconclusive("a child that unblocks its signals", f"it blocks {found}")
            _ptrace(_SYSCALL, child, passed_on)
            with contextlib.suppress(ChildProcessError):
                seen = os.waitid(os.P_PID, child, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
                if seen is None or seen.si_code in _EXITS:
                    return found
                os.waitid(os.P_PID, child, os.WSTOPPED)
                passed_on = 0 if seen.si_status == _SYSCALL_STOP else seen.si_status & 0x7F
