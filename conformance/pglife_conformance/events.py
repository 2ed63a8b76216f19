"""Stimuli and observations: everything that passes between the suite and a server.

Begin with Observation, then the stimuli, then Recorder. The verbs of a cluster record each
stimulus just before they carry it out; the watcher records each look that differs from the last.
The monitor is a Recorder.
"""

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Protocol

from pglife_conformance.base.ids import ClientNumber, Pid
from pglife_conformance.observation.log import LogRecord
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_conformance.observation.processes import Child, Death


class ShutdownMode(StrEnum):
    """The three shutdown requests, under the names that the log and pg_ctl use (SH-01)."""

    SMART = "smart"
    FAST = "fast"
    IMMEDIATE = "immediate"

    @property
    def signal(self) -> signal.Signals:
        """The signal by which the postmaster receives the request (SG-01)."""
        return _SHUTDOWN_SIGNALS[self]


SMART, FAST, IMMEDIATE = ShutdownMode.SMART, ShutdownMode.FAST, ShutdownMode.IMMEDIATE
_SHUTDOWN_SIGNALS = {SMART: signal.SIGTERM, FAST: signal.SIGINT, IMMEDIATE: signal.SIGQUIT}


# Stimuli.


class Startup(Enum):
    """What a client sends when it has connected."""

    PACKET = "startup packet"
    CANCEL = "cancel request"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Start:
    """`postgres` is started with these settings.

    Args:
        version: the server's major version.
        settings: everything that the suite has written into postgresql.conf.
    """

    version: int
    settings: Mapping[str, str]


@dataclass(frozen=True)
class ShutdownRequest:
    """The postmaster is sent the signal for this shutdown mode."""

    mode: ShutdownMode


@dataclass(frozen=True)
class ReloadRequest:
    """The postmaster is sent SIGHUP; `settings` have changed since the last reload."""

    settings: Mapping[str, str]


@dataclass(frozen=True)
class SignalChild:
    """A child is sent a signal."""

    child: Child
    number: signal.Signals


@dataclass(frozen=True)
class SignalPostmaster:
    """The postmaster receives a signal other than the requests above."""

    number: signal.Signals


@dataclass(frozen=True)
class Connect:
    """A client connects and sends this.

    Args:
        client: the number of the client's session in its cluster.
        startup: its first message.
        tcp: whether it connects over TCP and not over the Unix-domain socket.
    """

    client: ClientNumber
    startup: Startup
    tcp: bool


@dataclass(frozen=True)
class SendQuery:
    """A client sends a simple query."""

    client: ClientNumber
    sql: str


@dataclass(frozen=True)
class CancelQuery:
    """A client's query is cancelled over a connection of its own."""

    client: ClientNumber
    pid: Pid | None


@dataclass(frozen=True)
class Terminate:
    """A client sends Terminate and closes its connection."""

    client: ClientNumber


@dataclass(frozen=True)
class Disconnect:
    """A client closes its connection without a message."""

    client: ClientNumber


@dataclass(frozen=True)
class RunPgCtl:
    """pg_ctl is run with these arguments."""

    args: tuple[str, ...]


@dataclass(frozen=True)
class LimitForks:
    """The postmaster's number of processes is limited.

    Args:
        room: how many children it may have; None lifts the limit.
        since_start: whether the limit holds before the first fork.
    """

    room: int | None
    since_start: bool = False


@dataclass(frozen=True)
class WriteFile:
    """A file is written; `path` is relative to the data directory."""

    path: str


@dataclass(frozen=True)
class LetOthersConnect:
    """From now on clients may connect that are not the suite's: a standby, a subscription."""


Stimulus = (
    Start
    | ShutdownRequest
    | ReloadRequest
    | SignalChild
    | SignalPostmaster
    | Connect
    | SendQuery
    | CancelQuery
    | Terminate
    | Disconnect
    | RunPgCtl
    | LimitForks
    | WriteFile
    | LetOthersConnect
)


# Observations.


class AnswerKind(Enum):
    """What a client received."""

    READY = "ready"
    """ReadyForQuery: the client is admitted, or its statement is done."""
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
    """One message, or the end of the connection, that a client received."""

    client: ClientNumber
    kind: AnswerKind
    severity: str = ""
    sqlstate: str = ""
    message: str = ""
    backend_pid: Pid | None = None
    transaction_status: str = ""


@dataclass(frozen=True)
class Observation:
    """One look at a server from outside; recorded only if it differs from the last one."""

    at: float
    """time.monotonic()"""
    kids: tuple[Child, ...]
    """Direct children of the postmaster, oldest first, zombies included."""
    births: tuple[Child, ...]
    deaths: tuple[Death, ...]
    """Children that were reaped since the last look, in the order of the kernel's announcements."""
    log: tuple[LogRecord, ...]
    """Records written since the last look."""
    pid_file: PidFileStatus | None
    """Line 8 of postmaster.pid; None without a file or without the line."""
    exit_code: int | None
    """The postmaster's exit status once it has exited; negative for a signal."""
    answer: Answer | None = None
    """What a client received, if that is why we looked."""


class Recorder(Protocol):
    """Receives every stimulus and every observation, in order."""

    def stimulus(self, stimulus: Stimulus) -> None:
        """Called just before the suite carries the stimulus out."""

    def look(self, observation: Observation) -> None:
        """Called with each observation that differs from the one before."""
