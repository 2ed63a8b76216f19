"""How long a process means to sleep, by the argument of its system call.

Begin with   sleep_ms().
Owns         reading /proc/PID/syscall.
Leaves out   whether it sleeps at all (rest.py).
Source       proc(5); epoll_wait(2), epoll_pwait(2): the fourth argument is the timeout, in ms.
"""

from __future__ import annotations

import platform

from pglife_conformance.base.failures import Inconclusive

_EPOLL_WAIT = {"x86_64": {232, 281}, "aarch64": {22}}
"""The numbers of both calls; other calls have something else in that place."""
_TIMEOUT = 4
"""The number of the call comes first, then its arguments."""
_ENDLESS = 0xFFFFFFFF
"""A timeout of -1, which the kernel shows without its sign."""


def sleep_ms(pid: int) -> int | None:
    """The timeout of the epoll_wait that a process is in, in ms.

    None if it is in none, has gone, or sleeps without end: so waits who has no plan, and also who
    waits for an io worker to have read a page for him, with a plan or without.
    It stays to be seen when the process is stopped meanwhile.
    """
    timeout = _timeout(pid)
    return None if timeout == _ENDLESS else timeout


def sleeps_without_end(pid: int) -> bool:
    """Whether a process is in an epoll_wait that only an event ends."""
    return _timeout(pid) == _ENDLESS


def _timeout(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/syscall", encoding="ascii") as file:
            words = file.read().split()
    except PermissionError as problem:
        raise Inconclusive("a look at the system call of a child", str(problem)) from problem
    except OSError:
        return None
    numbers = _EPOLL_WAIT.get(platform.machine())
    if numbers is None:
        raise Inconclusive("a machine whose system calls we know", platform.machine())
    if len(words) <= _TIMEOUT or int(words[0]) not in numbers:
        return None
    return int(words[_TIMEOUT], 16)
