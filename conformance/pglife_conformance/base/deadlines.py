"""How long the suite waits: named limits in seconds, all scaled by one option.

Begin with   Deadlines.
Owns         the limits; a scenario names one of them and never a number of its own.
Leaves out   the waiting (waiting.py).
Source       DESIGN section 4 (no fixed sleeps); SL-05 for the clock of five seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

START_LIMIT = 40.0
"""From exec to `ready` (a loaded machine with two busy cores is the yardstick)."""

SHUTDOWN_LIMIT = 30.0
"""From the request, or from the end of what it waits for, to the postmaster's exit."""

CRASH_RESTART_LIMIT = 40.0
"""From a death to `ready to accept connections`, a SIGKILL round included."""

ANSWER_LIMIT = 20.0
"""From a client's message to the server's answer."""

REACTION_LIMIT = 20.0
"""From a signal to what it does at once: a log line, a child's end, a child's birth."""

SIGKILL_TIMEOUT = 5.0
"""Seconds the postmaster gives its children after QUIT (SL-05); never scaled by us."""

SIGKILL_LATEST = 15.0
"""SL-05 says 4 to 6, for the clock counts whole seconds; the rest is for a busy machine."""

SETTLED = 0.5
"""How long nothing may move until a stimulus that does nothing is believed to do nothing."""

POLITE_LIMIT = 2.0
"""What an immediate shutdown may take at the end of a scenario, before we use SIGKILL."""

CLEANUP_LIMIT = 20.0
"""What the end of a family may take after SIGKILL, before it is called a leftover."""


@dataclass(frozen=True)
class Deadlines:
    """The one factor of --deadline-scale, applied where a limit is used."""

    scale: float = 1.0

    def of(self, limit_s: float) -> float:
        """The limit as it holds on this machine."""
        return limit_s * self.scale
