"""How long the suite waits: named limits in seconds, all scaled by --deadline-scale.

A scenario names one of them and has no number of its own.
"""

START_LIMIT = 40.0
"""From exec to `ready`, on a loaded machine with two processors."""

SHUTDOWN_LIMIT = 30.0
"""From the request, or from the end of what the shutdown waits for, to the postmaster's exit."""

CRASH_RESTART_LIMIT = 40.0
"""From a child's death to `ready to accept connections`, with a SIGKILL round in between."""

ANSWER_LIMIT = 20.0
"""From a client's message to the server's answer."""

REACTION_LIMIT = 20.0
"""From a signal to what follows at once: a log line, a child's exit, a child's birth."""

SIGKILL_TIMEOUT = 5.0
"""What the postmaster gives its children after SIGQUIT (SL-05); the suite does not scale it."""

SIGKILL_LATEST = 15.0
"""SL-05 says 4 to 6, since the postmaster counts whole seconds; the rest is for a busy machine."""

SETTLED = 0.5
"""How long nothing may happen until the suite believes that nothing happens."""

POLITE_LIMIT = 2.0
"""What an immediate shutdown at the end of a scenario may take before the suite sends SIGKILL."""

CLEANUP_LIMIT = 20.0
"""What processes may take to exit after SIGKILL before they are called leftovers."""
