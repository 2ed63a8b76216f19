"""What passes between the suite and a server, in one place: stimuli and observations.

Begin with   Observation, then Recorder.
Owns         the shape of a trace. Every verb of a cluster tells the recorder what it is about to
             do; every change that the suite sees is told as one observation.
Leaves out   judging them: that is the monitor's, a Recorder like any other.
Source       DESIGN section 4 (Monitor, Evidence).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, Protocol

from pglife_conformance.observation.log import LogRecord
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_conformance.observation.processes import Child, Death


class Stimulus(StrEnum):
    """What the suite does to a server; the data that goes with each is named beside it."""

    START = "start"
    """version: int, settings: dict[str, str], wal_is_clean: bool"""

    SHUTDOWN_REQUEST = "shutdown_request"
    """mode: "smart" | "fast" | "immediate"; by: "signal" | "pg_ctl" """

    RELOAD = "reload"
    """settings: dict[str, str]: what has been changed since the last reload"""

    SIGNAL_CHILD = "signal_child"
    """child: Child, signal: signal.Signals"""

    SIGNAL_POSTMASTER = "signal_postmaster"
    """signal: signal.Signals, other than the requests above"""

    CONNECT = "connect"
    """client: int, startup: "packet" | "silent" | "cancel" | "raw"; address: "unix" | "tcp" """

    STARTUP_PACKET = "startup_packet"
    """client: int, parameters: dict[str, str]: a silent client now says who it is"""

    QUERY = "query"
    """client: int, sql: str"""

    CANCEL = "cancel"
    """client: int, pid: int"""

    TERMINATE = "terminate"
    """client: int: the Terminate message, then the end of the connection"""

    DISCONNECT = "disconnect"
    """client: int: the connection closed without a word"""

    PG_CTL = "pg_ctl"
    """args: tuple[str, ...]"""

    FORK_LIMIT = "fork_limit"
    """fails: bool: whether a fork by the postmaster fails from now on"""

    CHANGE_FILE = "change_file"
    """path: str, relative to the data directory; what: "written" | "removed" """


class AnswerKind(Enum):
    """What a client heard."""

    READY = "ready"
    """ReadyForQuery: admitted, or done with a statement."""
    ERROR = "error"
    """An ErrorResponse of any severity."""
    WARNING = "warning"
    """A NoticeResponse."""
    END_OF_FILE = "end of file"
    RESET = "reset"
    ONE_BYTE = "one byte"
    """The one-byte answer to SSLRequest or GSSENCRequest."""


@dataclass(frozen=True)
class Answer:
    """One thing a client heard."""

    client: int
    kind: AnswerKind
    severity: str = ""
    sqlstate: str = ""
    message: str = ""
    backend_pid: int | None = None
    transaction_status: str = ""


@dataclass(frozen=True)
class Observation:
    """One look at a server from outside, told only if something differs from the last look."""

    at: float
    """time.monotonic()"""
    kids: tuple[Child, ...]
    """Direct children of the postmaster, oldest first; zombies are among them."""
    births: tuple[Child, ...]
    deaths: tuple[Death, ...]
    """Children that have gone since the last look, in the order in which the kernel says so."""
    log: tuple[LogRecord, ...]
    """Records written since the last look."""
    pid_file: PidFileStatus | None
    """Line 8 of postmaster.pid; None without a file or without the line."""
    exit_code: int | None
    """The postmaster's exit status once it has ended; negative for a signal."""
    answer: Answer | None = None
    """What a client heard, if that is why we looked."""


class Recorder(Protocol):
    """Whoever wants to know all that was done and all that was seen, in order."""

    def stimulus(self, name: str, **data: Any) -> None:
        """Called just before the suite does something to the server."""

    def look(self, observation: Observation) -> None:
        """Called with each observation that differs from the one before."""


class NullRecorder:
    """Records nothing."""

    def stimulus(self, name: str, **data: Any) -> None:
        """Forget it."""

    def look(self, observation: Observation) -> None:
        """Forget it."""
