"""Background writer and walwriter.

Begin with   BackgroundWriter, WalWriter.
Owns         their signal tables and their rhythm.
Leaves out   buffers and WAL, which a later issue brings: until then there is nothing to write.
Source       postmaster/bgwriter.c, walwriter.c; rules BW-01..05, SG-12, SG-13, PR-03, PR-04.
"""

from __future__ import annotations

import signal

from pglife_impl.base.kinds import Kind
from pglife_impl.process.registry import register
from pglife_impl.process.role import Reaction, Role, Seconds

BGWRITER_HIBERNATE_FACTOR = 50
WALWRITER_HIBERNATE_FACTOR = 25


@register
class BackgroundWriter(Role):
    """Write dirty buffers ahead of those who need clean ones.

    Started      by the postmaster, in PM_STARTUP, PM_RECOVERY, PM_HOT_STANDBY and PM_RUN.
    Ends         on SIGTERM, before its next turn, with exit code 0. SIGINT is ignored.
    Aborts       on SIGQUIT, at once, with exit code 2; shared memory is left as it is.
    If it dies   otherwise, the postmaster treats it as a crash and restarts the cluster.
    """

    kind = Kind.BG_WRITER
    signals = {
        signal.SIGHUP: Reaction.RELOAD,
        signal.SIGINT: Reaction.IGNORE,
        signal.SIGTERM: Reaction.STOP,
        signal.SIGQUIT: Reaction.ABORT,
        signal.SIGUSR2: Reaction.IGNORE,
    }

    def turn(self) -> Seconds:
        """There are no buffers yet, so every round is one without work: it hibernates."""
        return self.gucs.integer("bgwriter_delay") / 1000 * BGWRITER_HIBERNATE_FACTOR


@register
class WalWriter(Role):
    """Write out WAL that asynchronous commits left in the buffers.

    Started      by the postmaster, in PM_RUN.
    Ends         on SIGTERM or SIGINT, before its next turn, with exit code 0.
    Aborts       on SIGQUIT, at once, with exit code 2; shared memory is left as it is.
    If it dies   otherwise, the postmaster treats it as a crash and restarts the cluster.
    """

    kind = Kind.WAL_WRITER
    signals = {
        signal.SIGHUP: Reaction.RELOAD,
        signal.SIGINT: Reaction.STOP,
        signal.SIGTERM: Reaction.STOP,
        signal.SIGQUIT: Reaction.ABORT,
        signal.SIGUSR2: Reaction.IGNORE,
    }

    def turn(self) -> Seconds:
        """There is no WAL yet, so it hibernates."""
        return self.gucs.integer("wal_writer_delay") / 1000 * WALWRITER_HIBERNATE_FACTOR
