"""How long a process means to sleep, by the argument of its system call.

Begin with   sleep_ms().
Owns         reading /proc/PID/syscall.
Leaves out   whether it sleeps at all (rest.py).
Source       proc(5); epoll_wait(2), epoll_pwait(2): the fourth argument is the timeout, in ms.
"""

from __future__ import annotations

import platform

from pglife_conformance.failures import Inconclusive

_EPOLL_WAIT = {"x86_64": {232, 281}, "aarch64": {22}}
"""The numbers of both calls; other calls have something else in that place."""
_TIMEOUT = 4
"""The number of the call comes first, then its arguments."""


def sleep_ms(pid: int) -> int | None:
    """The timeout of the epoll_wait that a process is in; None if it is in none or has gone.

    It stays to be seen when the process is stopped meanwhile.
    """
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
