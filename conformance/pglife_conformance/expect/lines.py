"""Lines of the postmaster's log: fixed texts, and the lines about a child's death.

Source: rules RP-02, RP-10 to RP-27; postmaster.c: HandleChildCrash(), LogChildExit().
"""

import signal
from typing import Protocol

from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child

READY_LINE = "database system is ready to accept connections"
TERMINATING = "terminating any other active server processes"
REINITIALIZING = "all server processes terminated; reinitializing"
ABNORMAL = "abnormal database system shutdown"
SHUT_DOWN = "database system is shut down"
STARTUP_FAILED = "shutting down due to startup process failure"
SIGKILL_ROUND = "issuing SIGKILL to recalcitrant children"

_SIGNAL_TEXTS: dict[signal.Signals, str] = {
    signal.SIGKILL: "Killed",
    signal.SIGABRT: "Aborted",
    signal.SIGSEGV: "Segmentation fault",
    signal.SIGBUS: "Bus error",
    signal.SIGFPE: "Floating point exception",
    signal.SIGILL: "Illegal instruction",
    signal.SIGTRAP: "Trace/breakpoint trap",
}


class HasMajor(Protocol):
    """A server whose major version is known; a cluster is one."""

    @property
    def major(self) -> int:
        """The major version."""


def name_in_log(server: HasMajor, child: Child, *, dead_end: bool = False) -> str:
    """What the postmaster calls a child when it logs the child's death (RP-10 to RP-27)."""
    return (Kind.DEAD_END if dead_end else child.kind).name_in_log(server.major)


def killed_line(
    server: HasMajor,
    child: Child,
    number: signal.Signals = signal.SIGKILL,
    *,
    dead_end: bool = False,
) -> str:
    """The line about a child that this signal has killed (RP-02)."""
    name = name_in_log(server, child, dead_end=dead_end)
    text = _SIGNAL_TEXTS[number]
    return f"{name} (PID {child.pid}) was terminated by signal {int(number)}: {text}"


def exited_line(server: HasMajor, child: Child, code: int, *, dead_end: bool = False) -> str:
    """The line about a child that has exited with this status (RP-02)."""
    name = name_in_log(server, child, dead_end=dead_end)
    return f"{name} (PID {child.pid}) exited with exit code {code}"


def death_line(server: HasMajor, child: Child, number: signal.Signals) -> str:
    """The line about a child that SIGKILL has killed, or that has exited with 2 at SIGQUIT."""
    killed = number is signal.SIGKILL
    return killed_line(server, child) if killed else exited_line(server, child, 2)


def quoted(setting: str, server: HasMajor) -> str:
    """A setting as log lines name it: in quotes since 17."""
    return f'"{setting}"' if server.major >= 17 else setting
