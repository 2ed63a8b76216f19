"""Carrying out what was decided.

Begin with   Performer.perform().
Owns         every effect of the postmaster on the world; it decides nothing.
Leaves out   what is to be done (pm_*.py), when (postmaster.py).
Source       postmaster.c: the functions named by the requests.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from collections.abc import Callable

from pglife_impl.base.exits import ProcExit
from pglife_impl.base.kinds import Attached, Kind, info
from pglife_impl.base.pmsignal import SlotFlag
from pglife_impl.base.words import Level
from pglife_impl.data_directory.lockfile import Line, shmem_key
from pglife_impl.log import elog
from pglife_impl.log.logfile import redirect_to_pipe
from pglife_impl.net import hba
from pglife_impl.net.sockets import fds
from pglife_impl.os.fork import fork_child
from pglife_impl.os.reap import describe
from pglife_impl.postmaster.events import (
    Event,
    Exit,
    Fork,
    Forked,
    ForkFailed,
    Listen,
    Log,
    LogChildExit,
    QuitMyself,
    Reinitialize,
    RemoveLogrotateFile,
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

TO_THE_GROUP_TOO = frozenset(
    {signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGKILL, signal.SIGABRT}
)
CLIENTS = frozenset({Kind.BACKEND, Kind.DEAD_END_BACKEND})


class Performer:
    """The postmaster's hands."""

    def __init__(self, world: World, config: Config) -> None:
        self.world = world
        self.config = config
        self.client: socket.socket | None = None  # the connection that has just arrived
        self.slots: dict[int, int] = {}  # pid -> child slot, until reaped
        self.generation = 0

    def perform(self, request: Request) -> Event | None:
        """Do it; what came of it, if a decision waits for that."""
        match request:
            case Log():
                elog.log(request.level, request.message, detail=request.detail, hint=request.hint)
            case SignalChild():
                self.signal_child(request)
            case Fork():
                return self.fork(request)
            case LogChildExit():
                self.log_child_exit(request)
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

    # --- signals ----------------------------------------------------------------------------

    def signal_child(self, request: SignalChild) -> None:
        """PR-26: the child, and for what ends things also its group. It may be gone already."""
        signum = signal.Signals(request.signum)
        elog.log(
            Level.DEBUG3,
            f"sending signal {int(signum)}/{signum.name} to"
            f" {info(request.kind).backend_type} process with pid {request.pid}",
        )
        targets = [request.pid]
        if signum in TO_THE_GROUP_TOO:
            targets.append(-request.pid)
        for target in targets:
            try:
                os.kill(target, signum)
            except OSError as e:
                elog.log(Level.DEBUG3, f"kill({target},{int(signum)}) failed: {e.strerror}")

    # --- children ---------------------------------------------------------------------------

    def fork(self, request: Fork) -> Event:
        """Make the child; what a decision needs to know comes back as an event."""
        now = time.time()
        kind = request.kind
        world = self.world
        client = self.client if kind in CLIENTS else None
        birth = Birth(request.slot, request.cac, client, now)
        if kind is Kind.LOGGER:
            self.prepare_logger()
        world.shmem.set_slot_flag(request.slot, SlotFlag.ASSIGNED)
        try:
            pid = fork_child(lambda: child_main(world, kind, birth))
        except OSError as e:
            world.shmem.set_slot_flag(request.slot, SlotFlag.UNUSED)
            error = e.strerror or os.strerror(errno.EAGAIN)
            if client is not None:
                tell_fork_failure(client, error)
            return ForkFailed(kind, request.slot, request.worker, error, now)
        self.slots[pid] = request.slot
        if client is not None:
            elog.log(
                Level.DEBUG2,
                f"forked new {info(kind).backend_type}, pid={pid} socket={client.fileno()}",
            )
        if kind is Kind.LOGGER:
            self.redirect()
        return Forked(kind, pid, request.slot, request.worker, now)

    def prepare_logger(self) -> None:
        """The pipe is made once, and survives every logger (LG-01)."""
        if self.world.logger_pipe is None:
            self.world.logger_pipe = os.pipe()

    def redirect(self) -> None:
        """After the first logger has been forked: stderr is the pipe from now on (SV-20)."""
        if not self.redirected:
            assert self.world.logger_pipe is not None
            redirect_to_pipe(self.world.gucs, self.world.logger_pipe)
            self.redirected = True

    redirected = False

    def slot_was_clean(self, pid: int, kind: Kind | None) -> bool:
        """RP-03: at the death of a child, did it put its slot in order? The slot is free then."""
        slot = self.slots.pop(pid, 0)
        if slot == 0:
            return True
        clean = self.world.shmem.slot_flag(slot) == SlotFlag.ASSIGNED
        self.world.shmem.set_slot_flag(slot, SlotFlag.UNUSED)
        return clean or kind is None or info(kind).attached is Attached.NO

    def log_child_exit(self, request: LogChildExit) -> None:
        """RP-02, with what the dead process was doing, if it died badly."""
        detail = ""
        if request.status != 0:
            row = self.world.shmem.activity_of(request.pid)
            if row is not None and row.query:
                detail = f"Failed process was running: {row.query}"
        elog.log(request.level, describe(request.name, request.pid, request.status), detail=detail)

    # --- the rest ---------------------------------------------------------------------------

    def listen(self, *, accepting: bool) -> None:
        """SV-25."""
        change: Callable[[int], None] = (
            self.world.wait_set.add if accepting else self.world.wait_set.remove
        )
        for fd in fds(self.world.sockets.opened):
            change(fd)

    def reread_configuration(self) -> None:
        """SG-02: what is wrong is said, the rest is used."""
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
        """CR-20: a new generation of shared memory; line 7 of the pid file tells of it."""
        old = self.world.shmem
        self.generation += 1
        self.world.shmem = Shmem(old.sizes, self.generation)
        old.destroy()
        key, ident = shmem_key(self.generation)
        self.world.locks.put_line(Line.SHMEM_KEY, f"{key:9d} {ident:9d}")


def remove_quietly(path: str) -> None:
    """Unlink a trigger file that may not be there."""
    try:
        os.unlink(path)
    except OSError:
        return


def tell_fork_failure(client: socket.socket, error: str) -> None:
    """SE-34: one try, in the old protocol's form; the postmaster must not wait for a client."""
    text = f"Ecould not fork new process for connection: {error}\n\0"
    try:
        client.setblocking(False)
        client.send(text.encode(), socket.MSG_NOSIGNAL)
    except OSError:
        return
