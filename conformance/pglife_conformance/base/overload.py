"""Whether this machine is so busy that the server's own clocks must not be held against it.

Begin with   is_overloaded().
Owns         the evidence: the load average, and waits of ours that lasted far too long.
Leaves out   how long the suite waits (deadlines.py).
Source       SL-05: whoever has not ended five seconds after SIGQUIT is killed, be it stuck or only
             kept from the processor.

A server that kills its children, or starts them late, because nobody let them run has done nothing
wrong, and a scenario is not to say so. But one that does it on a machine with time to spare has;
so the excuse is to be shown, and not only that a clock has struck.
"""

from __future__ import annotations

import os
import time

_LOAD_FOR_EACH_PROCESSOR = 3.0
"""Two suites side by side make two or so, and children still end in a tenth of a second."""

_LATE_S = 0.5
"""A wait that lasts so much longer than asked for: the machine, or we, stood still."""

_REMEMBERED_S = 20.0

_stood_still_at = float("-inf")


def note_wait(asked_s: float, took_s: float) -> None:
    """A wait of ours is over; it should have taken `asked_s` seconds at most."""
    global _stood_still_at
    if took_s - asked_s > _LATE_S:
        _stood_still_at = time.monotonic()


def is_overloaded() -> bool:
    """Whether something that takes a moment may have taken seconds just now."""
    load = os.getloadavg()[0] / len(os.sched_getaffinity(0))
    has_stood_still = time.monotonic() - _stood_still_at < _REMEMBERED_S
    return load >= _LOAD_FOR_EACH_PROCESSOR or has_stood_still
