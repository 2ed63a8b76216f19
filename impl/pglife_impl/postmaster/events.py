"""What can happen to the postmaster, and what it can ask its loop to do.

Begin with   Event (what a decision is given), then Request (what it returns).
Owns         the vocabulary between the pure decisions and the loop; no behaviour.
Leaves out   how a request is carried out (perform.py).
Source       postmaster.c: ServerLoop(); rules SL-01, SG-01..04, section 7.1.
"""

from __future__ import annotations

from enum import Enum

from pglife_impl.base.cac import Cac
from pglife_impl.base.kinds import Kind
from pglife_impl.base.pmsignal import PmSignal, QuitReason
from pglife_impl.base.record import Record
from pglife_impl.base.words import Level, PidStatus
from pglife_impl.postmaster.state import Shutdown

# --- events ---------------------------------------------------------------------------------


class Born(Record):
    """Everything is set up; the first children are due (ST-04)."""


class LoggerWanted(Record):
    """The logger is to be started before all else (LG-01)."""


class ShutdownRequested(Record):
    """SIGTERM, SIGINT or SIGQUIT; the strongest of those that came together (SG-08)."""

    level: Shutdown
    now: float


class ReloadRequested(Record):
    """SIGHUP (SG-02)."""


class ChildExited(Record):
    """One death, as waitpid tells it."""

    pid: int
    status: int  # as waitpid returns it
    slot_was_clean: bool  # its shared slot flag was ASSIGNED (RP-03)
    now: float


class ReapingDone(Record):
    """All pending deaths have been told (RP-01)."""

    now: float


class PmSignalsSeen(Record):
    """SIGUSR1: the flags that were up, and the trigger files that lay there."""

    reasons: frozenset[PmSignal]
    logrotate_file: bool
    promote_file: bool
    now: float


class ConnectionArrived(Record):
    """A client's socket was accepted."""


class TurnEnded(Record):
    """All events of this turn are handled: launch what is missing, look at the clocks (SL-01)."""

    now: float


class LockFileLost(Record):
    """The pid file is gone or another's (SL-09)."""


class Forked(Record):
    """A fork that was asked for has been made."""

    kind: Kind
    pid: int
    slot: int
    worker: int
    now: float


class ForkFailed(Record):
    """A fork that was asked for could not be made."""

    kind: Kind
    slot: int
    worker: int
    error: str
    now: float


Event = (
    Born
    | LoggerWanted
    | ShutdownRequested
    | ReloadRequested
    | ChildExited
    | ReapingDone
    | PmSignalsSeen
    | ConnectionArrived
    | TurnEnded
    | LockFileLost
    | Forked
    | ForkFailed
)

# --- requests -------------------------------------------------------------------------------


class Log(Record):
    """Write a line into the server log."""

    level: Level
    message: str
    detail: str = ""
    hint: str = ""


class LogChildExit(Record):
    """Write the line about a death (RP-02), with the statement it was running, if any."""

    level: Level
    name: str
    pid: int
    status: int


class SignalChild(Record):
    """kill() a child; deadly signals go to its process group as well (PR-26)."""

    pid: int
    kind: Kind
    signum: int


class SetQuitReason(Record):
    """Write into shared memory why SIGQUIT will come."""

    reason: QuitReason


class Fork(Record):
    """Start a child. Its outcome comes back as Forked or ForkFailed."""

    kind: Kind
    slot: int
    worker: int = -1
    cac: Cac = Cac.OK


class WritePidStatus(Record):
    """Rewrite line 8 of postmaster.pid."""

    status: PidStatus


class Listen(Record):
    """Take the listening sockets into the wait set, or out of it (SV-25)."""

    accepting: bool


class RereadConfiguration(Record):
    """Read the configuration files again and use what may change at a reload."""


class Reinitialize(Record):
    """Throw shared memory away and make it anew (CR-20)."""


class RemoveLogrotateFile(Record):
    """The request for rotation has been passed on (TF-02)."""


class QuitMyself(Record):
    """Send ourselves SIGQUIT, so that an immediate shutdown takes its ordinary way (SL-09)."""


class ExitCode(Enum):
    """How the postmaster ends (INV-72)."""

    NORMAL = 0
    ABNORMAL = 1


class Exit(Record):
    """The end of the postmaster; nothing after it is carried out."""

    code: ExitCode


Request = (
    Log
    | LogChildExit
    | SignalChild
    | SetQuitReason
    | Fork
    | WritePidStatus
    | Listen
    | RereadConfiguration
    | Reinitialize
    | RemoveLogrotateFile
    | QuitMyself
    | Exit
)
