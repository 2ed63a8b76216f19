"""Learning of deaths: the only module that calls waitpid.

Begin with   dead_children().
Owns         os.waitpid(), and the words for a wait status.
Leaves out   what a death means (pm_reap.py).
Source       postmaster.c: process_pm_child_exit(), LogChildExit(); src/port/pgstrsignal.c; RP-02.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

from pglife_impl.base.ids import Pid


def dead_children() -> Iterator[tuple[Pid, int]]:
    """Every (pid, status) that waits to be collected."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield Pid(pid), status


def describe(name: str, pid: int, status: int) -> str:
    """The line about a death, in PostgreSQL's words."""
    if os.WIFEXITED(status):
        return f"{name} (PID {pid}) exited with exit code {os.WEXITSTATUS(status)}"
    if os.WIFSIGNALED(status):
        signum = os.WTERMSIG(status)
        text = signal.strsignal(signum) or "unrecognized signal"
        return f"{name} (PID {pid}) was terminated by signal {signum}: {text}"
    return f"{name} (PID {pid}) exited with unrecognized status {status}"
