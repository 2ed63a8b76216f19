"""What a session needs of the process that runs it, as protocols.

Begin with SessionContext. A session forks nothing, handles no signals and opens no sockets: all of
that lies behind these protocols. backend/context.py implements them for a forked process.
"""

from enum import Flag, auto
from typing import Protocol

from pglife_impl import ImplError
from pglife_impl.base.ids import Pid
from pglife_impl.config.guc import Gucs
from pglife_impl.data_directory.catalog import Catalog
from pglife_impl.protocol import Report
from pglife_impl.shmem.segment import Activity


class ClientGone(ImplError):
    """The client has closed the connection, or does not read what must be sent now."""


class Wake(Flag):
    """Why a wait ended."""

    READABLE = auto()
    LATCH = auto()
    TIMEOUT = auto()
    POSTMASTER_DEATH = auto()


class InterruptFlags:
    """Set by signal handlers, cleared by the code that serves them."""

    def __init__(self) -> None:
        self.die = False  # SIGTERM
        self.cancel = False  # SIGINT
        self.reload = False  # SIGHUP


class Client(Protocol):
    """The connection to the client."""

    def wait(self, timeout_s: float | None, *, readable: bool) -> Wake:
        """Sleep until a signal sets the latch, the postmaster dies, or `timeout_s` seconds pass.

        With `readable`, data from the client ends the sleep too. Resets the latch: look at the
        interrupt flags afterwards.
        """

    def receive(self) -> bytes | None:
        """Return the data that has arrived: b"" at end of file, None if no data has arrived."""

    def send(self, data: bytes) -> None:
        """Append to the output buffer, and flush it when it is full.

        Raises:
            ClientGone: the client is lost, or does not read and SIGTERM has arrived.
        """

    def flush(self) -> None:
        """Write the output buffer; raises as send() does."""

    def has_gone(self) -> bool:
        """Return whether the client has hung up, without reading."""


class SessionContext(Protocol):
    """The process of one session, after admission."""

    pid: Pid
    user: str  # the authenticated role
    database: str
    superuser: bool  # whether the role was a superuser at admission
    parameters: dict[str, str]  # of the startup packet, as sent
    cancel_key: bytes  # the secret of BackendKeyData
    start_time: float  # when the postmaster started, in epoch seconds
    conf_load_time: float  # when the configuration files were last read, in epoch seconds
    interrupts: InterruptFlags
    gucs: Gucs  # this process's own copy of the settings
    catalog: Catalog  # roles and databases; call refresh() before reading

    @property
    def client(self) -> Client:
        """The connection to the client."""

    @property
    def in_recovery(self) -> bool:
        """Whether the server is in recovery."""

    def now(self) -> float:
        """Return the wall-clock time in epoch seconds."""

    def activities(self) -> list[Activity]:
        """Return a consistent copy of every claimed PGPROC, in slot order."""

    def activity_of(self, pid: Pid) -> Activity | None:
        """Return the row of a process, or None if it has no PGPROC."""

    def set_activity(self, text: str) -> None:
        """Set the part of the process title after the host."""

    def report(self, **columns: str | float | int | bool) -> None:
        """Change this session's row of pg_stat_activity; a new state also sets state_change."""

    def log(self, report: Report, statement: str = "") -> None:
        """Write to the server log, subject to log_min_messages."""

    def signal_backend(self, pid: Pid, signum: int) -> bool:
        """Signal a process and its group; return False if it does not exist."""

    def request_reload(self) -> bool:
        """Send SIGHUP to the postmaster; return False if it does not exist."""

    def request_log_rotation(self) -> None:
        """Ask the postmaster to have the logger rotate its file."""

    def request_checkpoint(self) -> None:
        """Request an immediate checkpoint and wait for it.

        Raises:
            CheckpointFailed: it failed, or the wait was interrupted.
        """

    def reload(self) -> None:
        """Clear the reload flag and read the configuration files again."""
