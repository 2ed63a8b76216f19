"""The logical replication launcher, a background worker. There are no subscriptions.

Source: replication/logical/launcher.c: ApplyLauncherMain(); rules BG-18, BG-25, SG-22, SH-27.
"""

import signal

from pglife_impl.base.kinds import Kind
from pglife_impl.base.words import Level
from pglife_impl.log import elog
from pglife_impl.process.registry import register
from pglife_impl.process.role import Reaction, Role, Seconds

NAPTIME_S = 180.0


@register
class LogicalReplicationLauncher(Role):
    """Starts an apply worker for each subscription.

    Started      by the postmaster, in PM_RUN, if max_logical_replication_workers > 0.
    Exits        with 1 on SIGTERM or SIGINT: after 1 a background worker is restarted, 5 s later;
                 after 0 it never is (BG-12, BG-13).
    Aborts       with 2 on SIGQUIT, at once.
    Crash        any exit but 0 and 1.
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
        """Log the start."""
        elog.log(Level.DEBUG1, "logical replication launcher started")

    def turn(self) -> Seconds:
        """There are no subscriptions; sleep."""
        return NAPTIME_S

    def before_exit(self, code: int) -> None:
        """Log an exit that SIGTERM or SIGINT requested."""
        if Reaction.GIVE_UP in self.pending:
            elog.log(Level.DEBUG1, "logical replication launcher shutting down")
