"""The checkpointer.

Begin with   Checkpointer.turn().
Owns         the control file's state at checkpoints and at the end.
Leaves out   buffers and WAL: a checkpoint writes the control file and nothing else yet.
Source       postmaster/checkpointer.c: CheckpointerMain(); access/transam/xlog.c: ShutdownXLOG(),
             CreateCheckPoint(); rules CK-01..10, SG-11, SH-13..16, RC-18.
"""

from __future__ import annotations

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

RECORD_SIZE = 120  # how far a checkpoint record moves the end of WAL in PostgreSQL


@register
class Checkpointer(Role):
    """Make checkpoints; write the last one of all at shutdown.

    Started      by the postmaster, before recovery; once more if it is missing at shutdown.
    Ends         on SIGUSR2 with exit code 0, and the postmaster sends that last of all. SIGTERM is
                 ignored (CK-05). SIGINT: write the shutdown checkpoint, tell the postmaster, wait.
    Aborts       on SIGQUIT, at once, with exit code 2.
    If it dies   in any other way or at any other time, that is a crash.
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
        """Nothing is due yet."""
        self.xlog_is_shut_down = False

    def turn(self) -> Seconds | None:
        """Serve SIGINT, SIGUSR2 and requests, in this order."""
        if Reaction.SHUTDOWN_CHECKPOINT in self.pending and not self.xlog_is_shut_down:
            self.shut_xlog_down()
            self.xlog_is_shut_down = True
            self.world.signal_postmaster(PmSignal.XLOG_IS_SHUTDOWN)
        if Reaction.SERVE in self.pending:
            raise ProcExit(EXIT_DONE)  # CK-07
        if self.xlog_is_shut_down:
            return None  # CK-06
        self.serve_requests()
        return float(self.gucs.integer("checkpoint_timeout"))

    def serve_requests(self) -> None:
        """Make the checkpoint that somebody asked for."""
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
        """Whoever asked sleeps on its latch. We do not keep a list: a wake too many is harmless,
        and checkpoints are rare."""
        for row in self.shmem.activities():
            if row.kind in (Kind.STARTUP, Kind.BACKEND):
                try:
                    os.kill(row.pid, signal.SIGURG)
                except OSError:
                    continue  # it has just gone

    def shut_xlog_down(self) -> None:
        """SH-13..16: the last checkpoint; after it nobody writes WAL."""
        elog.log(Level.LOG, "shutting down")
        titles.activity("performing shutdown checkpoint")
        now = time.time()
        if self.shmem.in_recovery:  # RC-18: recovery is not done, so this is no clean end
            self._write(control.read(".").with_state(DbState.SHUTDOWNED_IN_RECOVERY, now))
        else:
            self._write(control.read(".").with_state(DbState.SHUTDOWNING, now))
            self.checkpoint(CheckpointFlag.SHUTDOWN | CheckpointFlag.IMMEDIATE, DbState.SHUTDOWNED)
        titles.activity("")

    def checkpoint(self, flags: CheckpointFlag, state: DbState | None) -> None:
        """Write a checkpoint into the control file, and say so."""
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
