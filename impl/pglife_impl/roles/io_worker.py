"""An io worker: reads on behalf of others.

Begin with   IoWorker.
Owns         its signal table and its number.
Leaves out   the reads, which come with the buffer pool of a later issue.
Source       storage/aio/method_worker.c; rules IO-01..10, SG-20, TI-12, TI-34.
"""

from __future__ import annotations

import signal

from pglife_impl.base.kinds import Kind
from pglife_impl.os import titles
from pglife_impl.process.registry import register
from pglife_impl.process.role import Reaction, Role


@register
class IoWorker(Role):
    """Carry out reads that others have queued.

    Started      by the postmaster, before everybody who might need I/O, up to io_workers of them.
    Ends         on SIGUSR2 (the postmaster's way) or SIGINT with exit code 0. SIGTERM is ignored,
                 so that it outlives everybody who needs it (IO-06).
    Aborts       on SIGQUIT, at once, with exit code 2.
    If it dies   by anything but exit 0 or 1, that is a crash.
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
        """`io worker N`, N being the lowest number that was free (TI-34). To PostgreSQL the number
        is the activity, so update_process_title = off hides it."""
        assert self.proc is not None
        titles.activity(str(self.shmem.io_worker_number(self.proc)))

    def turn(self) -> None:
        """The queue is empty: sleep until woken."""
