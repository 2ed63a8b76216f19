"""waitpid(): the only module that calls it.

Source: postmaster.c: process_pm_child_exit(), LogChildExit(); src/port/pgstrsignal.c; rule RP-02.
"""

import os
import signal
from collections.abc import Iterator

from pglife_impl.base.ids import Pid


def dead_children() -> Iterator[tuple[Pid, int]]:
    """Reap every zombie: yield its pid and wait status."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield Pid(pid), status


def describe(name: str, pid: int, status: int) -> str:
    """The log line about an exit, in PostgreSQL's words."""
    if os.WIFEXITED(status):
        return f"{name} (PID {pid}) exited with exit code {os.WEXITSTATUS(status)}"
    if os.WIFSIGNALED(status):
        signum = os.WTERMSIG(status)
        text = signal.strsignal(signum) or "unrecognized signal"
        return f"{name} (PID {pid}) was terminated by signal {signum}: {text}"
    return f"{name} (PID {pid}) exited with unrecognized status {status}"
