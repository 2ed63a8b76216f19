"""Latches, and waiting: the one place where a process of this server sleeps.

Begin with   WaitSet.wait().
Owns         the process-local latch (an eventfd), the signal pipe beside it, the epoll set.
Leaves out   who sets the latch: signal handlers (signals.py), other processes by SIGURG.
Source       storage/ipc/latch.c, waiteventset.c; rules PG-30, PG-31.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterable

from pglife_impl.os import signals


class Latch:
    """Something to be woken by. Setting it twice is as good as once. One for each process.

    Beside the eventfd there is a pipe into which the interpreter writes a byte at every signal.
    Without it a signal is lost that comes after the last bytecode and before epoll_wait: the
    kernel has called the interpreter's own handler by then, but ours, which sets the latch, runs
    only when epoll_wait returns. Seen as a SIGCHLD that was served 60 s late.
    """

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.signal_fd, self._signal_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signals.wake_through(self._signal_write)

    def set(self) -> None:
        """Wake the waiter, now or as soon as it waits. Safe in a signal handler."""
        # A full counter raises BlockingIOError; it takes 2**64 - 2 sets without one reset.
        os.eventfd_write(self.fd, 1)

    def reset(self) -> None:
        """Forget that it was set. Do this before looking at what it announced, never after."""
        for fd in (self.fd, self.signal_fd):
            try:
                os.read(fd, 4096)
            except BlockingIOError:
                continue  # only the other one was set

    def close(self) -> None:
        """Give the descriptors back: in a child, of its parent's latch."""
        for fd in (self.fd, self.signal_fd, self._signal_write):
            os.close(fd)


class WaitSet:
    """A latch and some descriptors to read from, watched together."""

    def __init__(self, latch: Latch, readable: Iterable[int] = ()) -> None:
        self.latch = latch
        self.epoll = select.epoll()
        self.epoll.register(latch.fd, select.EPOLLIN)
        self.epoll.register(latch.signal_fd, select.EPOLLIN)
        self.watched: set[int] = set()
        for fd in readable:
            self.add(fd)

    def add(self, fd: int) -> None:
        """Watch one more descriptor for input."""
        if fd not in self.watched:
            self.epoll.register(fd, select.EPOLLIN)
            self.watched.add(fd)

    def remove(self, fd: int) -> None:
        """Watch it no longer."""
        if fd in self.watched:
            self.epoll.unregister(fd)
            self.watched.discard(fd)

    def wait(self, timeout_s: float | None) -> list[int]:
        """The descriptors that are ready, the latch's among them; empty if the time is over."""
        ready = self.epoll.poll(-1 if timeout_s is None else max(timeout_s, 0.0))
        fds = [fd for fd, _ in ready if fd != self.latch.signal_fd]
        if len(fds) < len(ready) and self.latch.fd not in fds:
            fds.append(self.latch.fd)
        return fds

    def close(self) -> None:
        """Give the epoll descriptor back; the watched ones stay open."""
        self.epoll.close()
