"""Signals as a program expects them at its start, whatever started the suite has ignored.

Begin with reset_ignored_signals(), which runs in a forked child before exec; ignores_nothing() says
whether a program would get default dispositions from us anyway.
"""

import signal

_MAY_BE_IGNORED = sorted(
    signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP} - set(range(32, signal.NSIG))
)


def reset_ignored_signals() -> None:
    """Give every signal its default disposition and unblock all; in a forked child, before exec."""
    for number in _MAY_BE_IGNORED:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


_IGNORED_BY_PYTHON = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
"""subprocess restores these."""


def ignores_nothing() -> bool:
    """Whether this process ignores only the signals that Python ignores, and blocks none."""
    ignored = (n for n in _MAY_BE_IGNORED if signal.getsignal(n) is signal.SIG_IGN)
    return _IGNORED_BY_PYTHON.issuperset(ignored) and not signal.pthread_sigmask(
        signal.SIG_BLOCK, ()
    )
