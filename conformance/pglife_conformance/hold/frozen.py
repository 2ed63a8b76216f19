"""All children stopped at once, to read which signals each one is sent.

Begin with Frozen. The states in which to do it come from pin.py and matrix/.

Source: PR-28, OB-14; observation/signals.py.
"""

import contextlib
import itertools
import os
import signal
from collections.abc import Iterable

from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import SignalChild
from pglife_conformance.hold.held import Held
from pglife_conformance.observation.idle import IdleProbe
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child, RunState, read_stat
from pglife_conformance.observation.signals import pending_signals

Signals = frozenset[signal.Signals]

_STRICT_LOOKS = 30


def expect_all_idle(cluster: Cluster, children: Iterable[Child]) -> None:
    """Wait until all of these children sleep at the same time.

    For children that are about to be stopped: one that is stopped while it works (a launcher that
    still starts, say) might hold a lock that another process needs, or might have asked a stopped
    io worker for a page.
    """
    kids = list(children)
    probes = [IdleProbe(child.pid) for child in kids]
    looks = itertools.count(1)

    def all_idle() -> bool:
        # Probed all at each look: probed until the first that is busy, they would rarely agree.
        found = [probe.is_idle() for probe in probes]
        if next(looks) > _STRICT_LOOKS:
            # Where one look takes longer than a walwriter's nap, no two looks see it unmoved.
            return all(map(_is_asleep, kids))
        return False not in found

    cluster.wait_for("all children to be idle", all_idle)


def _is_asleep(child: Child) -> bool:
    stat = read_stat(child.pid)
    return stat is None or stat.state == "S"


class Frozen(Held):
    """All children but the logger, stopped.

    Raises:
        Inconclusive: a child has exited before it could be stopped.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.children = [kid for kid in cluster.children() if kid.kind is not Kind.LOGGER]
        running = [kid for kid in self.children if kid.state is not RunState.STOPPED]
        expect_all_idle(cluster, running)
        super().__init__(cluster)
        for child in running:
            self._stop(child)
        cluster.wait_for("all children to be stopped", self._all_stopped)
        # The postmaster may be half done with what led here: it logs before it signals or after,
        # and a child's exit is seen before the postmaster has reaped it.
        cluster.expect_idle()
        self._before = {child.key: pending_signals(child) for child in self.children}

    def _stop(self, child: Child) -> None:
        try:
            self.cluster.signal_child(child, signal.SIGSTOP)
        except AssertionError as problem:
            raise Inconclusive(f"{child} stopped", "it had exited before") from problem

    def _all_stopped(self) -> bool:
        now = {kid.key: kid for kid in self.cluster.watcher.kids}
        for child in self.children:
            kid = now.get(child.key)
            if kid is None or not kid.is_alive:
                raise Inconclusive(f"{child} stopped", "it had exited before it could be stopped")
            if kid.state is not RunState.STOPPED:
                return False
        return True

    def signals_since(self) -> dict[Child, Signals]:
        """The signals that the postmaster has sent each living child since it was stopped."""
        living = {kid.key for kid in self.cluster.watcher.kids if kid.is_alive}
        return {
            child: pending_signals(child) - self._before[child.key]
            for child in self.children
            if child.key in living
        }

    def signals_before(self) -> dict[Child, Signals]:
        """The signals that were pending when all were stopped; only in children stopped earlier."""
        return {child: self._before[child.key] for child in self.children}

    def release_child(self, child: Child) -> None:
        """Continue one of them."""
        self._continue(child)
        self.children.remove(child)

    def _release(self) -> None:
        living = {kid.key for kid in self.cluster.watcher.look().kids if kid.is_alive}
        for child in self.children:
            if child.key in living:
                self._continue(child)

    def _continue(self, child: Child) -> None:
        self.cluster.watcher.stimulus(SignalChild(child, signal.SIGCONT))
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGCONT)
