"""Ending processes, whatever state they are in.

Begin with end_processes(). Processes are identified by pid and start time, and signalled through
a pidfd; orphans that the suite has adopted are reaped.

Source: PR-26 (children lead process groups of their own), PR-28 (stopped children).
"""

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterable

from pglife_conformance.base.deadlines import CLEANUP_LIMIT, POLITE_LIMIT
from pglife_conformance.base.ids import Pid
from pglife_conformance.observation.leftovers import Process
from pglife_conformance.observation.processes import read_stat

_FIRST_PAUSE_S = 0.001
_LONGEST_PAUSE_S = 0.05


def end_processes(
    find: Callable[[], Iterable[Process]], how: signal.Signals = signal.SIGKILL
) -> list[Process]:
    """Signal all processes that `find` returns until it returns none.

    Again and again, because a postmaster that is still alive may fork in between.

    Args:
        find: lists the processes to end.
        how: the signal.

    Returns:
        The processes that have not exited within CLEANUP_LIMIT.
    """
    until = time.monotonic() + CLEANUP_LIMIT
    pause = _FIRST_PAUSE_S
    while left := list(find()):
        for process in left:
            _signal(process, how)
        if time.monotonic() > until:
            return left
        _wait_for_any(left, pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)
    return []


def stop_postmasters(find: Callable[[], Iterable[Process]]) -> None:
    """Send SIGCONT to all, SIGQUIT to those that are no child of another, and wait a moment."""
    found = list(find())
    pids = {process.pid for process in found}
    heads = set()
    for process in found:
        _signal(process, signal.SIGCONT)
        stat = read_stat(process.pid)
        if stat is not None and stat.ppid not in pids:
            heads.add(process.pid)
            _signal(process, signal.SIGQUIT)
    until = time.monotonic() + POLITE_LIMIT
    while left := [process for process in find() if process.pid in heads]:
        if time.monotonic() > until:
            return
        _wait_for_any(left, _LONGEST_PAUSE_S, reaping=False)


def _signal(process: Process, how: signal.Signals) -> None:
    # Through a pidfd, and only if the start time is the same: never another process with this pid.
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:
        return
    try:
        stat = read_stat(process.pid)
        if stat is not None and stat.start_time == process.start_time:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, how)
    finally:
        os.close(pidfd)


def _wait_for_any(processes: list[Process], pause_s: float, *, reaping: bool = True) -> None:
    poller = select.poll()
    pidfds = []
    for process in processes:
        with contextlib.suppress(OSError):
            pidfds.append(os.pidfd_open(process.pid))
            poller.register(pidfds[-1], select.POLLIN)
    poller.poll(pause_s * 1000)
    for pidfd in pidfds:
        os.close(pidfd)
    for process in processes if reaping else ():
        reap(process.pid)


def reap(pid: Pid) -> None:
    """Reap an orphan that the suite has adopted, if it has exited."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
