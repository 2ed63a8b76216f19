"""Latches, and waiting: the only place where a process of this server sleeps.

Begin with WaitSet.wait(). A latch is set by the signal handlers of its own process; another process
sets it by sending SIGURG.

Source: storage/ipc/latch.c, waiteventset.c; rules PG-30, PG-31.
"""

import os
import select
from collections.abc import Iterable

from pglife_impl.os import signals


class Latch:
    """An eventfd that ends the wait of its process. Setting it twice has the effect of once.

    Next to the eventfd is a pipe into which the interpreter writes a byte at every signal. Without
    it a signal is lost that arrives after the last bytecode and before epoll_wait(): the kernel
    has called the interpreter's own handler by then, but ours, which sets the latch, runs only
    when epoll_wait() returns. Seen as a SIGCHLD that was served 60 s late.

    The interpreter has one wakeup descriptor. The constructor sets it, so a process has one latch:
    a child makes its own after the fork, and a second one in the same process would take the
    signal bytes of the first.
    """

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.signal_fd, self._signal_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signals.wake_through(self._signal_write)

    def set(self) -> None:
        """End the present wait, or the next one. Safe in a signal handler."""
        # A full counter raises BlockingIOError, after 2**64 - 2 sets without a reset.
        os.eventfd_write(self.fd, 1)

    def reset(self) -> None:
        """Clear the latch. Do this before looking for work: a set() after that is not lost."""
        for fd in (self.fd, self.signal_fd):
            try:
                os.read(fd, 4096)
            except BlockingIOError:
                continue  # only the other descriptor was readable

    def close(self) -> None:
        """Close the descriptors: in a child, those of its parent's latch."""
        for fd in (self.fd, self.signal_fd, self._signal_write):
            os.close(fd)


class WaitSet:
    """A latch and descriptors to read from, waited for together."""

    def __init__(self, latch: Latch, readable: Iterable[int] = ()) -> None:
        self.latch = latch
        self.epoll = select.epoll()
        self.epoll.register(latch.fd, select.EPOLLIN)
        self.epoll.register(latch.signal_fd, select.EPOLLIN)
        self.watched: set[int] = set()
        for fd in readable:
            self.add(fd)

    def add(self, fd: int) -> None:
        """Wait for input on one more descriptor."""
        if fd not in self.watched:
            self.epoll.register(fd, select.EPOLLIN)
            self.watched.add(fd)

    def remove(self, fd: int) -> None:
        """Wait for a descriptor no longer."""
        if fd in self.watched:
            self.epoll.unregister(fd)
            self.watched.discard(fd)

    def wait(self, timeout_s: float | None) -> list[int]:
        """Sleep until a descriptor is ready, the latch is set or the timeout is over.

        Returns:
            The descriptors that are ready; latch.fd if the latch is set; empty after a timeout.
        """
        ready = self.epoll.poll(-1 if timeout_s is None else max(timeout_s, 0.0))
        fds = [fd for fd, _ in ready if fd != self.latch.signal_fd]
        if len(fds) < len(ready) and self.latch.fd not in fds:
            fds.append(self.latch.fd)
        return fds

    def close(self) -> None:
        """Close the epoll descriptor; the descriptors waited for stay open."""
        self.epoll.close()
