"""How long a process means to sleep: the timeout argument of its system call.

Begin with sleep_ms(). Whether it sleeps at all is in idle.py.

Source: proc(5); epoll_wait(2), epoll_pwait(2): the fourth argument is the timeout in ms.
"""

import platform

from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.base.ids import Pid

_EPOLL_WAIT = {"x86_64": {232, 281}, "aarch64": {22}}
"""The numbers of both calls; in other calls the fourth argument is something else."""
_TIMEOUT = 4
"""Its place in the file: the call's number is the first word, then its arguments."""
_ENDLESS = 0xFFFFFFFF
"""A timeout of -1, which the kernel shows without its sign."""


def sleep_ms(pid: Pid) -> int | None:
    """The timeout, in ms, of the epoll_wait that a process is in.

    None if it is in no epoll_wait, has exited, or sleeps without a timeout; a process that waits
    for an io worker to read a page sleeps so too. A process that is stopped in its sleep still
    shows its timeout.

    Raises:
        Inconclusive: the system calls of this machine, or of this process, cannot be read.
    """
    timeout = _timeout(pid)
    return None if timeout == _ENDLESS else timeout


def sleeps_without_end(pid: Pid) -> bool:
    """Whether a process is in an epoll_wait without a timeout."""
    return _timeout(pid) == _ENDLESS


def _timeout(pid: Pid) -> int | None:
    try:
        with open(f"/proc/{pid}/syscall", encoding="ascii") as file:
            words = file.read().split()
    except PermissionError as problem:
        raise Inconclusive("reading the system call of a child", str(problem)) from problem
    except OSError:
        return None
    numbers = _EPOLL_WAIT.get(platform.machine())
    if numbers is None:
        raise Inconclusive("a machine whose system call numbers are known", platform.machine())
    if len(words) <= _TIMEOUT or int(words[0]) not in numbers:
        return None
    return int(words[_TIMEOUT], 16)
