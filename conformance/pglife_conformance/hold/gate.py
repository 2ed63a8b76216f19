"""PM_STARTUP held for as long as one likes: the startup process waits at a gate.

Begin with   pin_startup_at_birth(), pin_startup_after_crash().
Owns         the gate: a FIFO in place of the file in which replication origins were saved. The
             startup process opens it before it reports redo and waits there for a writer.
Leaves out   targets whose startup process reads no such file: there it is caught by STOP as it
             appears (pins.py).
Source       OB-01, OB-02; replication/logical/origin.c: StartupReplicationOrigin().

Unlike a restore_command that sleeps, waiting in open(2) ignores no signal (SG-44) and makes no
archive recovery. Like every process, one that waits there can be stopped with STOP on top.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import SupportsIndex

from pglife_conformance.base import deadlines
from pglife_conformance.base.failures import Expectation, Inconclusive
from pglife_conformance.base.needs import Need
from pglife_conformance.base.refusals import STARTING_UP
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import FAST
from pglife_conformance.hold.pin import Pin, _stop_at_sight, pin_startup
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child, read_stat

_ATTEMPTS = 12

_NO_ORIGINS = bytes.fromhex("deda571236b2006a")
"""The file's magic word and its checksum, with no origin between them."""


class StartupGate:
    """Closed from the beginning; opened at the end of the scenario at the latest."""

    def __init__(self, cluster: Cluster) -> None:
        self._path = cluster.data / "pg_logical" / "replorigin_checkpoint"
        self._path.unlink(missing_ok=True)
        os.mkfifo(self._path, 0o600)
        cluster.target.user.owns(self._path)
        self._cluster = cluster
        self._writer = -1
        cluster.at_end += [self._close, self.open]

    def wait_for_startup(self, since: SupportsIndex) -> Child:
        """The startup process that has arrived at the gate since this mark."""
        child = self._cluster.child(Kind.STARTUP, within=deadlines.START_LIMIT)

        def is_here() -> bool:
            records = self._cluster.log(since)
            has_said_so = any(
                record.pid == child.pid and "replication origin progress" in record.message
                for record in records
            )
            # It says so on its way; what holds it is open(2), in which it sleeps.
            stat = read_stat(child.pid)
            return has_said_so and stat is not None and stat.state in "ST"

        self._cluster.wait_for(f"{child} at the gate", is_here, deadlines.START_LIMIT)
        return child

    def wait_for_somebody(self) -> None:
        """Until the log says that a startup process has arrived, whosever child it is."""
        self._cluster.expect_log(_AT_THE_GATE, within=deadlines.START_LIMIT)

    def open(self) -> None:
        """Let the startup process pass, and every one after it."""
        if not self._path.is_fifo():
            return
        # For reading too: that never waits, and whoever stands at the gate or comes now goes
        # through it, whether we find a reader there or not.
        self._writer = os.open(self._path, os.O_RDWR | os.O_NONBLOCK)
        self._path.unlink()
        # It stays open: who has found the file but not yet joined its pipe would wait for ever.
        os.write(self._writer, _NO_ORIGINS)

    def _close(self) -> None:
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1


_AT_THE_GATE = "^starting up replication origin progress state$"


def has_gate(cluster: Cluster) -> bool:
    """Whether the target's startup process reads that file."""
    return Need.STARTUP_GATE in cluster.target.capabilities


@contextlib.contextmanager
def pin_startup_at_birth(cluster: Cluster) -> Iterator[Pin]:
    """OB-01: PM_STARTUP of a first start; `cluster` is not running."""
    if not has_gate(cluster):
        with _caught_at_birth(cluster) as pin:
            yield pin
        return
    gate = StartupGate(cluster)
    mark = cluster.mark()
    cluster.start(wait=False)
    with Pin(cluster, gate.wait_for_startup(mark)) as pin:
        yield pin
        gate.open()


@contextlib.contextmanager
def pin_startup_after_crash(
    cluster: Cluster, victim: Kind | str = Kind.BACKGROUND_WRITER
) -> Iterator[Pin]:
    """OB-02: PM_STARTUP after a crash, FatalError set."""
    if not has_gate(cluster):
        with pin_startup(cluster, victim) as pin:
            yield pin
        return
    gate = StartupGate(cluster)
    mark = cluster.mark()
    cluster.crash(victim)
    cluster.expect_log("^all server processes terminated; reinitializing$", since=mark)
    with Pin(cluster, gate.wait_for_startup(mark)) as pin:
        yield pin
        gate.open()


def _caught_at_birth(cluster: Cluster) -> Pin:
    """The startup process of a start, stopped as it appears; tried again if it was missed."""
    for _ in range(_ATTEMPTS):
        mark = cluster.mark()
        cluster.start(wait=False)
        pin = _catch(cluster)
        if pin is not None:
            return pin
        cluster.expect_ready(since=mark)
        cluster.request_shutdown(FAST)
        cluster.expect_exit(code=0)
    raise Inconclusive("the startup process stopped as it appears", f"missed {_ATTEMPTS} times")


def _catch(cluster: Cluster) -> Pin | None:
    pid = _stop_at_sight(cluster, set())
    child = next((kid for kid in cluster.children(Kind.STARTUP) if kid.pid == pid), None)
    if child is None:
        return None
    try:
        pin = Pin(cluster, child)
    except Expectation:
        return None
    if cluster.refusal_of_new_client().message != STARTING_UP:
        pin.release()
        return None
    return pin
