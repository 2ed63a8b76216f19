"""Signal handlers: the only module that installs them, or blocks signals.

Begin with   install() and blocked_signals().
Owns         signal.signal() and the signal mask.
Leaves out   what a flag leads to: postmaster.py, role.py, backend.py.
Source       libpq/pqsignal.c, postmaster/interrupt.c, miscinit.c: InitPostmasterChild(); rules
             PR-27, SG-40..42.

A handler sets a flag and wakes the latch: no logging, no lock, no decision. Python runs handlers
between bytecodes in the main thread only. Rejected: signalfd, because a child that is about to
be told QUIT must die of it even while it computes; set_wakeup_fd on the latch itself, because it
writes one byte and an eventfd takes eight, hence the pipe in latch.py.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

EXIT_ABORTED = 2  # QUIT: nothing was cleaned up, so the postmaster treats it as a crash (SG-42)

# What a child may still get by default: job control and the deadly ones.
MANAGED = frozenset(
    {
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGURG,
        signal.SIGALRM,
        signal.SIGCHLD,
        signal.SIGPIPE,
    }
)

Handler = Callable[[], None]


def install(handlers: Mapping[int, Handler | None]) -> None:
    """Give each signal its handler; None ignores it."""
    for signum, handler in handlers.items():
        if handler is None:
            signal.signal(signum, signal.SIG_IGN)
        else:
            signal.signal(signum, _wrapped(handler))


def _wrapped(handler: Handler) -> Callable[[int, FrameType | None], None]:
    def run(_signum: int, _frame: FrameType | None) -> None:
        handler()

    return run


def restore_default(*signums: int) -> None:
    """Give signals back to the kernel's own action."""
    for signum in signums:
        signal.signal(signum, signal.SIG_DFL)


@contextmanager
def blocked_signals() -> Iterator[None]:
    """Hold back every managed signal, across a fork above all: the child must not run the
    parent's handlers, and the parent must not reap a child that it has not yet recorded."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, MANAGED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def become_child() -> None:
    """First thing in a child: QUIT ends it at once, all else waits for its own handlers (PR-27).

    Called with signals blocked; Python drops what its parent had pending when it forks.
    """
    signal.set_wakeup_fd(-1)  # the parent's
    signal.signal(signal.SIGQUIT, _wrapped(abort))
    restore_default(signal.SIGCHLD)
    signal.pthread_sigmask(signal.SIG_SETMASK, MANAGED - {signal.SIGQUIT})


def wake_through(fd: int) -> None:
    """Have the interpreter write a byte there at every signal; a full pipe is as good as one."""
    signal.set_wakeup_fd(fd, warn_on_full_buffer=False)


def unblock_all() -> None:
    """The handlers are set: let signals in."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def unblock(*signums: int) -> None:
    """Let some signals in, while the others still wait."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signums)


def block_all_but_quit() -> None:
    """Hold back every managed signal but the one that must always work."""
    signal.pthread_sigmask(signal.SIG_BLOCK, MANAGED - {signal.SIGQUIT})


def abort() -> None:
    """QUIT: leave on the spot; shared memory stays as it is, and nobody will trust it again."""
    os._exit(EXIT_ABORTED)


def alarm(delay_s: float) -> None:
    """SIGALRM after that time; 0 calls it off."""
    signal.setitimer(signal.ITIMER_REAL, delay_s)
