"""Signals as a program expects them at its start, whoever started the suite.

Begin with   begin_afresh(); are_fresh() tells whether a program gets them from us anyway.
Owns         dispositions and the mask in a forked child, before exec.
Leaves out   the user that it becomes (privilege.py).
Source       signal(7): what is ignored stays ignored across exec. A shell without job control
             starts background commands with INT and QUIT ignored, nohup with HUP.
"""

from __future__ import annotations

import signal

_MAY_BE_IGNORED = sorted(
    signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP} - set(range(32, signal.NSIG))
)


def begin_afresh() -> None:
    """In a forked child, before exec: default signals, and none blocked."""
    for number in _MAY_BE_IGNORED:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


_IGNORED_BY_PYTHON = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
"""subprocess restores these by itself."""


def are_fresh() -> bool:
    """Whether we ignore no signal, but those that Python ignores, and block none."""
    ignored = (n for n in _MAY_BE_IGNORED if signal.getsignal(n) is signal.SIG_IGN)
    return _IGNORED_BY_PYTHON.issuperset(ignored) and not signal.pthread_sigmask(
        signal.SIG_BLOCK, ()
    )
