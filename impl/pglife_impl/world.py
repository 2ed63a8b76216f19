"""What the postmaster has in hand, and its children inherit by the fork.

Begin with   World.
Owns         nothing but the references; the death pipe.
Leaves out   all behaviour.
Source       postmaster.c: InitPostmasterDeathWatchHandle(); rules SV-25, CR-41.
"""

from __future__ import annotations

import os
import signal
import socket
import time

from msgspec import Struct, field

from .catalog import Catalog
from .guc import Gucs
from .hba import Line
from .latch import Latch, WaitSet
from .lockfile import LockFiles
from .pm_events import PmSignal
from .pm_state import Cac
from .shmem import Shmem
from .sockets import Sockets


class World(Struct):
    """The postmaster's things. In a child, those that are the postmaster's alone are closed."""

    gucs: Gucs
    data_directory: str
    locks: LockFiles
    sockets: Sockets
    shmem: Shmem
    catalog: Catalog
    latch: Latch
    wait_set: WaitSet
    death_read: int  # readable (end of file) when the postmaster has gone (CR-41)
    death_write: int
    postmaster_pid: int = field(default_factory=os.getpid)
    start_time: float = field(default_factory=time.time)
    logger_pipe: tuple[int, int] | None = None
    hba: list[Line] = field(default_factory=list)

    def leave_postmaster(self, *, is_logger: bool) -> None:
        """In a child: close what only the postmaster may hold (and the logger: its pipe)."""
        self.sockets.close_all()
        self.wait_set.close()
        self.latch.close()
        os.close(self.death_write)
        if self.logger_pipe is not None and not is_logger:
            os.close(self.logger_pipe[0])

    def signal_postmaster(self, reason: PmSignal) -> None:
        """In a child: put up a flag and wake the postmaster (7.1)."""
        self.shmem.raise_pmsignal(reason)
        os.kill(self.postmaster_pid, signal.SIGUSR1)


class Birth(Struct, frozen=True):
    """What a child is told at its birth."""

    slot: int  # child slot; 0 for a dead-end child
    cac: Cac = Cac.OK
    client: socket.socket | None = None
    created: float = 0.0
