"""fork(): the only module that calls it.

The child ends in os._exit() in every path: sys.exit() would run the parent's clean-up in the child
and costs six times as much. Rejected: os.posix_spawn and multiprocessing, which start a new
interpreter and inherit no memory. The server has one thread, so os.fork() is safe; Python 3.12
warns about it only in a process that has several.

Source: postmaster/fork_process.c, launch_backend.c; rules PR-26, PR-27, CR-63.
"""

import contextlib
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from pglife_impl.base.exits import EXIT_FATAL
from pglife_impl.base.ids import Pid
from pglife_impl.os import signals


def fork_child(main: Callable[[], int]) -> Pid:
    """Fork a child that runs main() and exits with the code that it returns.

    Signals are blocked across the fork, so that the parent does not reap the child before it has
    recorded its pid, and the child does not run the parent's handlers.

    Raises:
        OSError: fork() failed.
    """
    with signals.blocked_signals():
        pid = os.fork()
        if pid == 0:
            # Never returns, so the child does not reach the end of this `with`, which would
            # unblock signals while the parent's handlers are still installed.
            _run_child(main)
        return Pid(pid)


def _run_child(main: Callable[[], int]) -> NoReturn:
    """Run main() and exit. BaseException is caught so that every path ends in os._exit()."""
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
    """Let the OOM killer prefer a child to the postmaster (CR-63). Errors are ignored."""
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
    """Write the traceback of a bug to stderr, in one write."""
    import traceback  # not at module level: every module that the postmaster imports slows forks

    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, traceback.format_exc().encode())
