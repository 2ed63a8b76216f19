"""Latches, and waiting: the one place where a process of this server sleeps.

Begin with   WaitSet.wait().
Owns         the process-local latch (an eventfd) and the epoll set.
Leaves out   who sets the latch: signal handlers (signals.py), other processes by SIGURG.
Source       storage/ipc/latch.c, waiteventset.c; rules PG-30, PG-31.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterable


class Latch:
    """Something to be woken by. Setting it twice is as good as once."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def set(self) -> None:
        """Wake the waiter, now or as soon as it waits. Safe in a signal handler."""
        # A full counter raises BlockingIOError; it takes 2**64 - 2 sets without one reset.
        os.eventfd_write(self.fd, 1)

    def reset(self) -> None:
        """Forget that it was set. Do this before looking at what it announced, never after."""
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)


class WaitSet:
    """A latch and some descriptors to read from, watched together."""

    def __init__(self, latch: Latch, readable: Iterable[int] = ()) -> None:
        self.latch = latch
        self.epoll = select.epoll()
        self.epoll.register(latch.fd, select.EPOLLIN)
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
        """The descriptors that are ready, the latch's among them; empty if the time is over.

        A signal that comes between the caller's last look at its flags and the sleep is not lost,
        for its handler sets the latch, and epoll is level-triggered. Python runs the handler when
        epoll_wait is interrupted and then waits again, which returns at once.
        """
        ready = self.epoll.poll(-1 if timeout_s is None else max(timeout_s, 0.0))
        return [fd for fd, _ in ready]

    def close(self) -> None:
        """Give the epoll descriptor back; the watched ones stay open."""
        self.epoll.close()
