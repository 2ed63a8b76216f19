"""Whether a process has done what it was told and sleeps again.

Begin with   Rest.
Owns         the reading of /proc/PID/status for it.
Leaves out   what it was told (signals.py).
Source       proc(5). For claims that a signal has no effect: once its receiver rests again,
             whatever it was going to do at once has been done.
"""

from __future__ import annotations

import signal

_WAITING_FOR = frozenset(
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


class Rest:
    """Whether a process sleeps with no signal pending.

    Two looks in a row must say so without the process having run between them.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._switches: str | None = None

    def has_come(self) -> bool:
        """Asleep, nothing pending, and so it was at the last look; or gone."""
        try:
            with open(f"/proc/{self._pid}/status", encoding="utf-8") as file:
                lines = dict(line.split(":", 1) for line in file if ":" in line)
        except OSError:
            return True
        if "SigPnd" not in lines:
            return True
        pending = int(lines["SigPnd"], 16) | int(lines["ShdPnd"], 16)
        is_asleep = lines["State"].split()[0] == "S"
        if not is_asleep or any(pending >> (number - 1) & 1 for number in _WAITING_FOR):
            self._switches = None
            return False
        before, self._switches = self._switches, lines["voluntary_ctxt_switches"].strip()
        return before == self._switches
