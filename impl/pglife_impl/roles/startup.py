"""The startup process. There is no WAL yet, so recovery finds nothing to redo.

Source: postmaster/startup.c, access/transam/xlog.c: StartupXLOG(); rules ST-08, TR-90, CR-23,
CK-04, SG-10, RC-02, RC-18.
"""

import os
import signal
import time

from pglife_impl.base.exits import EXIT_DONE, EXIT_FATAL, ProcExit
from pglife_impl.base.kinds import Kind
from pglife_impl.base.pmsignal import PmSignal
from pglife_impl.base.words import Level
from pglife_impl.data_directory import control
from pglife_impl.data_directory.control import Control, ControlError, DbState
from pglife_impl.log import elog
from pglife_impl.os import titles
from pglife_impl.process.registry import register
from pglife_impl.process.role import Reaction, Role
from pglife_impl.shmem.checkpoint import CheckpointFlag, request

WORDS = {
    DbState.STARTUP: "database system was interrupted; last known up at {}",
    DbState.SHUTDOWNED: "database system was shut down at {}",
    DbState.SHUTDOWNED_IN_RECOVERY: "database system was shut down in recovery at {}",
    DbState.SHUTDOWNING: "database system shutdown was interrupted; last known up at {}",
    DbState.IN_CRASH_RECOVERY: "database system was interrupted while in recovery at {}",
    DbState.IN_ARCHIVE_RECOVERY: "database system was interrupted while in recovery at log time {}",
    DbState.IN_PRODUCTION: "database system was interrupted; last known up at {}",
}
RECOVERY_HINT = (
    "This probably means that some data is corrupted and you will have to use the last backup"
    " for recovery."
)
REPLICATION_ORIGINS = os.path.join("pg_logical", "replorigin_checkpoint")
ORIGINS_MAGIC = 0x1257DADE
SEGMENT_SIZE = 16 * 1024 * 1024


@register
class Startup(Role):
    """Brings the database to a consistent state, then exits.

    Started      by the postmaster in PM_STARTUP, once for each generation of shared memory.
    Exits        with 0 when the server may accept connections; with 1 on SIGTERM.
    Aborts       with 2 on SIGQUIT, at once.
    Failure      any other exit ends the server (PR-20).
    """

    kind = Kind.STARTUP
    signals = {
        signal.SIGHUP: Reaction.RELOAD,
        signal.SIGINT: Reaction.IGNORE,
        signal.SIGTERM: Reaction.GIVE_UP,
        signal.SIGQUIT: Reaction.ABORT,
        signal.SIGUSR2: Reaction.SERVE,
    }

    def turn(self) -> None:
        """All of recovery, in one iteration; signals are served between its steps."""
        try:
            found = control.read(".")
        except ControlError as e:
            elog.log(Level.PANIC, str(e))
            raise ProcExit(EXIT_FATAL) from e
        titles.activity(f"recovering {segment_name(found.redo)}")  # TI-35
        self.shmem.in_recovery = found.state is not DbState.SHUTDOWNED
        self.log_state(found)
        self.read_replication_origins()
        self.serve()
        if self.shmem.in_recovery:
            self.recover(found)
        self.serve()
        self.set_in_production()
        raise ProcExit(EXIT_DONE)

    def log_state(self, found: Control) -> None:
        """Log how the database was shut down (ST-08)."""
        when = elog.timestamp(found.time, milliseconds=False)
        hint = RECOVERY_HINT if found.state is DbState.IN_CRASH_RECOVERY else ""
        elog.log(Level.LOG, WORDS[found.state].format(when), hint=hint)

    def read_replication_origins(self) -> None:
        """Check the file of replication origins, if there is one. Our checkpoints write none
        (origin.c: StartupReplicationOrigin())."""
        elog.log(Level.DEBUG2, "starting up replication origin progress state")
        try:
            with open(REPLICATION_ORIGINS, "rb") as file:
                magic = int.from_bytes(file.read(4), "little")
        except FileNotFoundError:
            return
        if magic != ORIGINS_MAGIC:
            wrong = f"replication checkpoint has wrong magic {magic} instead of {ORIGINS_MAGIC}"
            elog.log(Level.PANIC, wrong)
            raise ProcExit(EXIT_FATAL)

    def recover(self, found: Control) -> None:
        """Recover: RECOVERY_STARTED is sent even if there is nothing to redo (TR-90, CR-23)."""
        elog.log(
            Level.LOG, "database system was not properly shut down; automatic recovery in progress"
        )
        self._write(found.with_state(DbState.IN_CRASH_RECOVERY, time.time()))
        self.world.signal_postmaster(PmSignal.RECOVERY_STARTED)
        elog.log(Level.LOG, "redo is not required")
        self.serve()
        request(
            self.shmem,
            CheckpointFlag.END_OF_RECOVERY | CheckpointFlag.IMMEDIATE | CheckpointFlag.WAIT,
            self.nap,
        )

    def nap(self, delay: float) -> None:
        """Sleep, and serve signals."""
        self.sleep(delay)
        self.serve()

    def set_in_production(self) -> None:
        """Write `in production` into the control file, before the postmaster admits any client."""
        self._write(control.read(".").with_state(DbState.IN_PRODUCTION, time.time()))
        self.shmem.in_recovery = False

    def _write(self, new: Control) -> None:
        limits = new.replace(
            wal_level=("minimal", "replica", "logical").index(self.gucs.text("wal_level")),
            max_connections=self.gucs.integer("max_connections"),
            max_worker_processes=self.gucs.integer("max_worker_processes"),
            max_wal_senders=self.gucs.integer("max_wal_senders"),
        )
        limits.write(".", sync=self.gucs.boolean("fsync"))


def segment_name(lsn: int) -> str:
    """The WAL segment that holds a location, on the first timeline."""
    segment = lsn // SEGMENT_SIZE
    per_log = (1 << 32) // SEGMENT_SIZE
    return f"{1:08X}{segment // per_log:08X}{segment % per_log:08X}"
