"""The end of a family of processes, whatever state it is in.

Begin with   end_processes().
Owns         ending processes by pid and start time, reaping those that have become ours.
Leaves out   which processes (the caller names them), and the polite ways to stop a server.
Source       PR-26 (children are leaders of their own groups), PR-28 (stopped children).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterable

from pglife_conformance.base.deadlines import CLEANUP_LIMIT, POLITE_LIMIT
from pglife_conformance.observation.leftovers import Process
from pglife_conformance.observation.processes import read_stat

_FIRST_PAUSE_S = 0.001
_LONGEST_PAUSE_S = 0.05


def end_processes(
    find: Callable[[], Iterable[Process]], how: signal.Signals = signal.SIGKILL
) -> list[Process]:
    """Signal all that `find` finds until it finds none; returns those that would not go.

    Again and again, because a postmaster that is not yet dead may fork in between.
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
    """An immediate shutdown for whoever is no child of the others found; CONT to all first."""
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
    # Through a pidfd, and only if the start time is still the same: never a stranger.
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


def reap(pid: int) -> None:
    """Take the exit status of an orphan that we have adopted, if it is ours and dead."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
