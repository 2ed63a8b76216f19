"""The skeleton of a background process: loop, latch, signals, clean-up, exit codes.

Begin with   Role; a background process is a subclass with a signal table and a turn().
Owns         the life of such a process from its first line to its exit code.
Leaves out   what each does (roles/), sessions (backend.py).
Source       postmaster/auxprocess.c, interrupt.c; utils/init/miscinit.c; rules SG-10..22, SG-40,
             CR-41, CR-52, PG-31, SV-24.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from enum import Enum, auto
from typing import ClassVar

from pglife_impl.base.exits import EXIT_DONE, EXIT_FATAL, ProcExit
from pglife_impl.base.kinds import Attached, Kind, info
from pglife_impl.base.pmsignal import SlotFlag
from pglife_impl.base.words import Level
from pglife_impl.log import elog
from pglife_impl.os import signals, titles
from pglife_impl.os.latch import Latch, WaitSet
from pglife_impl.os.signals import Handler
from pglife_impl.process.world import Birth, World

Seconds = float
RETRY_AFTER_ERROR_S = 1.0  # BW-03


class Reaction(Enum):
    """What a signal means to a process. Its handler only notes it and wakes the latch."""

    IGNORE = auto()
    WAKE = auto()
    RELOAD = auto()
    STOP = auto()  # exit 0 before the next turn
    GIVE_UP = auto()  # exit 1 before the next turn
    ABORT = auto()  # exit 2 on the spot
    LOOK = auto()  # for the role to serve
    SHUTDOWN_CHECKPOINT = auto()  # checkpointer only
    ROTATE = auto()  # logger only


class Role:
    """A background process. The docstring of a subclass is its contract."""

    kind: ClassVar[Kind]
    signals: ClassVar[Mapping[int, Reaction]]

    def __init__(self, world: World, birth: Birth) -> None:
        self.world = world
        self.gucs = world.gucs
        self.shmem = world.shmem
        self.birth = birth
        self.pending: set[Reaction] = set()
        self.latch = Latch()
        self.wait_set = WaitSet(self.latch, [world.death_read])
        self.proc: int | None = None
        self.sleeping = False

    def turn(self) -> Seconds | None:
        """Do once what there is to do; how long to sleep unless woken (None: until then)."""
        raise NotImplementedError

    def begin(self) -> None:
        """Say or do something before the first turn, with handlers in place."""

    def reloaded(self) -> None:
        """The configuration has been read again."""

    def leaving(self, code: int) -> None:
        """Last words."""

    # --- the life -----------------------------------------------------------------------------

    def live(self) -> int:
        """Everything from the first line to the exit code."""
        self.attach()
        signals.install(self.handlers())
        signals.unblock_all()
        try:
            self.begin()
            while True:
                self.serve()
                try:
                    delay = self.turn()
                except OSError as e:
                    elog.log(Level.ERROR, str(e))
                    delay = RETRY_AFTER_ERROR_S
                self.sleep(delay)
        except ProcExit as end:
            self.leaving(end.code)
            return end.code
        finally:
            # Not reached by QUIT, which is why an exit with 2 must be a crash (SG-42).
            self.detach()

    def attach(self) -> None:
        """Take a PGPROC, mark the child slot, set the title."""
        if info(self.kind).attached is not Attached.NO:
            self.shmem.set_slot_flag(self.birth.slot, SlotFlag.ACTIVE)
            self.proc = self.shmem.claim(self.kind, os.getpid())
            if self.proc is None:
                elog.log(Level.PANIC, "all AuxiliaryProcs are in use")
                signals.abort()
        titles.init(
            self.title(),
            cluster_name=self.gucs.text("cluster_name"),
            update=self.gucs.boolean("update_process_title"),
        )

    def title(self) -> str:
        """The fixed part of the title."""
        return info(self.kind).title

    def detach(self) -> None:
        """Give back what was taken; without this an exit with 0 or 1 is a crash (RP-03)."""
        if self.proc is not None:
            self.shmem.release(self.proc)
            self.shmem.set_slot_flag(self.birth.slot, SlotFlag.ASSIGNED)

    def handlers(self) -> dict[int, Handler | None]:
        """The signal table as handlers; what is not in it is as for everybody."""
        everybody: dict[int, Reaction] = {
            signal.SIGPIPE: Reaction.IGNORE,
            signal.SIGALRM: Reaction.IGNORE,
            signal.SIGUSR1: Reaction.WAKE,
            signal.SIGURG: Reaction.WAKE,
        }
        table = {**everybody, **self.signals}
        return {signum: self._handler(reaction) for signum, reaction in table.items()}

    def _handler(self, reaction: Reaction) -> Handler | None:
        if reaction is Reaction.IGNORE:
            return None
        if reaction is Reaction.ABORT:
            return signals.abort

        def note() -> None:
            self.pending.add(reaction)
            self.latch.set()

        return note

    # --- between turns ------------------------------------------------------------------------

    def serve(self) -> None:
        """Serve what signals have asked for and every role serves alike."""
        if Reaction.RELOAD in self.pending:
            self.pending.discard(Reaction.RELOAD)
            self.gucs.load(starting=False)
            elog.configure(self.gucs)
            titles.configure(update=self.gucs.boolean("update_process_title"))
            self.reloaded()
        if Reaction.STOP in self.pending:
            raise ProcExit(EXIT_DONE)
        if Reaction.GIVE_UP in self.pending:
            raise ProcExit(EXIT_FATAL)

    def sleep(self, delay: Seconds | None) -> None:
        """Sleep until the time is over or the latch is set; leave if the postmaster died."""
        ready = self.wait_set.wait(delay)
        if self.world.death_read in ready:
            raise ProcExit(EXIT_FATAL)  # CR-52; nobody flushes anything
        self.latch.reset()
