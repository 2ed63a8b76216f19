"""Perform the requests of decisions: every system call of the postmaster's loop but waiting.

Begin with Performer.perform(). It decides nothing.

Source: postmaster.c: the functions that the requests name.
"""

import errno
import os
import signal
import socket
import time
from collections.abc import Callable

from pglife_impl.base.exits import ProcExit
from pglife_impl.base.kinds import Kind, info
from pglife_impl.base.pmsignal import SlotFlag
from pglife_impl.base.words import Level
from pglife_impl.data_directory.lockfile import Line, shmem_key
from pglife_impl.log import elog
from pglife_impl.log.logfile import redirect_to_pipe
from pglife_impl.net import hba
from pglife_impl.net.sockets import fds
from pglife_impl.os.fork import fork_child
from pglife_impl.os.reap import describe
from pglife_impl.postmaster.requests import (
    Exit,
    Fork,
    ForkFailure,
    ForkOutcome,
    FreeSlot,
    Listen,
    Log,
    LogChildExit,
    QuitMyself,
    Reinitialize,
    RemoveLogrotateFile,
    ReportForkFailure,
    Request,
    RereadConfiguration,
    SetQuitReason,
    SignalChild,
    WritePidStatus,
)
from pglife_impl.postmaster.settings import config_of
from pglife_impl.postmaster.state import Config
from pglife_impl.process.child import child_main
from pglife_impl.process.world import Birth, World
from pglife_impl.shmem.segment import Shmem

SIGNALS_FOR_THE_GROUP = frozenset(
    {signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGKILL, signal.SIGABRT}
)


class Performer:
    """Performs requests in the postmaster's process."""

    def __init__(self, world: World, config: Config) -> None:
        self.world = world
        self.config = config
        self.stderr_redirected = False
        self.generation = 0

    def perform(self, request: Request) -> ForkOutcome | None:
        """Perform a request.

        Returns:
            The outcome of a Fork; None for every other request.

        Raises:
            ProcExit: the request is Exit.
        """
        match request:
            case Fork():
                return self.fork(request)
            case Log():
                elog.log(request.level, request.message)
            case SignalChild():
                self.signal_child(request)
            case LogChildExit():
                self.log_child_exit(request)
            case FreeSlot():
                self.world.shmem.set_slot_flag(request.slot, SlotFlag.UNUSED)
            case ReportForkFailure():
                report_fork_failure(request.client, request.error)
            case SetQuitReason():
                self.world.shmem.quit_reason = request.reason
            case WritePidStatus():
                self.world.locks.put_line(Line.STATUS, request.status.value)
            case Listen():
                self.listen(accepting=request.accepting)
            case RereadConfiguration():
                self.reread_configuration()
            case Reinitialize():
                self.reinitialize()
            case RemoveLogrotateFile():
                remove_quietly("logrotate")
            case QuitMyself():
                os.kill(os.getpid(), signal.SIGQUIT)
            case Exit():
                raise ProcExit(request.code.value)
        return None

    # --- children ---------------------------------------------------------------------------

    def signal_child(self, request: SignalChild) -> None:
        """Signal a child, and its process group if the signal ends it (PR-26).

        The child may be a zombie already, or not yet lead a group: an error is logged only.
        """
        signum = request.signum
        elog.log(
            Level.DEBUG3,
            f"sending signal {int(signum)}/{signum.name} to"
            f" {info(request.kind).backend_type} process with pid {request.pid}",
        )
        targets = [int(request.pid)]
        if signum in SIGNALS_FOR_THE_GROUP:
            targets.append(-request.pid)
        for target in targets:
            try:
                os.kill(target, signum)
            except OSError as e:
                elog.log(Level.DEBUG3, f"kill({target},{int(signum)}) failed: {e.strerror}")

    def fork(self, request: Fork) -> ForkOutcome:
        """Fork a child. If fork() fails, its slot is unused again."""
        world, kind, slot = self.world, request.kind, request.slot
        birth = Birth(slot, request.cac, request.client, time.time())
        if kind is Kind.LOGGER and world.logger_pipe is None:
            world.logger_pipe = os.pipe()  # made once; every later logger reads it too (LG-01)
        world.shmem.set_slot_flag(slot, SlotFlag.ASSIGNED)
        try:
            pid = fork_child(lambda: child_main(world, kind, birth))
        except OSError as e:
            world.shmem.set_slot_flag(slot, SlotFlag.UNUSED)
            return ForkFailure(e.strerror or os.strerror(errno.EAGAIN))
        if request.client is not None:
            elog.log(
                Level.DEBUG2,
                f"forked new {info(kind).backend_type}, pid={pid} socket={request.client.fileno()}",
            )
        if kind is Kind.LOGGER:
            self.redirect_stderr()
        return pid

    def redirect_stderr(self) -> None:
        """Make stderr the logger's pipe, after the first logger has been forked (SV-20)."""
        if not self.stderr_redirected:
            assert self.world.logger_pipe is not None
            redirect_to_pipe(self.world.gucs, self.world.logger_pipe)
            self.stderr_redirected = True

    def log_child_exit(self, request: LogChildExit) -> None:
        """Log an exit (RP-02); if it was a failure, with the statement that was running."""
        detail = ""
        if request.status != 0:
            row = self.world.shmem.activity_of(request.pid)
            if row is not None and row.query:
                detail = f"Failed process was running: {row.query}"
        elog.log(request.level, describe(request.name, request.pid, request.status), detail=detail)

    # --- the rest ---------------------------------------------------------------------------

    def listen(self, *, accepting: bool) -> None:
        """Add the listening sockets to the wait set, or remove them (SV-25)."""
        change: Callable[[int], None] = (
            self.world.wait_set.add if accepting else self.world.wait_set.remove
        )
        for fd in fds(self.world.sockets.opened):
            change(fd)

    def reread_configuration(self) -> None:
        """Reread the files; log what is wrong in them and apply the rest (SG-02)."""
        loaded = self.world.gucs.load(starting=False)
        for line in loaded.lines:
            elog.log(Level.LOG, line)
        if loaded.verdict:
            elog.log(Level.LOG, loaded.verdict)
        elog.configure(self.world.gucs)
        path = self.world.gucs.text("hba_file")
        try:
            self.world.hba = hba.load(path)
        except hba.HbaError as e:
            elog.log(Level.LOG, str(e))
            elog.log(Level.LOG, f"{path} was not reloaded")
        self.config = config_of(self.world.gucs)

    def reinitialize(self) -> None:
        """Replace shared memory by a new generation, named in line 7 of postmaster.pid (CR-20)."""
        old = self.world.shmem
        self.generation += 1
        self.world.shmem = Shmem(old.sizes, self.generation)
        old.destroy()
        key, ident = shmem_key(self.generation)
        self.world.locks.put_line(Line.SHMEM_KEY, f"{key:9d} {ident:9d}")


def remove_quietly(path: str) -> None:
    """Unlink a file that may be missing."""
    try:
        os.unlink(path)
    except OSError:
        return


def report_fork_failure(client: socket.socket, error: str) -> None:
    """Send a client the error in the form of protocol 2, which every client reads (SE-34).

    One non-blocking send: the postmaster must not wait for a client.
    """
    text = f"Ecould not fork new process for connection: {error}\n\0"
    try:
        client.setblocking(False)
        client.send(text.encode(), socket.MSG_NOSIGNAL)
    except OSError:
        return
