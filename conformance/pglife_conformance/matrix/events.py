"""What is done to a postmaster in a cell of the matrix.

Begin with   Event, then events_in().
Owns         the events: what the suite does, and which rule says what follows.
Leaves out   the comparing (cell.py).
Source       rules SG-01..33, RP-10..29.
"""

from __future__ import annotations

import abc
import signal
from collections.abc import Iterator
from dataclasses import dataclass

from pglife_conformance.matrix import states
from pglife_conformance.matrix.rules import Level, Standing
from pglife_conformance.matrix.scene import Scene
from pglife_conformance.observation.kinds import Kind

INT, QUIT, TERM, USR2 = signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR2
_HARMLESS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGCHLD, signal.SIGPIPE)


class Event(abc.ABC):
    """One kind of stimulus."""

    rules: tuple[str, ...] = ()

    @property
    def since(self) -> int:
        """The first release in which it can happen."""
        return 0

    def writes_shutdown_checkpoint(self, major: int) -> bool:
        """Whether a checkpointer that dies of it has written one before."""
        return False

    @abc.abstractmethod
    def happen(self, scene: Scene) -> None:
        """Do it to the server."""

    @abc.abstractmethod
    def by_rules(self, standing: Standing) -> None:
        """Do it to what the rules say the server is."""


@dataclass(frozen=True)
class Request(Event):
    """A shutdown request stronger than the last one."""

    level: Level
    rules = ("SH-01", "SH-02", "SH-03", "SH-06", "SH-09")

    def __str__(self) -> str:
        return self.level.mode

    def happen(self, scene: Scene) -> None:
        scene.cluster.request_shutdown(self.level.mode)

    def by_rules(self, standing: Standing) -> None:
        standing.request(self.level)


@dataclass(frozen=True)
class Reload(Event):
    """SIGHUP."""

    rules = ("SG-02", "MM-22")

    def __str__(self) -> str:
        return "reload"

    def happen(self, scene: Scene) -> None:
        scene.cluster.reload()

    def by_rules(self, standing: Standing) -> None:
        standing.reload()


@dataclass(frozen=True)
class Harmless(Event):
    """Signals that mean nothing, and requests that are no stronger than the last one."""

    level: Level
    rules = ("SH-01", "SG-05", "PG-25")

    def __str__(self) -> str:
        return "harmless"

    def happen(self, scene: Scene) -> None:
        for level in (Level.SMART, Level.FAST):
            if level <= self.level:
                scene.cluster.request_shutdown(level.mode)
                scene.wait_for_rest()
        for number in _HARMLESS:
            scene.cluster.signal_postmaster(number)
            scene.wait_for_rest()

    def by_rules(self, standing: Standing) -> None:
        return


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

    def happen(self, scene: Scene) -> None:
        child = scene.child(self.kind)
        scene.cluster.signal_child(child, signal.SIGKILL)
        scene.has_gone(child)

    def by_rules(self, standing: Standing) -> None:
        standing.killed(self.kind, signal.SIGKILL)


@dataclass(frozen=True)
class Ends(Event):
    """A child ends by itself, on a signal that somebody sends to it."""

    kind: Kind
    signal: signal.Signals
    code: int
    rules = ("SG-40", "SG-41", "SM-22")

    def __str__(self) -> str:
        return f"{self.kind}_on_{self.signal.name}".replace(" ", "_")

    @property
    def since(self) -> int:
        return 18 if self.kind is Kind.IO_WORKER else 0

    def writes_shutdown_checkpoint(self, major: int) -> bool:
        # SG-11: USR2 is what orders it there; in 18 it orders the exit.
        return self.kind is Kind.CHECKPOINTER and self.signal is USR2 and major < 18

    def happen(self, scene: Scene) -> None:
        child = scene.child(self.kind)
        scene.cluster.signal_child(child, self.signal)
        scene.frozen.release_child(child)
        scene.has_gone(child)

    def by_rules(self, standing: Standing) -> None:
        standing.exits(self.kind, self.code)


@dataclass(frozen=True)
class UnaskedShutdownCheckpoint(Event):
    """INT to the checkpointer of 18 outside of a shutdown."""

    rules = ("SG-11", "TR18-25")

    @property
    def since(self) -> int:
        return 18

    def writes_shutdown_checkpoint(self, major: int) -> bool:
        return True

    def __str__(self) -> str:
        return "checkpointer_on_SIGINT"

    def happen(self, scene: Scene) -> None:
        child = scene.child(Kind.CHECKPOINTER)
        scene.cluster.signal_child(child, signal.SIGINT)
        scene.frozen.release_child(child)
        scene.has_gone(child)

    def by_rules(self, standing: Standing) -> None:
        standing.wal_shut_down_unexpectedly()
        standing.told.pop(Kind.CHECKPOINTER)
        standing.crew[Kind.CHECKPOINTER] = 0


ENDS = (
    Ends(Kind.BACKGROUND_WRITER, TERM, 0),
    Ends(Kind.BACKGROUND_WRITER, QUIT, 2),
    Ends(Kind.WALWRITER, TERM, 0),
    Ends(Kind.WALWRITER, INT, 0),
    Ends(Kind.AUTOVACUUM_LAUNCHER, TERM, 0),
    Ends(Kind.LOGICAL_REPLICATION_LAUNCHER, TERM, 1),
    Ends(Kind.LOGICAL_REPLICATION_LAUNCHER, QUIT, 2),
    Ends(Kind.IO_WORKER, INT, 0),
    Ends(Kind.IO_WORKER, USR2, 0),
    Ends(Kind.CLIENT_BACKEND, TERM, 1),
    Ends(Kind.CLIENT_BACKEND, QUIT, 2),
    Ends(Kind.UNAUTHENTICATED, TERM, 1),
    Ends(Kind.UNAUTHENTICATED, QUIT, 2),
    Ends(Kind.DEAD_END, TERM, 1),
    Ends(Kind.DEAD_END, QUIT, 2),
    Ends(Kind.CHECKPOINTER, USR2, 0),
    Ends(Kind.CHECKPOINTER, QUIT, 2),
)
"""SG-10..33, by signals whose effect nobody else has a part in."""

_IN_SHUTDOWN = (
    Ends(Kind.IO_WORKER, INT, 0),
    Ends(Kind.DEAD_END, TERM, 1),
    Ends(Kind.DEAD_END, QUIT, 2),
    Ends(Kind.CHECKPOINTER, QUIT, 2),
    Ends(Kind.IO_WORKER, QUIT, 2),
)
_STILL_RUNNING = (states.RUN, states.RUN_SMART)


def events_in(state: states.State) -> Iterator[Event]:
    """The events of this state's row."""
    for level in (Level.SMART, Level.FAST, Level.IMMEDIATE):
        if level > state.level:
            yield Request(level)
    if state is states.RUN_ALONE:
        return
    yield Reload()
    yield Harmless(state.level)
    if state is states.STARTUP_CRASH:
        # Further crashes there meet defects of real releases, which have scenarios of their own.
        return
    for kind in Kind:
        if kind in state.crew:
            yield Kill(kind)
    yield from _ends_in(state)


def _ends_in(state: states.State) -> Iterator[Event]:
    if state is states.RUN:
        yield UnaskedShutdownCheckpoint()
    if state.pm in ("PM_RUN", "PM_HOT_STANDBY", "PM_RECOVERY", "PM_STARTUP"):
        ends = ENDS if state in _STILL_RUNNING else ENDS[:1]
        yield from (end for end in ends if end.kind in state.crew)
    elif not state.fatal:
        # Whoever has been told to end already would hear two signals at once.
        hearing = state.crew - set(state.pending)
        yield from (end for end in _IN_SHUTDOWN if end.kind in hearing)
