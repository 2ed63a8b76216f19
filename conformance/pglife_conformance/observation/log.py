"""The server's log, read as it grows and cut into records.

Begin with LogTail. A record is one message, with its DETAIL, HINT and continuation lines.

Source: utils/error/elog.c: send_message_to_server_log(); log_line_prefix '%m [%p] '.
"""

import os
import re
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from pglife_conformance.base.ids import Pid
from pglife_conformance.observation.files import read_whole

_HEAD = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \S+) \[(?P<pid>\d+)\] "
    r"(?P<level>[A-Z]+\d?):  (?P<text>.*)",
    re.DOTALL,
)
MOST_BYTES = 16 << 20
"""How much of a log is read: forty times the longest log of any scenario (0.4 MB)."""
_FIELDS = frozenset({"DETAIL", "HINT", "CONTEXT", "STATEMENT", "QUERY", "LOCATION", "BACKTRACE"})


class Level(StrEnum):
    """The level of a message; DEBUG stands for DEBUG1 to DEBUG5."""

    NONE = ""
    DEBUG = "DEBUG"
    INFO = "INFO"
    NOTICE = "NOTICE"
    WARNING = "WARNING"
    ERROR = "ERROR"
    LOG = "LOG"
    FATAL = "FATAL"
    PANIC = "PANIC"


_LEVELS = {str(level): level for level in Level}


@dataclass(frozen=True)
class LogRecord:
    """One message of the log."""

    index: int
    """Its place among the records of this cluster's log, from 0."""
    pid: Pid | None
    """None for a line that elog did not write (a library's, a shell's)."""
    level: Level
    """NONE without a pid."""
    message: str
    time: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    """DETAIL, HINT, ... in the order written."""

    @property
    def detail(self) -> str:
        """The DETAIL; empty without one."""
        return dict(self.fields).get("DETAIL", "")

    @property
    def hint(self) -> str:
        """The HINT; empty without one."""
        return dict(self.fields).get("HINT", "")

    @property
    def moment(self) -> float:
        """When it was written, in seconds of the epoch (log_timezone is UTC)."""
        return datetime.strptime(f"{self.time}+0000", "%Y-%m-%d %H:%M:%S.%f UTC%z").timestamp()

    def __str__(self) -> str:
        if self.pid is None:
            return self.message
        lines = [f"{self.time} [{self.pid}] {self.level}:  {self.message}"]
        lines += [f"    {name}:  {text}" for name, text in self.fields]
        return "\n".join(lines)


class LogTail:
    """Reads what has been added to one or more log files since the last read.

    With a logging collector there are two: the first lines are in stderr, the rest in the
    collector's file. A last line without its newline waits for the next read. DETAIL and other
    fields belong to the record before them, even if that was read earlier.

    A file is read up to `most` bytes, so that a server that writes without end does not fill our
    memory; then it is flooded.
    """

    def __init__(self, *paths: Path, most: int = MOST_BYTES) -> None:
        self._paths = list(paths)
        self._most = most
        self._offsets: dict[Path, int] = {}
        self._rest: dict[Path, bytes] = {}
        self.records: list[LogRecord] = []

    def follow(self, path: Path) -> None:
        """Read this file too, from now on."""
        if path not in self._paths:
            self._paths.append(path)

    def read(self) -> list[LogRecord]:
        """The new records, oldest first."""
        first_new = len(self.records)
        for path in self._paths:
            for line in self._new_lines(path):
                self._take(line, first_new)
        return self.records[first_new:]

    @property
    def is_flooded(self) -> bool:
        """Whether a file is so long that the rest is not read."""
        return any(offset >= self._most for offset in self._offsets.values())

    def _new_lines(self, path: Path) -> list[str]:
        offset = self._offsets.get(path, 0)
        try:
            data = read_whole(os.fspath(path), offset, self._most - offset)
        except OSError:
            return []
        if not data:
            return []
        self._offsets[path] = offset + len(data)
        *lines, rest = (self._rest.get(path, b"") + data).split(b"\n")
        self._rest[path] = rest
        return [line.decode("utf-8", errors="replace") for line in lines]

    def _take(self, line: str, first_new: int) -> None:
        if line.startswith("\t") and len(self.records) > first_new:
            self._continue(line[1:])
            return
        head = _HEAD.fullmatch(line)
        if head is None:
            self.records.append(LogRecord(len(self.records), None, Level.NONE, line))
            return
        pid, level, text = Pid(int(head["pid"])), head["level"], head["text"]
        last = self.records[-1] if self.records else None
        if level in _FIELDS and last is not None and last.pid == pid:
            self.records[-1] = replace(last, fields=(*last.fields, (level, text)))
        else:
            known = _LEVELS.get(level, Level.NONE)
            record = LogRecord(len(self.records), pid, known, text, head["time"])
            self.records.append(record)

    def _continue(self, text: str) -> None:
        last = self.records[-1]
        if last.fields:
            name, value = last.fields[-1]
            fields = (*last.fields[:-1], (name, f"{value}\n{text}"))
            self.records[-1] = replace(last, fields=fields)
        else:
            self.records[-1] = replace(last, message=f"{last.message}\n{text}")
