"""Signal handlers and the signal mask: the only module that installs or blocks anything.

Begin with install() and blocked_signals().

A handler sets a flag and the latch: no logging, no lock, no decision. Python runs handlers between
bytecodes in the main thread only. Rejected: signalfd, because SIGQUIT must end a child even while
it computes; set_wakeup_fd() on the latch itself, because it writes one byte and an eventfd takes
eight, hence the pipe in latch.py.

Source: libpq/pqsignal.c, postmaster/interrupt.c, miscinit.c: InitPostmasterChild(); rules PR-27,
SG-40..42.
"""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

EXIT_ABORTED = 2  # nothing was cleaned up, so the postmaster treats it as a crash (SG-42)

# Every signal that the server handles. The others keep their default action in every process.
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
    """Install a handler for each signal; None ignores the signal."""
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
    """Restore the default action of signals."""
    for signum in signums:
        signal.signal(signum, signal.SIG_DFL)


@contextmanager
def blocked_signals() -> Iterator[None]:
    """Block every managed signal, and restore the mask at the end.

    Used across a fork: the child must not run the parent's handlers, and the parent must not reap
    a child that it has not recorded yet. The child never reaches the end: it exits inside.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, MANAGED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def become_child() -> None:
    """In a new child: let SIGQUIT end it; block the others until its handlers stand (PR-27).

    Called with signals blocked. Python forgets at the fork which signals the parent had pending.
    """
    signal.set_wakeup_fd(-1)  # it writes to the parent's pipe
    signal.signal(signal.SIGQUIT, _wrapped(abort))
    restore_default(signal.SIGCHLD)
    signal.pthread_sigmask(signal.SIG_SETMASK, MANAGED - {signal.SIGQUIT})


def wake_through(fd: int) -> None:
    """Make the interpreter write a byte to a descriptor at every signal. A full pipe is ignored:
    it is readable already."""
    signal.set_wakeup_fd(fd, warn_on_full_buffer=False)


def unblock_all() -> None:
    """Unblock all signals, after the handlers have been installed."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def unblock(*signums: int) -> None:
    """Unblock some signals."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signums)


def block_all_but_quit() -> None:
    """Block every managed signal but SIGQUIT, which must always end the process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, MANAGED - {signal.SIGQUIT})


def abort() -> None:
    """Exit at once, without clean-up. The postmaster then discards shared memory."""
    os._exit(EXIT_ABORTED)


def alarm(delay_s: float) -> None:
    """Send this process SIGALRM after a delay; 0 cancels it."""
    signal.setitimer(signal.ITIMER_REAL, delay_s)
