"""Message levels and the states in postmaster.pid, shared by the server and pg_ctl.

Source: utils/elog.h; utils/pidfile.h; rule SH-40.
"""

from enum import Enum, IntEnum


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


class PidStatus(Enum):
    """Line 8 of postmaster.pid: eight characters (SH-40)."""

    STARTING = "starting"
    READY = "ready   "
    STANDBY = "standby "
    STOPPING = "stopping"
