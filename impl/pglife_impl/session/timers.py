"""A session's deadlines.

Begin with   Timers.
Owns         which timeout is armed until when.
Leaves out   what a timeout does (interrupts.py); the clock, which is passed in.
Source       utils/misc/timeout.c. PostgreSQL uses SIGALRM; here every wait has the nearest
             deadline as its limit, and every check for interrupts looks at the clock.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

Clock = Callable[[], float]
MILLISECONDS = 1000.0


class Timer(Enum):
    """The timeouts of 6.5 that a session keeps, each with the setting that gives its length."""

    STATEMENT = "statement_timeout"
    IDLE_IN_TRANSACTION = "idle_in_transaction_session_timeout"
    TRANSACTION = "transaction_timeout"
    IDLE_SESSION = "idle_session_timeout"
    CLIENT_CHECK = "client_connection_check_interval"


class Timers:
    """The armed deadlines."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._deadlines: dict[Timer, float] = {}

    def arm(self, timer: Timer, delay_ms: int) -> None:
        """Start a timer anew; a delay of zero means that there is none."""
        if delay_ms > 0:
            self._deadlines[timer] = self._clock() + delay_ms / MILLISECONDS
        else:
            self.disarm(timer)

    def disarm(self, *timers: Timer) -> None:
        """Stop timers that may be running."""
        for timer in timers:
            self._deadlines.pop(timer, None)

    def is_armed(self, timer: Timer) -> bool:
        """Is it running?"""
        return timer in self._deadlines

    def take_expired(self) -> list[Timer]:
        """Return the timers whose time has come, the earliest first; they run no more."""
        if not self._deadlines:
            return []
        now = self._clock()
        expired = sorted(
            (timer for timer, deadline in self._deadlines.items() if deadline <= now),
            key=lambda timer: self._deadlines[timer],
        )
        self.disarm(*expired)
        return expired

    def remaining_s(self) -> float | None:
        """Return how long to sleep at most, or None for ever."""
        if not self._deadlines:
            return None
        return max(0.0, min(self._deadlines.values()) - self._clock())
