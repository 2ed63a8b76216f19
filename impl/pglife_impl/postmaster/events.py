"""What can happen to the postmaster. Each event is the input of one decision (decide.py).

Source: postmaster.c: ServerLoop(); rules SL-01, SG-01..04, PG-01..25.
"""

import socket

from pglife_impl.base.ids import Pid
from pglife_impl.base.pmsignal import PmSignal, SlotFlag
from pglife_impl.base.record import Record
from pglife_impl.postmaster.state import Shutdown


class LoggerWanted(Record):
    """The postmaster starts: the logger is launched before everything else (LG-01)."""


class Initialized(Record):
    """Sockets and shared memory are set up: time for the first children (ST-04)."""


class ShutdownRequested(Record):
    """SIGTERM, SIGINT or SIGQUIT arrived; of several, the strongest (SG-08)."""

    mode: Shutdown


class ReloadRequested(Record):
    """SIGHUP arrived (SG-02)."""


class ChildExited(Record):
    """waitpid() returned one child."""

    pid: Pid
    status: int  # as waitpid() returns it
    slot_flag: SlotFlag | None  # of its child slot, if it has one


class ReapingDone(Record):
    """Every zombie has been reaped (RP-01)."""


class PmSignalsSeen(Record):
    """SIGUSR1 arrived: the flags that children had set, and whether trigger files exist."""

    reasons: frozenset[PmSignal]
    logrotate_file: bool
    promote_file: bool


class ConnectionArrived(Record):
    """A connection was accepted."""

    client: socket.socket


class IterationEnded(Record):
    """All events of this iteration of the loop are handled: launch what is missing (SL-01)."""


class LockFileLost(Record):
    """postmaster.pid is missing or names another process (SL-09)."""


Event = (
    LoggerWanted
    | Initialized
    | ShutdownRequested
    | ReloadRequested
    | ChildExited
    | ReapingDone
    | PmSignalsSeen
    | ConnectionArrived
    | IterationEnded
    | LockFileLost
)
