"""What can happen to the postmaster, and what it can ask its loop to do.

Begin with   Event (what a decision is given), then Request (what it returns).
Owns         the vocabulary between the pure decisions and the loop; no behaviour.
Leaves out   how a request is carried out (perform.py).
Source       postmaster.c: ServerLoop(); rules SL-01, SG-01..04, section 7.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

from .kinds import Kind
from .pm_state import Cac, PidStatus, QuitReason, Shutdown


class PmSignal(IntEnum):
    """Reasons for SIGUSR1 to the postmaster (7.1); the numbers index flags in shared memory."""

    RECOVERY_STARTED = 0
    RECOVERY_CONSISTENT = 1
    BEGIN_HOT_STANDBY = 2
    BACKGROUND_WORKER_CHANGE = 3
    ROTATE_LOGFILE = 4
    START_AUTOVAC_LAUNCHER = 5
    START_AUTOVAC_WORKER = 6
    START_WALRECEIVER = 7
    XLOG_IS_SHUTDOWN = 8
    ADVANCE_STATE_MACHINE = 9


class Level(IntEnum):
    """Message levels, in the order of the server log's threshold (LOG ranks above ERROR)."""

    DEBUG5 = 10
    DEBUG4 = 11
    DEBUG3 = 12
    DEBUG2 = 13
    DEBUG1 = 14
    INFO = 17
    NOTICE = 18
    WARNING = 19
    ERROR = 21
    LOG = 22
    FATAL = 23
    PANIC = 24


# --- events ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Born:
    """Everything is set up; the first children are due (ST-04)."""


@dataclass(frozen=True, slots=True)
class LoggerWanted:
    """The logger is to be started before all else (LG-01)."""


@dataclass(frozen=True, slots=True)
class ShutdownRequested:
    """SIGTERM, SIGINT or SIGQUIT; the strongest of those that came together (SG-08)."""

    level: Shutdown
    now: float


@dataclass(frozen=True, slots=True)
class ReloadRequested:
    """SIGHUP (SG-02)."""


@dataclass(frozen=True, slots=True)
class ChildExited:
    """One death, as waitpid tells it."""

    pid: int
    status: int  # as waitpid returns it
    slot_was_clean: bool  # its shared slot flag was ASSIGNED (RP-03)
    now: float


@dataclass(frozen=True, slots=True)
class ReapingDone:
    """All pending deaths have been told (RP-01)."""

    now: float


@dataclass(frozen=True, slots=True)
class PmSignalsSeen:
    """SIGUSR1: the flags that were up, and the trigger files that lay there."""

    reasons: frozenset[PmSignal]
    logrotate_file: bool
    promote_file: bool
    now: float


@dataclass(frozen=True, slots=True)
class ConnectionArrived:
    """A client's socket was accepted."""


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """All events of this turn are handled: launch what is missing, look at the clocks (SL-01)."""

    now: float


@dataclass(frozen=True, slots=True)
class LockFileLost:
    """The pid file is gone or another's (SL-09)."""


@dataclass(frozen=True, slots=True)
class Forked:
    """A fork that was asked for has been made."""

    kind: Kind
    pid: int
    slot: int
    worker: int
    now: float


@dataclass(frozen=True, slots=True)
class ForkFailed:
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


@dataclass(frozen=True, slots=True)
class Log:
    """Write a line into the server log."""

    level: Level
    message: str
    detail: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class LogChildExit:
    """Write the line about a death (RP-02), with the statement it was running, if any."""

    level: Level
    name: str
    pid: int
    status: int


@dataclass(frozen=True, slots=True)
class SignalChild:
    """kill() a child; deadly signals go to its process group as well (PR-26)."""

    pid: int
    kind: Kind
    signum: int


@dataclass(frozen=True, slots=True)
class SetQuitReason:
    """Write into shared memory why SIGQUIT will come."""

    reason: QuitReason


@dataclass(frozen=True, slots=True)
class Fork:
    """Start a child. Its outcome comes back as Forked or ForkFailed."""

    kind: Kind
    slot: int
    worker: int = -1
    cac: Cac = Cac.OK


@dataclass(frozen=True, slots=True)
class WritePidStatus:
    """Rewrite line 8 of postmaster.pid."""

    status: PidStatus


@dataclass(frozen=True, slots=True)
class Listen:
    """Take the listening sockets into the wait set, or out of it (SV-25)."""

    accepting: bool


@dataclass(frozen=True, slots=True)
class RereadConfiguration:
    """Read the configuration files again and use what may change at a reload."""


@dataclass(frozen=True, slots=True)
class Reinitialize:
    """Throw shared memory away and make it anew (CR-20)."""


@dataclass(frozen=True, slots=True)
class RemoveLogrotateFile:
    """The request for rotation has been passed on (TF-02)."""


@dataclass(frozen=True, slots=True)
class QuitMyself:
    """Send ourselves SIGQUIT, so that an immediate shutdown takes its ordinary way (SL-09)."""


class ExitCode(Enum):
    """How the postmaster ends (INV-72)."""

    NORMAL = 0
    ABNORMAL = 1


@dataclass(frozen=True, slots=True)
class Exit:
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
