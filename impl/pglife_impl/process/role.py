"""The skeleton of a background process: loop, latch, signals, clean-up, exit codes.

Begin with Role: a background process is a subclass with a signal table and a turn().

Source: postmaster/auxprocess.c, interrupt.c; utils/init/miscinit.c; rules SG-10..22, SG-40, CR-41,
CR-52, PG-31, SV-24.
"""

import os
import signal
from collections.abc import Mapping
from enum import Enum, auto
from typing import ClassVar

from pglife_impl.base.exits import EXIT_DONE, EXIT_FATAL, ProcExit
from pglife_impl.base.ids import ProcNumber
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
    """What a signal makes a process do. Its handler only records it and sets the latch."""

    IGNORE = auto()
    WAKE = auto()
    RELOAD = auto()
    STOP = auto()  # exit 0 before the next iteration
    GIVE_UP = auto()  # exit 1 before the next iteration
    ABORT = auto()  # exit 2 at once
    SERVE = auto()  # turn() serves it
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
        self.proc: ProcNumber | None = None

    def turn(self) -> Seconds | None:
        """Do the work of one iteration of the loop.

        Returns:
            How long to sleep unless the latch is set; None: until it is set.
        """
        raise NotImplementedError

    def begin(self) -> None:
        """Called before the first iteration, with handlers installed."""

    def reloaded(self) -> None:
        """Called after the configuration has been read again."""

    def before_exit(self, code: int) -> None:
        """Called before an exit with this code, unless SIGQUIT causes it."""

    # --- start and exit -----------------------------------------------------------------------

    def run(self) -> int:
        """Run the process; return its exit code."""
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
            self.before_exit(end.code)
            return end.code
        finally:
            # SIGQUIT does not get here: hence an exit with code 2 is a crash (SG-42).
            self.detach()

    def attach(self) -> None:
        """Mark the child slot, take a PGPROC, set the title."""
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
        """Free the PGPROC and mark the slot; without this even exit code 0 is a crash (RP-03)."""
        if self.proc is not None:
            self.shmem.release(self.proc)
            self.shmem.set_slot_flag(self.birth.slot, SlotFlag.ASSIGNED)

    def handlers(self) -> dict[int, Handler | None]:
        """The handlers of the signal table, and those that all roles share."""
        shared: dict[int, Reaction] = {
            signal.SIGPIPE: Reaction.IGNORE,
            signal.SIGALRM: Reaction.IGNORE,
            signal.SIGUSR1: Reaction.WAKE,
            signal.SIGURG: Reaction.WAKE,
        }
        table = {**shared, **self.signals}
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

    # --- between iterations -------------------------------------------------------------------

    def serve(self) -> None:
        """Serve pending signals that every role serves alike: reload and stop."""
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
        """Sleep until the delay is over or the latch is set; exit if the postmaster has exited."""
        ready = self.wait_set.wait(delay)
        if self.world.death_read in ready:
            raise ProcExit(EXIT_FATAL)  # CR-52: without flushing anything
        self.latch.reset()
