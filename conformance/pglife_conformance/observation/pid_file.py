"""postmaster.pid, by line.

Source: src/include/utils/pidfile.h; rules SH-40 to SH-45.
"""

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pglife_conformance.base.ids import Pid
from pglife_conformance.observation.files import read_whole


class PidFileStatus(Enum):
    """Line 8, without its padding."""

    STARTING = "starting"
    READY = "ready"
    STANDBY = "standby"
    STOPPING = "stopping"
    OTHER = "other"


@dataclass(frozen=True)
class PidFile:
    """The eight lines; a property is None while its line is missing."""

    lines: tuple[str, ...]

    def _line(self, number: int) -> str | None:
        return self.lines[number - 1] if len(self.lines) >= number else None

    @property
    def pid(self) -> Pid | None:
        """Line 1; negative for a standalone backend."""
        text = self._line(1)
        try:
            return Pid(int(text)) if text is not None else None
        except ValueError:
            return None

    @property
    def data_directory(self) -> str | None:
        """Line 2."""
        return self._line(2)

    @property
    def start_time(self) -> str | None:
        """Line 3, in seconds of the epoch."""
        return self._line(3)

    @property
    def port(self) -> str | None:
        """Line 4."""
        return self._line(4)

    @property
    def socket_directory(self) -> str | None:
        """Line 5."""
        return self._line(5)

    @property
    def listen_address(self) -> str | None:
        """Line 6."""
        return self._line(6)

    @property
    def shared_memory(self) -> str | None:
        """Line 7: key and id of the System V segment."""
        return self._line(7)

    @property
    def status(self) -> PidFileStatus | None:
        """Line 8."""
        word = self._line(8)
        if word is None:
            return None
        try:
            return PidFileStatus(word.strip())
        except ValueError:
            return PidFileStatus.OTHER


def read_pid_file(data_directory: Path) -> PidFile | None:
    """Read postmaster.pid; None if there is no such file."""
    try:
        content = read_whole(os.path.join(data_directory, "postmaster.pid"))
    except OSError:
        return None
    return PidFile(tuple(content.decode("utf-8", errors="replace").splitlines()))
