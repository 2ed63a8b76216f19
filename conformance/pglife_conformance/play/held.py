"""The server that a trace is played on: what the player has stopped, and its clients.

Begin with HeldServer.stop_postmaster() and continue_postmaster().
"""

import signal
from collections.abc import Collection

from pglife_conformance.base import deadlines
from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import Session
from pglife_conformance.expect.excerpt import Excerpt
from pglife_conformance.hold.pin import Pin
from pglife_conformance.hold.startup_barrier import StartupBarrier
from pglife_conformance.monitor.binding import SHOWN_KIND
from pglife_conformance.observation.idle import IdleProbe
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child, read_stat
from pglife_conformance.observation.signals import pending_signals, read_signals
from pglife_spec import Kind as ModelKind

_IGNORE_SIGTERM = frozenset({Kind.CHECKPOINTER, Kind.IO_WORKER})


class HeldServer:
    """One cluster, with the pins of its children and the sessions of its clients."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.pins: dict[tuple[int, int], Pin] = {}
        self.sessions: list[Session] = []
        """Clients that were admitted and are connected."""
        self.refused: dict[tuple[int, int], Session] = {}
        """Silent clients, by the keys of their dead-end children."""
        self._newest: Session | None = None
        self._barrier: StartupBarrier | None = None
        self._is_postmaster_stopped = False

    # The postmaster.

    def has_exited(self) -> bool:
        """Whether the postmaster has exited."""
        return not self.cluster.is_running()

    def stop_postmaster(self) -> None:
        """Send SIGSTOP, unless it has exited."""
        if self._is_postmaster_stopped or self.has_exited():
            return
        self.cluster.signal_postmaster(signal.SIGSTOP)
        self.cluster.wait_for("the postmaster to be stopped", self._is_stopped)
        self._is_postmaster_stopped = True

    def continue_postmaster(self) -> None:
        """Send SIGCONT, if it is stopped."""
        if self._is_postmaster_stopped:
            self.cluster.signal_postmaster(signal.SIGCONT)
            self._is_postmaster_stopped = False

    def has_message(self) -> bool:
        """Whether a PMSignal of a child is pending for the stopped postmaster."""
        found = read_signals(self.cluster.pid)
        return found is not None and signal.SIGUSR1 in found.pending

    def _is_stopped(self) -> bool:
        stat = read_stat(self.cluster.pid)
        return stat is None or stat.state in "TtZ"

    # Children.

    def stop_kinds(self, kinds: Collection[ModelKind]) -> None:
        """Stop every running child of these kinds."""
        for kind in sorted(kinds, key=lambda kind: kind.name):
            for child in self.cluster.children(SHOWN_KIND[kind]):
                self.stop(child)

    def stop(self, child: Child) -> None:
        """Stop the child while it is idle, so that it cannot hold a lock."""
        if child.key in self.pins:
            return
        probe = IdleProbe(child.pid)
        self.cluster.wait_for(f"{child} to be idle", probe.is_idle)
        self.pins[child.key] = Pin(self.cluster, child)

    def continue_child(self, child: Child) -> None:
        """Continue the child, if it is stopped."""
        pin = self.pins.pop(child.key, None)
        if pin is not None:
            pin.release()

    def continue_all(self) -> None:
        """Continue every stopped child."""
        for pin in self.pins.values():
            pin.release()
        self.pins.clear()

    def child_with(self, kind: ModelKind, orders: frozenset[signal.Signals] = frozenset()) -> Child:
        """A running child of this kind with one of these signals pending, or with no order.

        Of io workers it is the highest, which is least likely to have work.

        Raises:
            Inconclusive: no such child exists.
        """
        found = self.cluster.children(SHOWN_KIND[kind])
        fitting = [kid for kid in found if self._fits(kid, orders)]
        if not fitting:
            words = ", ".join(sorted(s.name for s in orders)) or "no order to end"
            kids = "; ".join(map(str, self.cluster.children())) or "no children"
            raise Inconclusive(f"a {SHOWN_KIND[kind]} with {words} pending", kids)
        return fitting[-1]

    def _fits(self, child: Child, orders: frozenset[signal.Signals]) -> bool:
        pending = pending_signals(child)
        if orders:
            return bool(pending & orders)
        ends = pending & {signal.SIGTERM, signal.SIGQUIT}
        return not ends or child.kind in _IGNORE_SIGTERM

    def expect_exit(self, child: Child) -> None:
        """Continue the child and wait until it has exited."""
        self.continue_child(child)
        self.cluster.expect_death(child)

    # The startup process.

    def block_startup(self) -> None:
        """The next startup process will block before it reports anything."""
        if self._barrier is not None:
            self._barrier.open()
        self._barrier = StartupBarrier(self.cluster)

    def unblock_startup(self) -> None:
        """The startup process goes on."""
        if self._barrier is not None:
            self._barrier.open()
            self._barrier = None

    def wait_for_blocked_startup(self, then: Excerpt) -> None:
        """Wait until the startup process blocks."""
        if self._barrier is not None:
            self._barrier.wait_for_startup(then)

    # Clients.

    def connect(self, *, is_admitted: bool) -> Session:
        """A client connects; it sends a startup packet only if it will be admitted."""
        if is_admitted:
            session = self.cluster.attempt(within=deadlines.ANSWER_LIMIT)
            self.sessions.append(session)
        else:
            session = self.cluster.silent_client(wait_for_child=False)
            self._newest = session
        return session

    def note_refused(self) -> None:
        """After an iteration: the one new dead-end child is the newest client's."""
        session, self._newest = self._newest, None
        if session is not None:
            found = self.cluster.children(Kind.UNKNOWN)
            self.refused |= {kid.key: session for kid in found if kid.key not in self.refused}
