"""The server that is played on: its postmaster let go and held, its children held and found.

Begin with   Stage.begin(), then let_go() and hold_postmaster().
Owns         who is held by whose pin, the barrier of the startup process, the clients that came.
Leaves out   what is done when (player.py), what must be seen (evidence.py).
Source       PR-28; OB-01, OB-02.
"""

from __future__ import annotations

import signal

from pglife_conformance.base import deadlines
from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import Session
from pglife_conformance.hold.pin import Pin
from pglife_conformance.hold.startup_barrier import StartupBarrier
from pglife_conformance.monitor.binding import MODEL_KIND
from pglife_conformance.observation.idle import IdleProbe
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child, read_stat
from pglife_conformance.observation.signals import pending_signals, read_signals
from pglife_spec.postgres.words import Kind as ModelKind

_KIND_OF_MODEL = {model.name: kind for kind, model in MODEL_KIND.items()}
_KIND_OF_MODEL[ModelKind.DEAD_END_BACKEND.name] = Kind.UNKNOWN


def kind_of(name: str) -> Kind:
    """The kind as processes show it; dead-end children show nothing."""
    return _KIND_OF_MODEL[name.upper()]


class Stage:
    """One cluster, and everything that the player holds in it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.pins: dict[tuple[int, int], Pin] = {}
        self.sessions: list[Session] = []
        """Clients that were admitted and are there."""
        self.refused: dict[tuple[int, int], Session] = {}
        """Silent clients by the key of the dead-end child that each has."""
        self._newcomer: Session | None = None
        self.barrier: StartupBarrier | None = None
        self._held = False

    # The postmaster.

    def is_over(self) -> bool:
        """The postmaster has ended."""
        return not self.cluster.is_running()

    def hold_postmaster(self) -> None:
        """STOP; nothing if it has ended."""
        if self._held or self.is_over():
            return
        self.cluster.signal_postmaster(signal.SIGSTOP)
        self.cluster.wait_for("the postmaster to be stopped", self._is_stopped)
        self._held = True

    def release_postmaster(self) -> None:
        """CONT; nothing if it is not held."""
        if self._held:
            self.cluster.signal_postmaster(signal.SIGCONT)
            self._held = False

    def has_message(self) -> bool:
        """A child has told the held postmaster something (PMSignal)."""
        found = read_signals(self.cluster.pid)
        return found is not None and signal.SIGUSR1 in found.pending

    def _is_stopped(self) -> bool:
        stat = read_stat(self.cluster.pid)
        return stat is None or stat.state in "TtZ"

    # Children.

    def hold_kinds(self, kinds: frozenset[str]) -> None:
        """Pin every living child of these kinds that is not pinned yet."""
        for name in sorted(kinds):
            for child in self.cluster.children(kind_of(name)):
                self.hold(child)

    def hold(self, child: Child) -> None:
        """Pin one child, at a moment when it rests: stopped in the middle of something it might
        hold a lock."""
        if child.key in self.pins:
            return
        rest = IdleProbe(child.pid)
        self.cluster.wait_for(f"{child} to rest", rest.is_idle)
        self.pins[child.key] = Pin(self.cluster, child)

    def let_go(self, child: Child) -> None:
        """Release its pin, if it has one."""
        pin = self.pins.pop(child.key, None)
        if pin is not None:
            pin.release()

    def let_go_of_all(self) -> None:
        """Release every pin."""
        for pin in self.pins.values():
            pin.release()
        self.pins.clear()

    def one(self, name: str, told: frozenset[signal.Signals] = frozenset()) -> Child:
        """A living child of this kind: one with one of these orders, or with none if none is
        named. Of io workers the highest, which is least likely to have work."""
        found = self.cluster.children(kind_of(name))
        fitting = [kid for kid in found if self._fits(kid, told)]
        if not fitting:
            orders = ", ".join(sorted(s.name for s in told)) or "no order to end"
            raise Inconclusive(f"a {kind_of(name)} with {orders} pending", self._kids())
        return fitting[-1]

    def _fits(self, child: Child, told: frozenset[signal.Signals]) -> bool:
        pending = pending_signals(child)
        if told:
            return bool(pending & told)
        return not pending & {signal.SIGTERM, signal.SIGQUIT} or child.kind in _HEEDLESS

    def _kids(self) -> str:
        return "; ".join(map(str, self.cluster.children())) or "no children"

    def end(self, child: Child) -> None:
        """Let a child do what it was told, and wait for its end."""
        self.let_go(child)
        self.cluster.expect_death(child)

    # The startup process.

    def close_gate(self) -> None:
        """The next startup process will stop before it reports anything."""
        if self.barrier is not None:
            self.barrier.open()
        self.barrier = StartupBarrier(self.cluster)

    def open_gate(self) -> None:
        """It goes on."""
        if self.barrier is not None:
            self.barrier.open()
            self.barrier = None

    def wait_at_gate(self, since: int) -> None:
        """Until the startup process has come to the barrier."""
        if self.barrier is not None:
            self.barrier.wait_for_startup(since)

    # Clients.

    def client(self, *, is_admitted: bool) -> Session:
        """A client comes: one that is admitted says who it is, another one says nothing yet."""
        if is_admitted:
            session = self.cluster.attempt(within=deadlines.ANSWER_LIMIT)
            self.sessions.append(session)
        else:
            session = self.cluster.silent_client(wait_for_child=False)
            self._newcomer = session
        return session

    def note_refused(self) -> None:
        """After the turn: the one dead-end child that nobody has is the newcomer's."""
        session, self._newcomer = self._newcomer, None
        if session is not None:
            found = self.cluster.children(Kind.UNKNOWN)
            self.refused |= {kid.key: session for kid in found if kid.key not in self.refused}


_HEEDLESS = frozenset({Kind.CHECKPOINTER, Kind.IO_WORKER})
"""They ignore SIGTERM."""
