"""The process of one session, as the session sees it.

Implements session.context.SessionContext.
"""

import os
import signal
import time

from pglife_impl.backend.connection import Connection
from pglife_impl.backend.reporting import log_report
from pglife_impl.base.ids import Pid, ProcNumber
from pglife_impl.base.pmsignal import PmSignal
from pglife_impl.data_directory.catalog import RoleDef
from pglife_impl.log import elog
from pglife_impl.os import titles
from pglife_impl.process.world import World
from pglife_impl.protocol import Report, StartupPacket
from pglife_impl.session.context import InterruptFlags, Wake
from pglife_impl.shmem import checkpoint
from pglife_impl.shmem.checkpoint import CheckpointFailed
from pglife_impl.shmem.segment import Activity


class BackendContext:
    """A forked process that has been admitted."""

    def __init__(
        self,
        world: World,
        client: Connection,
        interrupts: InterruptFlags,
        identity: elog.ClientIdentity,
        packet: StartupPacket,
        role: RoleDef,
        *,
        proc: ProcNumber,
        cancel_key: bytes,
    ) -> None:
        self._world = world
        self._shmem = world.shmem
        self._identity = identity
        self._proc = proc
        self.client = client
        self.interrupts = interrupts
        self.pid = Pid(os.getpid())
        self.user = role.name
        self.superuser = role.superuser
        self.database = packet.parameters["database"]
        self.parameters = dict(packet.parameters)
        self.cancel_key = cancel_key
        self.gucs = world.gucs
        self.catalog = world.catalog
        self.start_time = self.conf_load_time = world.start_time

    @property
    def in_recovery(self) -> bool:
        """Whether the server is in recovery."""
        return self._shmem.in_recovery

    def now(self) -> float:
        """Return the wall-clock time in epoch seconds."""
        return time.time()

    def activities(self) -> list[Activity]:
        """Return the rows of all claimed PGPROCs."""
        return self._shmem.activities()

    def activity_of(self, pid: Pid) -> Activity | None:
        """Return the row of a process, or None if it has no PGPROC."""
        return self._shmem.activity_of(pid)

    def set_activity(self, text: str) -> None:
        """Set the part of the process title after the host."""
        titles.activity(text)

    def report(self, **columns: str | float | int | bool) -> None:
        """Change this session's row; the names are those of shmem.Activity."""
        if "state" in columns and "state_change" not in columns:
            columns["state_change"] = time.time()
        if "application_name" in columns:
            self._identity.application_name = str(columns["application_name"])
        self._shmem.write_row(self._proc, **columns)

    def log(self, report: Report, statement: str = "") -> None:
        """Write to the server log."""
        log_report(report, statement)

    def signal_backend(self, pid: Pid, signum: int) -> bool:
        """Signal a process by its group, which it leads from the start (PR-26).

        The pid is not signalled as well: a second SIGINT, arriving when the first has been served,
        would cancel the next statement.
        """
        return _kill(-pid, signum)

    def request_reload(self) -> bool:
        """Send SIGHUP to the postmaster."""
        return _kill(self._world.postmaster_pid, signal.SIGHUP)

    def request_log_rotation(self) -> None:
        """Ask the postmaster to have the logger rotate its file."""
        self._world.signal_postmaster(PmSignal.ROTATE_LOGFILE)

    def reload(self) -> None:
        """Clear the reload flag and read the configuration files again."""
        self.interrupts.reload = False
        self.gucs.load(starting=False)
        elog.configure(self.gucs)
        titles.configure(update=self.gucs.boolean("update_process_title"))
        self.conf_load_time = self.now()

    def request_checkpoint(self) -> None:
        """Request an immediate checkpoint and wait for it."""
        flags = (
            checkpoint.CheckpointFlag.IMMEDIATE
            | checkpoint.CheckpointFlag.FORCE
            | checkpoint.CheckpointFlag.WAIT
        )
        checkpoint.request(self._shmem, flags, self._nap)

    def _nap(self, delay: float) -> None:
        wake = self.client.wait(delay, readable=False)
        if Wake.POSTMASTER_DEATH in wake or self.interrupts.die:
            raise CheckpointFailed("checkpoint request was interrupted")


def _kill(pid: int, signum: int) -> bool:
    try:
        os.kill(pid, signum)
    except OSError:
        return False
    return True
