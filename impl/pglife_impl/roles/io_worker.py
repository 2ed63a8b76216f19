"""An io worker. There is no buffer pool yet, so it has nothing to read.

Source: storage/aio/method_worker.c; rules IO-01..10, SG-20, TI-12, TI-34.
"""

import signal

from pglife_impl.base.kinds import Kind
from pglife_impl.os import titles
from pglife_impl.process.registry import register
from pglife_impl.process.role import Reaction, Role


@register
class IoWorker(Role):
    """Performs reads that other processes have queued.

    Started      by the postmaster, before any process that may need I/O, up to io_workers of them.
    Exits        with 0 on SIGUSR2, which the postmaster sends, or SIGINT. SIGTERM is ignored, so
                 that it outlives every process that may need it (IO-06).
    Aborts       with 2 on SIGQUIT, at once.
    Crash        any exit but 0 and 1.
    """

    kind = Kind.IO_WORKER
    signals = {
        signal.SIGHUP: Reaction.RELOAD,
        signal.SIGINT: Reaction.STOP,
        signal.SIGTERM: Reaction.IGNORE,
        signal.SIGQUIT: Reaction.ABORT,
        signal.SIGUSR2: Reaction.STOP,
    }

    def begin(self) -> None:
        """Show `io worker N`, with the lowest free number (TI-34). To PostgreSQL the number is the
        activity, so update_process_title = off hides it."""
        assert self.proc is not None
        titles.activity(str(self.shmem.io_worker_number(self.proc)))

    def turn(self) -> None:
        """The queue is empty: sleep until the latch is set."""
