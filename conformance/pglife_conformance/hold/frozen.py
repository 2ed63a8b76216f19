"""A whole family held still, so that one can see who is told what.

Begin with   Frozen.
Owns         waiting until children rest; stopping all but the logger, what they have been told
             since, letting go.
Leaves out   the states in which to do it (pins.py, matrix/).
Source       PR-28, OB-14; observation/signals.py.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from collections.abc import Iterable
from types import TracebackType

from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import SignalChild
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child, RunState, read_stat
from pglife_conformance.observation.rest import Rest
from pglife_conformance.observation.signals import orders_pending

Signals = frozenset[signal.Signals]

_STRICT_LOOKS = 30


def expect_rest(cluster: Cluster, children: Iterable[Child]) -> None:
    """Wait until all of these sleep at the same time.

    For those that are about to be stopped: one that is stopped in the middle of something (a
    launcher that still starts, say) might hold a lock that somebody else needs, or might have
    asked a stopped io worker for a page.
    """
    kids = list(children)
    rests = [Rest(child.pid) for child in kids]
    looks = itertools.count(1)

    def all_rest() -> bool:
        # All are asked at each look: asked one after the other they would hardly ever agree.
        found = [rest.has_come() for rest in rests]
        if next(looks) > _STRICT_LOOKS:
            # Where one look takes longer than a walwriter's nap it is never seen unmoved twice.
            return all(map(_is_asleep, kids))
        return False not in found

    cluster.wait_for("all children to rest", all_rest)


def _is_asleep(child: Child) -> bool:
    stat = read_stat(child.pid)
    return stat is None or stat.state == "S"


class Frozen:
    """All children but the logger, stopped; a context manager that lets them go."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.children = [kid for kid in cluster.children() if kid.kind is not Kind.LOGGER]
        running = [kid for kid in self.children if kid.state is not RunState.STOPPED]
        expect_rest(cluster, running)
        for child in running:
            self._stop(child)
        cluster.at_end.append(self.thaw)
        self._held = True
        cluster.wait_for("all children to be stopped", self._all_stopped)
        # What has brought the state about may be half done: the line that tells of it comes
        # before the signals or after them, and whoever has ended was seen before the postmaster
        # took notice of it.
        cluster.wait_for("the postmaster to rest", Rest(cluster.pid).has_come)
        self._before = {child.key: orders_pending(child) for child in self.children}

    def _stop(self, child: Child) -> None:
        try:
            self.cluster.signal_child(child, signal.SIGSTOP)
        except AssertionError as problem:
            raise Inconclusive(f"{child} stopped", "it had ended before") from problem

    def _all_stopped(self) -> bool:
        now = {kid.key: kid for kid in self.cluster.watcher.kids}
        for child in self.children:
            kid = now.get(child.key)
            if kid is None or not kid.is_alive:
                raise Inconclusive(f"{child} stopped", "it had ended before it could be stopped")
            if kid.state is not RunState.STOPPED:
                return False
        return True

    def told(self) -> dict[Child, Signals]:
        """What each child that is still there has been sent since it was stopped."""
        there = {kid.key for kid in self.cluster.watcher.kids if kid.is_alive}
        return {
            child: orders_pending(child) - self._before[child.key]
            for child in self.children
            if child.key in there
        }

    def already_told(self) -> dict[Child, Signals]:
        """What waited for each when all were stopped; only who was stopped before has any."""
        return {child: self._before[child.key] for child in self.children}

    def let_go(self, child: Child) -> None:
        """CONT to one of them."""
        self._continue(child)
        self.children.remove(child)

    def thaw(self) -> None:
        """CONT to all that are left."""
        if not self._held:
            return
        self._held = False
        there = {kid.key for kid in self.cluster.watcher.look().kids if kid.is_alive}
        for child in self.children:
            if child.key in there:
                self._continue(child)

    def _continue(self, child: Child) -> None:
        self.cluster.watcher.stimulus(SignalChild(child, signal.SIGCONT))
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGCONT)

    def __enter__(self) -> Frozen:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.thaw()
