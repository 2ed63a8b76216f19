"""What children inherit from the postmaster: World, and a Birth for each.

Source: postmaster.c: InitPostmasterDeathWatchHandle(); rules SV-25, CR-41.
"""

import os
import signal
import socket
import time

from pglife_impl.base.cac import Cac
from pglife_impl.base.ids import Slot
from pglife_impl.base.pmsignal import PmSignal
from pglife_impl.base.record import Record
from pglife_impl.config.guc import Gucs
from pglife_impl.data_directory.catalog import Catalog
from pglife_impl.data_directory.lockfile import LockFiles
from pglife_impl.net.hba import HbaLine
from pglife_impl.net.sockets import Sockets
from pglife_impl.os.latch import Latch, WaitSet
from pglife_impl.shmem.segment import Shmem


class World:
    """The postmaster's settings, files, sockets and shared memory."""

    def __init__(
        self,
        *,
        gucs: Gucs,
        data_directory: str,
        locks: LockFiles,
        sockets: Sockets,
        shmem: Shmem,
        death_pipe: tuple[int, int],
    ) -> None:
        self.gucs = gucs
        self.data_directory = data_directory
        self.locks = locks
        self.sockets = sockets
        self.shmem = shmem
        self.catalog = Catalog(data_directory)
        self.latch = Latch()
        self.wait_set = WaitSet(self.latch)
        # death_read is readable (end of file) as soon as the postmaster has exited (CR-41).
        self.death_read, self.death_write = death_pipe
        self.postmaster_pid = os.getpid()
        self.start_time = time.time()
        self.logger_pipe: tuple[int, int] | None = None
        self.hba: list[HbaLine] = []

    def close_postmaster_files(self, *, is_logger: bool) -> None:
        """In a child: close what only the postmaster may have open. The logger keeps its pipe."""
        self.sockets.close_all()
        self.wait_set.close()
        self.latch.close()
        os.close(self.death_write)
        if self.logger_pipe is not None and not is_logger:
            os.close(self.logger_pipe[0])

    def signal_postmaster(self, reason: PmSignal) -> None:
        """In a child: set a flag and send SIGUSR1 to the postmaster."""
        self.shmem.raise_pmsignal(reason)
        os.kill(self.postmaster_pid, signal.SIGUSR1)


class Birth(Record):
    """What the postmaster hands to a new child."""

    slot: Slot | None  # child slot; None for a dead-end child
    cac: Cac = Cac.OK
    client: socket.socket | None = None
    created: float = 0.0  # when the postmaster called fork(), Unix seconds
