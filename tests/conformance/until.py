"""Waiting for what happens in another process."""

import time
from collections.abc import Callable


def until(condition: Callable[[], object], limit_s: float = 60) -> None:
    """The condition holds, within a limit."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)
