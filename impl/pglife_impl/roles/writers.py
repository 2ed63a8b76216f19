"""Background writer and walwriter. There are no buffers and no WAL yet: they have nothing to write.

Source: postmaster/bgwriter.c, walwriter.c; rules BW-01..05, SG-12, SG-13, PR-03, PR-04.
"""

import signal

from pglife_impl.base.kinds import Kind
from pglife_impl.process.registry import register
from pglife_impl.process.role import Reaction, Role, Seconds

BGWRITER_HIBERNATE_FACTOR = 50
WALWRITER_HIBERNATE_FACTOR = 25


@register
class BackgroundWriter(Role):
    """Writes dirty buffers before a backend needs clean ones.

    Started      by the postmaster, in PM_STARTUP, PM_RECOVERY, PM_HOT_STANDBY and PM_RUN.
    Exits        with 0 on SIGTERM, before its next iteration. SIGINT is ignored.
    Aborts       with 2 on SIGQUIT, at once.
    Crash        any other exit.
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
        """Nothing to write: hibernate."""
        return self.gucs.integer("bgwriter_delay") / 1000 * BGWRITER_HIBERNATE_FACTOR


@register
class WalWriter(Role):
    """Writes WAL that asynchronous commits left in the buffers.

    Started      by the postmaster, in PM_RUN.
    Exits        with 0 on SIGTERM or SIGINT, before its next iteration.
    Aborts       with 2 on SIGQUIT, at once.
    Crash        any other exit.
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
        """Nothing to write: hibernate."""
        return self.gucs.integer("wal_writer_delay") / 1000 * WALWRITER_HIBERNATE_FACTOR
