"""Making a child: the only module that forks.

Begin with   fork_child().
Owns         os.fork(), the promise that a child never returns, its process group.
Leaves out   what the child does (child.py).
Source       postmaster/fork_process.c, launch_backend.c; rules PR-26, PR-27, CR-63.

The child leaves by os._exit in every path: sys.exit would run the parent's clean-up in the child
and costs six times as much. Rejected: os.posix_spawn and multiprocessing, which start a new
interpreter and inherit no memory.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from pglife_impl.base.exits import EXIT_FATAL
from pglife_impl.base.ids import Pid
from pglife_impl.os import signals


def fork_child(main: Callable[[], int]) -> Pid:
    """Fork; the child runs main() and exits with what it returns. OSError if there is no child.

    Signals are blocked across the fork, so that the parent cannot learn of the child's death
    before it knows its pid, and the child cannot run the parent's handlers.
    """
    with signals.blocked_signals():
        pid = os.fork()
        if pid == 0:
            _be_child(main)
        return Pid(pid)


def _be_child(main: Callable[[], int]) -> NoReturn:
    """The child's whole life. BaseException is caught for one reason: to reach os._exit."""
    code = EXIT_FATAL
    try:
        signals.become_child()
        _adjust_oom_score()
        os.setsid()
        code = main()
    except BaseException:
        _show_traceback()
    finally:
        os._exit(code)


def _adjust_oom_score() -> None:
    """CR-63: short of memory a child is killed sooner than the postmaster. No error counts."""
    path = os.environ.get("PG_OOM_ADJUST_FILE")
    if path is None:
        return
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_WRONLY)
        try:
            os.write(fd, os.environ.get("PG_OOM_ADJUST_VALUE", "0").encode())
        finally:
            os.close(fd)


def _show_traceback() -> None:
    """A mistake of ours: say all that is known of it, in one write."""
    import traceback  # only here, for the postmaster should stay small

    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, traceback.format_exc().encode())
