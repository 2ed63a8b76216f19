"""What a decision can ask the postmaster's loop to do; perform.py does it.

A decision is a generator of requests. It receives the outcome of a Fork as the value of `yield`.
"""

import signal
import socket
from enum import Enum

from pglife_impl.base.cac import Cac
from pglife_impl.base.ids import Pid, Slot
from pglife_impl.base.kinds import Kind
from pglife_impl.base.pmsignal import QuitReason
from pglife_impl.base.record import Record
from pglife_impl.base.words import Level, PidStatus


class Log(Record):
    """Write a line into the server log."""

    level: Level
    message: str


class LogChildExit(Record):
    """Write the line about a child's exit (RP-02), with the statement it was running, if any."""

    level: Level
    name: str
    pid: Pid
    status: int


class SignalChild(Record):
    """kill() a child; signals that end it go to its process group too (PR-26)."""

    pid: Pid
    kind: Kind
    signum: signal.Signals


class SetQuitReason(Record):
    """Write into shared memory why SIGQUIT follows."""

    reason: QuitReason


class Fork(Record):
    """Start a child. The outcome is its Pid or a ForkFailure."""

    kind: Kind
    slot: Slot | None  # None for a dead-end child
    cac: Cac = Cac.OK
    client: socket.socket | None = None


class ForkFailure(Record):
    """The outcome of a Fork for which fork() failed."""

    error: str


class ReportForkFailure(Record):
    """Send a client the error of a failed fork (SE-34)."""

    client: socket.socket
    error: str


class FreeSlot(Record):
    """Mark a child slot in shared memory as unused."""

    slot: Slot


class WritePidStatus(Record):
    """Rewrite line 8 of postmaster.pid."""

    status: PidStatus


class Listen(Record):
    """Add the listening sockets to the wait set, or remove them (SV-25)."""

    accepting: bool


class RereadConfiguration(Record):
    """Read the configuration files again, and apply what may change at a reload."""


class Reinitialize(Record):
    """Replace shared memory by a new generation (CR-20)."""


class RemoveLogrotateFile(Record):
    """Remove the trigger file of a rotation that the logger has been asked for (TF-02)."""


class QuitMyself(Record):
    """Send the postmaster itself SIGQUIT, so that an immediate shutdown begins (SL-09)."""


class ExitCode(Enum):
    """The exit status of the postmaster (INV-72)."""

    NORMAL = 0
    ABNORMAL = 1


class Exit(Record):
    """Exit; no later request is performed."""

    code: ExitCode


Request = (
    Log
    | LogChildExit
    | SignalChild
    | SetQuitReason
    | Fork
    | ReportForkFailure
    | FreeSlot
    | WritePidStatus
    | Listen
    | RereadConfiguration
    | Reinitialize
    | RemoveLogrotateFile
    | QuitMyself
    | Exit
)
ForkOutcome = Pid | ForkFailure
