"""The autovacuum launcher. There are no tables yet, so it requests no workers.

Source: postmaster/autovacuum.c: AutoVacLauncherMain(); rules AV-01, AV-13..17, SG-15.
"""

import signal

from pglife_impl.base.exits import EXIT_DONE, ProcExit
from pglife_impl.base.kinds import Kind
from pglife_impl.base.words import Level
from pglife_impl.log import elog
from pglife_impl.process.registry import register
from pglife_impl.process.role import Reaction, Role, Seconds


@register
class AutovacuumLauncher(Role):
    """Vacuums every database once in autovacuum_naptime.

    Started      by the postmaster, in PM_RUN while autovacuum and track_counts are on.
    Exits        with 0 on SIGTERM, or when a reload switches autovacuum off.
    Aborts       with 2 on SIGQUIT, at once.
    Crash        any other exit.
    """

    kind = Kind.AUTOVAC_LAUNCHER
    signals = {
        signal.SIGHUP: Reaction.RELOAD,
        signal.SIGINT: Reaction.SERVE,
        signal.SIGTERM: Reaction.STOP,
        signal.SIGQUIT: Reaction.ABORT,
        signal.SIGUSR2: Reaction.WAKE,  # a worker has started, exited or failed
    }

    def begin(self) -> None:
        """Log the start; exit at once if autovacuum is off (AV-14, AV-17)."""
        elog.log(Level.DEBUG1, "autovacuum launcher started")
        self.reloaded()

    def reloaded(self) -> None:
        """Exit if autovacuum has been switched off (AV-13)."""
        if not (self.gucs.boolean("autovacuum") and self.gucs.boolean("track_counts")):
            raise ProcExit(EXIT_DONE)

    def turn(self) -> Seconds:
        """There is nothing to vacuum; SIGINT cancels it nevertheless (SG-15)."""
        if Reaction.SERVE in self.pending:
            self.pending.discard(Reaction.SERVE)
            elog.log(Level.ERROR, "canceling statement due to user request")
        return float(self.gucs.integer("autovacuum_naptime"))

    def before_exit(self, code: int) -> None:
        """Log an exit with code 0 (AV-17)."""
        if code == 0:
            elog.log(Level.DEBUG1, "autovacuum launcher shutting down")
