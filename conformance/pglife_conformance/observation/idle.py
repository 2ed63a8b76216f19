"""Whether a process has done what it had to do and sleeps again.

For claims that a signal has no effect: once its receiver is idle, it has done all that it would
do at once.

Source: proc(5).
"""

import signal

from pglife_conformance.base.ids import Pid

_AWAITED = frozenset(
    {
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGTERM,
        signal.SIGCHLD,
        signal.SIGALRM,
    }
)


class IdleProbe:
    """Whether a process sleeps with no signal pending, as two looks in a row agree."""

    def __init__(self, pid: Pid) -> None:
        self._pid = pid
        self._switches: str | None = None

    def is_idle(self) -> bool:
        """Asleep, nothing pending, and not run since the last look; or the process has exited."""
        try:
            with open(f"/proc/{self._pid}/status", encoding="utf-8") as file:
                lines = dict(line.split(":", 1) for line in file if ":" in line)
        except OSError:
            return True
        if "SigPnd" not in lines:
            return True
        pending = int(lines["SigPnd"], 16) | int(lines["ShdPnd"], 16)
        is_asleep = lines["State"].split()[0] == "S"
        if not is_asleep or any(pending >> (number - 1) & 1 for number in _AWAITED):
            self._switches = None
            return False
        before, self._switches = self._switches, lines["voluntary_ctxt_switches"].strip()
        return before == self._switches
