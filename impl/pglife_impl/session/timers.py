"""The timers of a session.

Source: utils/misc/timeout.c. PostgreSQL uses SIGALRM; here every wait is limited by the nearest
deadline, and every check for interrupts reads the clock.
"""

from collections.abc import Callable
from enum import Enum

Clock = Callable[[], float]
MILLISECONDS = 1000.0


class Timer(Enum):
    """The timers; the value is the setting that gives the length in milliseconds."""

    STATEMENT = "statement_timeout"
    IDLE_IN_TRANSACTION = "idle_in_transaction_session_timeout"
    TRANSACTION = "transaction_timeout"
    IDLE_SESSION = "idle_session_timeout"
    CLIENT_CHECK = "client_connection_check_interval"


class Timers:
    """The deadlines of the timers that run."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._deadlines: dict[Timer, float] = {}

    def arm(self, timer: Timer, delay_ms: int) -> None:
        """Start or restart a timer; a delay of zero stops it."""
        if delay_ms > 0:
            self._deadlines[timer] = self._clock() + delay_ms / MILLISECONDS
        else:
            self.disarm(timer)

    def disarm(self, *timers: Timer) -> None:
        """Stop timers, whether they run or not."""
        for timer in timers:
            self._deadlines.pop(timer, None)

    def is_armed(self, timer: Timer) -> bool:
        """Return whether the timer runs."""
        return timer in self._deadlines

    def take_expired(self) -> list[Timer]:
        """Stop the expired timers and return them, the earliest first."""
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
        """Return the seconds until the nearest deadline, or None without one."""
        if not self._deadlines:
            return None
        return max(0.0, min(self._deadlines.values()) - self._clock())
