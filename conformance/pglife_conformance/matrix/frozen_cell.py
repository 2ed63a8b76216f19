"""A cell while it is played: the cluster, its stopped children, the kind of each.

Begin with FrozenCell.
"""

from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.hold.frozen import Frozen, Signals
from pglife_conformance.matrix.states import HeldState
from pglife_conformance.observation.idle import IdleProbe
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child

SignalsByKind = dict[Kind, frozenset[int]]


class FrozenCell:
    """One state, held, with all children stopped."""

    def __init__(self, held: HeldState, frozen: Frozen) -> None:
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

    def wait_for_reap(self, child: Child) -> None:
        """Wait until this child has been reaped."""
        self.cluster.wait_for(
            f"the postmaster to reap {child}",
            lambda: not any(kid.key == child.key for kid in self.cluster.watcher.kids),
        )

    def wait_until_idle(self) -> None:
        """Wait until the postmaster sleeps and has no signal pending."""
        probe = IdleProbe(self.cluster.pid)
        self.cluster.wait_for("the postmaster to be idle", probe.is_idle)

    def signals_since(self) -> SignalsByKind:
        """The signals that each kind was sent since; the children of one kind must agree."""
        return self._by_kind(self.frozen.signals_since())

    def signals_before(self) -> SignalsByKind:
        """The signals that each kind was sent before it was stopped."""
        return self._by_kind(self.frozen.signals_before())

    def _by_kind(self, sent: dict[Child, Signals]) -> SignalsByKind:
        found: SignalsByKind = {}
        for child, numbers in sent.items():
            kind = self._kinds[child.key]
            seen = frozenset(int(number) for number in numbers - kind.ignores)
            if found.setdefault(kind, seen) != seen:
                return {kind: frozenset({-1})}
        return {kind: numbers for kind, numbers in found.items() if numbers}
