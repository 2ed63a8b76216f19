"""What is done to a postmaster in a cell of the matrix. Begin with Event, then events_in().

Source: rules SG-01 to SG-33, RP-10 to RP-29.
"""

import abc
import signal
from collections.abc import Iterator
from dataclasses import dataclass

from pglife_conformance.matrix import states
from pglife_conformance.matrix.frozen_cell import FrozenCell
from pglife_conformance.matrix.states import ShutdownLevel
from pglife_conformance.observation.kinds import Kind
from pglife_spec import PM

INT, QUIT, TERM, USR2 = signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR2
_HARMLESS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGCHLD, signal.SIGPIPE)


class Event(abc.ABC):
    """One kind of stimulus."""

    rules: tuple[str, ...] = ()

    @property
    def since(self) -> int:
        """The first release in which it can perform."""
        return 0

    @abc.abstractmethod
    def perform(self, cell: FrozenCell) -> None:
        """Carry it out on the server."""


@dataclass(frozen=True)
class Request(Event):
    """A shutdown request stronger than the last one."""

    shutdown: ShutdownLevel
    rules = ("SH-01", "SH-02", "SH-03", "SH-06", "SH-09")

    def __str__(self) -> str:
        return self.shutdown.mode

    def perform(self, cell: FrozenCell) -> None:
        cell.cluster.request_shutdown(self.shutdown.mode)


@dataclass(frozen=True)
class Reload(Event):
    """SIGHUP."""

    rules = ("SG-02", "MM-22")

    def __str__(self) -> str:
        return "reload"

    def perform(self, cell: FrozenCell) -> None:
        cell.cluster.reload()


@dataclass(frozen=True)
class Harmless(Event):
    """Signals without an effect, and requests that are no stronger than the last one."""

    shutdown: ShutdownLevel
    rules = ("SH-01", "SG-05", "PG-25")

    def __str__(self) -> str:
        return "harmless"

    def perform(self, cell: FrozenCell) -> None:
        for shutdown in (ShutdownLevel.SMART, ShutdownLevel.FAST):
            if shutdown <= self.shutdown:
                cell.cluster.request_shutdown(shutdown.mode)
                cell.wait_until_idle()
        for number in _HARMLESS:
            cell.cluster.signal_postmaster(number)
            cell.wait_until_idle()


@dataclass(frozen=True)
class Kill(Event):
    """SIGKILL to a child."""

    kind: Kind
    rules = ("CR-01", "CR-02", "RP-02")

    def __str__(self) -> str:
        return f"kill_{self.kind}".replace(" ", "_")

    @property
    def since(self) -> int:
        return 18 if self.kind is Kind.IO_WORKER else 0

    def perform(self, cell: FrozenCell) -> None:
        child = cell.child(self.kind)
        cell.cluster.signal_child(child, signal.SIGKILL)
        cell.wait_for_reap(child)


@dataclass(frozen=True)
class ExitsOn(Event):
    """A child exits on a signal that an operator sends."""

    kind: Kind
    signal: signal.Signals
    code: int
    rules = ("SG-40", "SG-41", "SM-22")

    def __str__(self) -> str:
        return f"{self.kind}_on_{self.signal.name}".replace(" ", "_")

    @property
    def since(self) -> int:
        return 18 if self.kind is Kind.IO_WORKER else 0

    def perform(self, cell: FrozenCell) -> None:
        child = cell.child(self.kind)
        cell.cluster.signal_child(child, self.signal)
        cell.frozen.release_child(child)
        cell.wait_for_reap(child)


@dataclass(frozen=True)
class UnaskedShutdownCheckpoint(Event):
    """SIGINT to the checkpointer of 18 outside of a shutdown."""

    rules = ("SG-11", "TR18-25")

    @property
    def since(self) -> int:
        return 18

    def __str__(self) -> str:
        return "checkpointer_on_SIGINT"

    def perform(self, cell: FrozenCell) -> None:
        child = cell.child(Kind.CHECKPOINTER)
        cell.cluster.signal_child(child, signal.SIGINT)
        cell.frozen.release_child(child)
        cell.wait_for_reap(child)


def death_by(event: Event) -> tuple[Kind, str] | None:
    """The child that exits by an event, and how the log says it; None if no child does."""
    match event:
        case Kill(kind):
            return kind, "was terminated by signal 9: Killed"
        case ExitsOn(kind, code=code):
            return kind, f"exited with exit code {code}"
        case UnaskedShutdownCheckpoint():
            return Kind.CHECKPOINTER, "exited with exit code 2"
    return None


EXITS = (
    ExitsOn(Kind.BACKGROUND_WRITER, TERM, 0),
    ExitsOn(Kind.BACKGROUND_WRITER, QUIT, 2),
    ExitsOn(Kind.WALWRITER, TERM, 0),
    ExitsOn(Kind.WALWRITER, INT, 0),
    ExitsOn(Kind.AUTOVACUUM_LAUNCHER, TERM, 0),
    ExitsOn(Kind.LOGICAL_REPLICATION_LAUNCHER, TERM, 1),
    ExitsOn(Kind.LOGICAL_REPLICATION_LAUNCHER, QUIT, 2),
    ExitsOn(Kind.IO_WORKER, INT, 0),
    ExitsOn(Kind.IO_WORKER, USR2, 0),
    ExitsOn(Kind.CLIENT_BACKEND, TERM, 1),
    ExitsOn(Kind.CLIENT_BACKEND, QUIT, 2),
    ExitsOn(Kind.UNAUTHENTICATED, TERM, 1),
    ExitsOn(Kind.UNAUTHENTICATED, QUIT, 2),
    ExitsOn(Kind.DEAD_END, TERM, 1),
    ExitsOn(Kind.DEAD_END, QUIT, 2),
    ExitsOn(Kind.CHECKPOINTER, USR2, 0),
    ExitsOn(Kind.CHECKPOINTER, QUIT, 2),
)
"""SG-10 to SG-33, by signals that affect one child only."""

_IN_SHUTDOWN = (
    ExitsOn(Kind.IO_WORKER, INT, 0),
    ExitsOn(Kind.DEAD_END, TERM, 1),
    ExitsOn(Kind.DEAD_END, QUIT, 2),
    ExitsOn(Kind.CHECKPOINTER, QUIT, 2),
    ExitsOn(Kind.IO_WORKER, QUIT, 2),
)
_STILL_RUNNING = (states.RUN, states.RUN_SMART)


def events_in(state: states.State) -> Iterator[Event]:
    """The events of this state's row."""
    for shutdown in (ShutdownLevel.SMART, ShutdownLevel.FAST, ShutdownLevel.IMMEDIATE):
        if shutdown > state.shutdown:
            yield Request(shutdown)
    if state is states.RUN_ALONE:
        return
    yield Reload()
    yield Harmless(state.shutdown)
    if state is states.STARTUP_CRASH:
        # Further crashes there meet defects of real releases, which have scenarios of their own.
        return
    for kind in Kind:
        if kind in state.children:
            yield Kill(kind)
    yield from _exits_in(state)


def _exits_in(state: states.State) -> Iterator[Event]:
    if state is states.RUN:
        yield UnaskedShutdownCheckpoint()
    if state.pm in (PM.PM_RUN, PM.PM_HOT_STANDBY, PM.PM_RECOVERY, PM.PM_STARTUP):
        exits = EXITS if state in _STILL_RUNNING else EXITS[:1]
        yield from (end for end in exits if end.kind in state.children)
    elif not state.fatal:
        # A child with a signal pending would receive two at once.
        without = state.children - set(state.pending)
        yield from (end for end in _IN_SHUTDOWN if end.kind in without)
