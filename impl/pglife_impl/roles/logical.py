"""The logical replication launcher, a background worker.

Begin with   LogicalReplicationLauncher.
Owns         its signal table.
Leaves out   subscriptions, of which there are none.
Source       replication/logical/launcher.c: ApplyLauncherMain(); rules BG-18, BG-25, SG-22, SH-27.
"""

from __future__ import annotations

import signal

from pglife_impl.base.kinds import Kind
from pglife_impl.base.words import Level
from pglife_impl.log import elog
from pglife_impl.process.registry import register
from pglife_impl.process.role import Reaction, Role, Seconds

NAPTIME_S = 180.0


@register
class LogicalReplicationLauncher(Role):
    """Start an apply worker for each subscription.

    Started      by the postmaster, in PM_RUN, if max_logical_replication_workers > 0.
    Ends         on SIGTERM or SIGINT with exit code 1, because a background worker that exits 0 is
                 never started again; after 1 it is, 5 s later (BG-12, BG-13).
    Aborts       on SIGQUIT, at once, with exit code 2.
    If it dies   by anything but exit 0 or 1, that is a crash.
    """

    kind = Kind.BG_WORKER
    signals = {
        signal.SIGHUP: Reaction.RELOAD,
        signal.SIGINT: Reaction.GIVE_UP,
        signal.SIGTERM: Reaction.GIVE_UP,
        signal.SIGQUIT: Reaction.ABORT,
        signal.SIGUSR2: Reaction.IGNORE,
    }

    def begin(self) -> None:
        """The line that tells it is there."""
        elog.log(Level.DEBUG1, "logical replication launcher started")

    def turn(self) -> Seconds:
        """No subscriptions; look again in a while."""
        return NAPTIME_S

    def before_exit(self, code: int) -> None:
        """The line that tells it goes because it was told to."""
        if Reaction.GIVE_UP in self.pending:
            elog.log(Level.DEBUG1, "logical replication launcher shutting down")
