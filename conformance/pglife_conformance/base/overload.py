"""Whether this machine is so busy that the server's own timeouts must not count against it.

Begin with is_overloaded(). The postmaster sends SIGKILL five seconds after SIGQUIT, whether a child
hangs or was only kept from the processor (SL-05). A server that does so on a busy machine has done
nothing wrong; one that does so on an idle machine has. So the excuse needs evidence: the load
average, or waits of the suite itself that took far too long.
"""

import os
import time

_LOAD_FOR_EACH_PROCESSOR = 3.0
"""Two suites side by side make about two, and children still exit within a tenth of a second."""

_LATE_S = 0.5
"""A wait that lasts this much longer than asked for: the machine, or the suite, stood still."""

_REMEMBERED_S = 20.0

_stood_still_at = float("-inf")


def note_wait(asked_s: float, took_s: float) -> None:
    """Note that a wait of the suite took `took_s` seconds in place of `asked_s` at most."""
    global _stood_still_at
    if took_s - asked_s > _LATE_S:
        _stood_still_at = time.monotonic()


def is_overloaded() -> bool:
    """Whether something that takes milliseconds may just have taken seconds."""
    load = os.getloadavg()[0] / len(os.sched_getaffinity(0))
    has_stood_still = time.monotonic() - _stood_still_at < _REMEMBERED_S
    return load >= _LOAD_FOR_EACH_PROCESSOR or has_stood_still
