"""The postmaster as a process of ours: its pid, its exit status.

Begin with   Postmaster.
Owns         waiting for the exit status, also of one that pg_ctl has started.
Leaves out   its children (observation/processes.py).
Source       SH-10; waitpid(2). PR_SET_CHILD_SUBREAPER makes a server started by pg_ctl ours.
"""

from __future__ import annotations

import os
import signal
import subprocess

from pglife_conformance.observation.processes import read_stat

_ENDS = frozenset({os.CLD_EXITED, os.CLD_KILLED, os.CLD_DUMPED})


class Postmaster:
    """One life of a postmaster."""

    def __init__(self, pid: int, process: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        stat = read_stat(pid)
        self.start_time = stat.start_time if stat is not None else 0
        self._process = process
        self._code: int | None = None

    def exit_code(self) -> int | None:
        """None while it lives; negative if a signal ended it.

        With waitpid and not through Popen, so that one started by pg_ctl is no special case.
        """
        if self._code is not None:
            return self._code
        try:
            # Whoever debugs it is told of its stops by the same call; they are left to him.
            seen = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if seen is None or seen.si_code not in _ENDS:
                return None
            _, status = os.waitpid(self.pid, 0)
        except ChildProcessError:
            # Not our child (pg_ctl still is its parent): only its absence tells.
            stat = read_stat(self.pid)
            return None if stat is not None and stat.start_time == self.start_time else 0
        self._code = os.waitstatus_to_exitcode(status)
        if self._process is not None:
            self._process.returncode = self._code
        return self._code

    def send(self, number: signal.Signals) -> bool:
        """Send a signal; False if it has ended."""
        if self.exit_code() is not None:
            return False
        os.kill(self.pid, number)
        return True
