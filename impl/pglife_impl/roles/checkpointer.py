"""The checkpointer. There are no buffers and no WAL yet: a checkpoint writes the control file only.

Source: postmaster/checkpointer.c: CheckpointerMain(); access/transam/xlog.c: ShutdownXLOG(),
CreateCheckPoint(); rules CK-01..10, SG-11, SH-13..16, RC-18.
"""

import os
import signal
import time

from pglife_impl.base.exits import EXIT_DONE, ProcExit
from pglife_impl.base.kinds import Kind
from pglife_impl.base.pmsignal import PmSignal
from pglife_impl.base.words import Level
from pglife_impl.data_directory import control
from pglife_impl.data_directory.control import DbState
from pglife_impl.log import elog
from pglife_impl.os import titles
from pglife_impl.process.registry import register
from pglife_impl.process.role import Reaction, Role, Seconds
from pglife_impl.shmem.checkpoint import CheckpointFlag, describe
from pglife_impl.shmem.segment import Lock

RECORD_SIZE = 120  # bytes that a checkpoint record adds to WAL in PostgreSQL


@register
class Checkpointer(Role):
    """Makes checkpoints, the last of them at shutdown.

    Started      by the postmaster, before recovery; again if none runs at a shutdown.
    Exits        with 0 on SIGUSR2, which the postmaster sends in PM_WAIT_CHECKPOINTER. SIGTERM is
                 ignored (CK-05). On SIGINT it writes the shutdown checkpoint and sends
                 XLOG_IS_SHUTDOWN to the postmaster.
    Aborts       with 2 on SIGQUIT, at once.
    Crash        any other exit, and any exit in another state.
    """

    kind = Kind.CHECKPOINTER
    signals = {
        signal.SIGHUP: Reaction.RELOAD,
        signal.SIGINT: Reaction.SHUTDOWN_CHECKPOINT,
        signal.SIGTERM: Reaction.IGNORE,
        signal.SIGQUIT: Reaction.ABORT,
        signal.SIGUSR2: Reaction.SERVE,
    }

    def begin(self) -> None:
        """No shutdown checkpoint has been written."""
        self.xlog_is_shut_down = False

    def turn(self) -> Seconds | None:
        """Serve SIGINT, SIGUSR2 and requests, in this order."""
        if Reaction.SHUTDOWN_CHECKPOINT in self.pending and not self.xlog_is_shut_down:
            self.shut_xlog_down()
            self.xlog_is_shut_down = True
            self.world.signal_postmaster(PmSignal.XLOG_IS_SHUTDOWN)
        if Reaction.SERVE in self.pending:
            raise ProcExit(EXIT_DONE)  # CK-07: even without a shutdown checkpoint
        if self.xlog_is_shut_down:
            return None  # CK-06: serve no requests after the shutdown checkpoint
        self.serve_requests()
        return float(self.gucs.integer("checkpoint_timeout"))

    def serve_requests(self) -> None:
        """Make the checkpoint that is requested, if one is."""
        with self.shmem.locked(Lock.CHECKPOINT):
            counters = self.shmem.checkpoint_counters()
            flags = CheckpointFlag(counters.requested)
            if not flags:
                return
            counters = counters.replace(requested=0, started=counters.started + 1)
            self.shmem.put_checkpoint_counters(counters)
        failed = 0
        try:
            if flags & CheckpointFlag.END_OF_RECOVERY:
                titles.activity("performing end-of-recovery checkpoint")
            self.checkpoint(flags, None)
        except OSError as e:
            elog.log(Level.ERROR, str(e))  # CK-09
            failed = 1
        finally:
            titles.activity("")
            with self.shmem.locked(Lock.CHECKPOINT):
                now = self.shmem.checkpoint_counters()
                now = now.replace(done=counters.started, failed=now.failed + failed)
                self.shmem.put_checkpoint_counters(now)
            self.wake_waiters()

    def wake_waiters(self) -> None:
        """Wake every process that may wait for a checkpoint: it sleeps on its latch.

        No list of requesters is kept: to wake one too many is harmless, and checkpoints are rare.
        """
        for row in self.shmem.activities():
            if row.kind in (Kind.STARTUP, Kind.BACKEND):
                try:
                    os.kill(row.pid, signal.SIGURG)
                except OSError:
                    continue  # it has just exited

    def shut_xlog_down(self) -> None:
        """Write the shutdown checkpoint; no process writes WAL after it (SH-13..16)."""
        elog.log(Level.LOG, "shutting down")
        titles.activity("performing shutdown checkpoint")
        now = time.time()
        if self.shmem.in_recovery:  # RC-18: not a clean shutdown
            self._write(control.read(".").with_state(DbState.SHUTDOWNED_IN_RECOVERY, now))
        else:
            self._write(control.read(".").with_state(DbState.SHUTDOWNING, now))
            self.checkpoint(CheckpointFlag.SHUTDOWN | CheckpointFlag.IMMEDIATE, DbState.SHUTDOWNED)
        titles.activity("")

    def checkpoint(self, flags: CheckpointFlag, state: DbState | None) -> None:
        """Write a checkpoint into the control file, and log it if log_checkpoints is on."""
        started = time.monotonic()
        if self.gucs.boolean("log_checkpoints"):
            elog.log(Level.LOG, f"checkpoint starting: {describe(flags)}")
        now = time.time()
        old = control.read(".")
        lsn = old.checkpoint + RECORD_SIZE
        new = old.replace(checkpoint=lsn, redo=lsn, checkpoint_time=now)
        self._write(new.with_state(old.state if state is None else state, now))
        if self.gucs.boolean("log_checkpoints"):
            total = time.monotonic() - started
            where = control.show_lsn(lsn)
            elog.log(
                Level.LOG,
                "checkpoint complete: wrote 0 buffers (0.0%), wrote 0 SLRU buffers;"
                " 0 WAL file(s) added, 0 removed, 0 recycled;"
                f" write={total:.3f} s, sync=0.000 s, total={total:.3f} s;"
                " sync files=0, longest=0.000 s, average=0.000 s;"
                f" distance=0 kB, estimate=0 kB; lsn={where}, redo lsn={where}",
            )

    def _write(self, new: control.Control) -> None:
        new.write(".", sync=self.gucs.boolean("fsync"))
