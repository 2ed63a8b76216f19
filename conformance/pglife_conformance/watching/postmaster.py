"""The postmaster as a process: its pid, its exit status, signals to it.

PR_SET_CHILD_SUBREAPER makes a server that pg_ctl has started a child of the suite, so that its
exit status can be read too.
"""

import os
import signal
import subprocess

from pglife_conformance.base.ids import Pid
from pglife_conformance.observation.processes import read_stat

_ENDS = frozenset({os.CLD_EXITED, os.CLD_KILLED, os.CLD_DUMPED})


class Postmaster:
    """One postmaster process, from its start to its exit."""

    def __init__(self, pid: Pid, process: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        stat = read_stat(pid)
        self.start_time = stat.start_time if stat is not None else 0
        self._process = process
        self._code: int | None = None

    def exit_code(self) -> int | None:
        """Its exit status; None while it lives, negative if a signal killed it.

        Read with waitid(2) and not through Popen: a server that pg_ctl started has no Popen.
        """
        if self._code is not None:
            return self._code
        try:
            # WNOWAIT: waitid(2) also reports ptrace stops, which belong to the tracer.
            seen = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if seen is None or seen.si_code not in _ENDS:
                return None
            _, status = os.waitpid(self.pid, 0)
        except ChildProcessError:
            # pg_ctl is still its parent: only that the process is missing shows the exit.
            stat = read_stat(self.pid)
            return None if stat is not None and stat.start_time == self.start_time else 0
        self._code = os.waitstatus_to_exitcode(status)
        if self._process is not None:
            self._process.returncode = self._code
        return self._code

    def send(self, number: signal.Signals) -> bool:
        """Send a signal; False if the postmaster has exited."""
        if self.exit_code() is not None:
            return False
        os.kill(self.pid, number)
        return True
