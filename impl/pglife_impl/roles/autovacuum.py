"""The autovacuum launcher.

Begin with   AutovacuumLauncher.
Owns         its signal table and its rhythm.
Leaves out   workers: with no tables there is nothing to vacuum, so it asks for none yet.
Source       postmaster/autovacuum.c: AutoVacLauncherMain(); rules AV-01, AV-13..17, SG-15.
"""

from __future__ import annotations

import signal

from pglife_impl.base.exits import EXIT_DONE, ProcExit
from pglife_impl.base.kinds import Kind
from pglife_impl.base.words import Level
from pglife_impl.log import elog
from pglife_impl.process.registry import register
from pglife_impl.process.role import Reaction, Role, Seconds


@register
class AutovacuumLauncher(Role):
    """See to it that every database is vacuumed once in autovacuum_naptime.

    Started      by the postmaster, in PM_RUN while autovacuum and track_counts are on.
    Ends         on SIGTERM, or when autovacuum is switched off by reload, with exit code 0.
    Aborts       on SIGQUIT, at once, with exit code 2.
    If it dies   otherwise, the postmaster treats it as a crash and restarts the cluster.
    """

    kind = Kind.AUTOVAC_LAUNCHER
    signals = {
        signal.SIGHUP: Reaction.RELOAD,
        signal.SIGINT: Reaction.SERVE,
        signal.SIGTERM: Reaction.STOP,
        signal.SIGQUIT: Reaction.ABORT,
        signal.SIGUSR2: Reaction.WAKE,  # a worker started, ended or failed: it asks for none yet
    }

    def begin(self) -> None:
        """AV-17; AV-14: started against a switched-off autovacuum it makes one round only."""
        elog.log(Level.DEBUG1, "autovacuum launcher started")
        self.reloaded()

    def reloaded(self) -> None:
        """AV-13."""
        if not (self.gucs.boolean("autovacuum") and self.gucs.boolean("track_counts")):
            raise ProcExit(EXIT_DONE)

    def turn(self) -> Seconds:
        """Nothing to vacuum; look again in a while. SIGINT cancels what it does (SG-15)."""
        if Reaction.SERVE in self.pending:
            self.pending.discard(Reaction.SERVE)
            elog.log(Level.ERROR, "canceling statement due to user request")
        return float(self.gucs.integer("autovacuum_naptime"))

    def before_exit(self, code: int) -> None:
        """AV-17."""
        if code == 0:
            elog.log(Level.DEBUG1, "autovacuum launcher shutting down")
