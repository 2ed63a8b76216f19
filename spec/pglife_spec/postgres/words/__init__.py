"""What the model speaks of: values of its variables, under PostgreSQL's own names.

Beside it: `kinds.py`, one row for each kind of child; `workers.py`, the list of background workers;
`recovery.py`, archive recovery; `releases.py`, one row for each release; `parameters.py`, the
settings; `repairs.py`, the repairs of defects.

Source: src/backend/postmaster/postmaster.c (PMState, StartupStatusEnum, the shutdown modes),
src/include/catalog/pg_control.h (DBState), src/include/utils/pidfile.h.
"""

import enum


class PM(enum.Enum):
    """Values of pmState, 15's and 18's, in an order that agrees with both declarations."""

    PM_INIT = "PM_INIT"
    PM_STARTUP = "PM_STARTUP"
    PM_RECOVERY = "PM_RECOVERY"
    PM_HOT_STANDBY = "PM_HOT_STANDBY"
    PM_RUN = "PM_RUN"
    PM_STOP_BACKENDS = "PM_STOP_BACKENDS"
    PM_WAIT_BACKENDS = "PM_WAIT_BACKENDS"
    PM_SHUTDOWN = "PM_SHUTDOWN"
    PM_WAIT_XLOG_SHUTDOWN = "PM_WAIT_XLOG_SHUTDOWN"
    PM_SHUTDOWN_2 = "PM_SHUTDOWN_2"
    PM_WAIT_XLOG_ARCHIVAL = "PM_WAIT_XLOG_ARCHIVAL"
    PM_WAIT_IO_WORKERS = "PM_WAIT_IO_WORKERS"
    PM_WAIT_CHECKPOINTER = "PM_WAIT_CHECKPOINTER"
    PM_WAIT_DEAD_END = "PM_WAIT_DEAD_END"
    PM_NO_CHILDREN = "PM_NO_CHILDREN"


class Shutdown(enum.Enum):
    """The strongest shutdown request so far (SV-01)."""

    NoShutdown = "NoShutdown"
    SmartShutdown = "SmartShutdown"
    FastShutdown = "FastShutdown"
    ImmediateShutdown = "ImmediateShutdown"


class StartupStatus(enum.Enum):
    """The postmaster's record of its startup process (SV-07)."""

    STARTUP_NOT_RUNNING = "STARTUP_NOT_RUNNING"
    STARTUP_RUNNING = "STARTUP_RUNNING"
    STARTUP_SIGNALED = "STARTUP_SIGNALED"
    STARTUP_CRASHED = "STARTUP_CRASHED"


class Life(enum.Enum):
    """Where one child is between fork and reaping.

    A child that has exited stays in the postmaster's records until it is reaped (MM-10). SIGKILL
    has no state of its own: the kernel carries it out at once (F3).
    """

    ABSENT = "absent"
    RUNNING = "running"
    TERMINATING = "sent the signal that ends it"
    CHECKPOINTING = "sent the signal for the shutdown checkpoint"
    XLOG_SHUT_DOWN = "has reported the shutdown checkpoint"
    QUITTING = "sent SIGQUIT"
    EXITED_0 = "zombie: exit code 0"
    EXITED_1 = "zombie: exit code 1"
    EXITED_3 = "zombie: exit code 3"
    CRASHED = "zombie: any other status"


class Kind(enum.Enum):
    """Kinds of children, named as PostgreSQL 18 names them."""

    STARTUP = "startup"
    CHECKPOINTER = "checkpointer"
    BG_WRITER = "background writer"
    WAL_WRITER = "walwriter"
    AUTOVAC_LAUNCHER = "autovacuum launcher"
    BG_WORKER = "logical replication launcher"
    LOGGER = "logger"
    BACKEND = "client backend"
    DEAD_END_BACKEND = "dead-end client backend"
    IO_WORKER = "io worker"
    ARCHIVER = "archiver"
    WAL_SENDER = "walsender"
    WAL_SUMMARIZER = "WAL summarizer"
    STATIC_WORKER = "background worker"
    AUTOVAC_WORKER = "autovacuum worker"
    WAL_RECEIVER = "walreceiver"
    SLOTSYNC_WORKER = "slotsync worker"


class ArchiveMode(enum.Enum):
    """GUC archive_mode (AR-01)."""

    OFF = "off"
    ON = "on"
    ALWAYS = "always"


class PidFile(enum.Enum):
    """Line 8 of postmaster.pid (SH-40), or no file."""

    NONE = "no file"
    STARTING = "starting"
    STANDBY = "standby"
    READY = "ready"
    STOPPING = "stopping"


class Control(enum.Enum):
    """The "Database cluster state" line of pg_controldata (CT-20)."""

    SHUT_DOWN = "shut down"
    SHUT_DOWN_IN_RECOVERY = "shut down in recovery"
    SHUTTING_DOWN = "shutting down"
    IN_CRASH_RECOVERY = "in crash recovery"
    IN_ARCHIVE_RECOVERY = "in archive recovery"
    IN_PRODUCTION = "in production"


class Phase(enum.Enum):
    """What one iteration of the event loop does, in 18's order; loop.py has both orders."""

    REQUESTS = "shutdown requests; up to 15 a fast or immediate one"
    RELOAD = "a reload"
    DEATHS = "reaping"
    MESSAGES = "PMSignal flags"
    SMART_REQUEST = "up to 15: a smart shutdown request"
    ACCEPT = "a client"
    LAUNCH = "missing children"
    CLOCK = "the SIGKILL timer"


class Exit(enum.Enum):
    """Whether the postmaster is alive, and its exit status if not."""

    ALIVE = "alive"
    EXITED_0 = "exit code 0"
    EXITED_1 = "exit code 1"


class Signal(enum.Enum):
    """The signals that the postmaster sends to its children."""

    SIGHUP = "SIGHUP"
    SIGINT = "SIGINT"
    SIGTERM = "SIGTERM"
    SIGQUIT = "SIGQUIT"
    SIGUSR2 = "SIGUSR2"
    SIGKILL = "SIGKILL"
