"""A cell of the matrix while it is played: the cluster, its frozen family, who is who.

Begin with   Scene.
Owns         finding the child of a kind; waiting until a death is reaped or nothing moves.
Leaves out   expectations.
Source       -
"""

from __future__ import annotations

from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.hold.frozen import Frozen, Signals
from pglife_conformance.matrix.states import Held
from pglife_conformance.observation.idle import IdleProbe
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child

Told = dict[Kind, frozenset[int]]


class Scene:
    """One state, held, with everybody stopped."""

    def __init__(self, held: Held, frozen: Frozen) -> None:
        self.cluster: Cluster = held.cluster
        self.held = held
        self.frozen = frozen
        self._kinds = {child.key: held.kind_of(child) for child in frozen.children}
        self.names = {child.pid: str(held.kind_of(child)) for child in frozen.children}
        self.acted_at = 0.0
        """When the event began, by the monotonic clock."""

    def child(self, kind: Kind) -> Child:
        """The first child of this kind."""
        return next(kid for kid in self.frozen.children if self._kinds[kid.key] is kind)

    def has_gone(self, child: Child) -> None:
        """Wait until this child has ended and been reaped."""
        self.cluster.wait_for(
            f"the postmaster to take notice of the end of {child}",
            lambda: not any(kid.key == child.key for kid in self.cluster.watcher.kids),
        )

    def wait_for_rest(self) -> None:
        """Wait until the postmaster sleeps and has no signal pending."""
        rest = IdleProbe(self.cluster.pid)
        self.cluster.wait_for("the postmaster to rest", rest.is_idle)

    def told(self) -> Told:
        """What each kind has been told since; the children of one kind must agree."""
        return self._by_kind(self.frozen.signals_since())

    def signals_before(self) -> Told:
        """What each kind had been told before it was stopped."""
        return self._by_kind(self.frozen.signals_before())

    def _by_kind(self, told: dict[Child, Signals]) -> Told:
        found: Told = {}
        for child, numbers in told.items():
            kind = self._kinds[child.key]
            heard = frozenset(int(number) for number in numbers - kind.ignores)
            if found.setdefault(kind, heard) != heard:
                return {kind: frozenset({-1})}
        return {kind: numbers for kind, numbers in found.items() if numbers}
