"""PM_STARTUP held for any time: the startup process waits at a barrier.

Begin with pin_startup_at_birth() and pin_startup_after_crash(). The barrier is a FIFO in place of
the file in which replication origins were saved: the startup process opens it before it reports
redo, and open(2) blocks until there is a writer. Where the target's startup process reads no such
file, it is stopped as it appears (pin.py).

A restore_command that sleeps would do as well, but makes an archive recovery and ignores signals
(SG-44). A process that waits at the barrier can be stopped with SIGSTOP like any other.

Source: OB-01, OB-02; replication/logical/origin.c: StartupReplicationOrigin().
"""

import contextlib
import os
from collections.abc import Iterator

from pglife_conformance.base import deadlines
from pglife_conformance.base.failures import Expectation, Inconclusive
from pglife_conformance.base.needs import Need
from pglife_conformance.base.refusals import STARTING_UP
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.expect.excerpt import Excerpt
from pglife_conformance.expect.lines import REINITIALIZING
from pglife_conformance.hold.pin import Pin, pin_startup, stop_startup
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child, read_stat

_ATTEMPTS = 12

_NO_ORIGINS = bytes.fromhex("deda571236b2006a")
"""The file's magic word and its checksum, with no origin between them."""
_WAITS_HERE = "^starting up replication origin progress state$"


class StartupBarrier:
    """Closed from the beginning; opened at the end of the scenario at the latest."""

    def __init__(self, cluster: Cluster) -> None:
        self._path = cluster.data / "pg_logical" / "replorigin_checkpoint"
        self._path.unlink(missing_ok=True)
        os.mkfifo(self._path, 0o600)
        cluster.target.user.chown(self._path)
        self._cluster = cluster
        self._writer = -1
        cluster.at_end += [self._close, self.open]

    def wait_for_startup(self, then: Excerpt | None = None) -> Child:
        """Wait until a startup process waits at the barrier, and return it.

        Args:
            then: since when it must have logged its arrival; by default ever.
        """
        child = self._cluster.child(Kind.STARTUP, within=deadlines.START_LIMIT)
        log = self._cluster.all_log() if then is None else then

        def waits() -> bool:
            # It logs its arrival a moment before; what blocks it is open(2), in which it sleeps.
            stat = read_stat(child.pid)
            has_arrived = bool(log.log(pid=child.pid, matching="replication origin progress"))
            return has_arrived and stat is not None and stat.state in "ST"

        self._cluster.wait_for(f"{child} at the barrier", waits, deadlines.START_LIMIT)
        return child

    def wait_for_log(self) -> None:
        """Wait until a startup process has logged its arrival, even one of another postmaster."""
        self._cluster.all_log().expect_log(_WAITS_HERE, within=deadlines.START_LIMIT)

    def open(self) -> None:
        """Let the startup process pass, and every later one."""
        if not self._path.is_fifo():
            return
        # For reading too: then open(2) blocks neither here nor in a startup process, whether it
        # waits already or opens the file now.
        self._writer = os.open(self._path, os.O_RDWR | os.O_NONBLOCK)
        self._path.unlink()
        # Left open: a process that has looked up the file but not yet opened it would block.
        os.write(self._writer, _NO_ORIGINS)

    def _close(self) -> None:
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1


def has_startup_barrier(cluster: Cluster) -> bool:
    """Whether the target's startup process reads that file."""
    return Need.STARTUP_BARRIER in cluster.target.capabilities


@contextlib.contextmanager
def pin_startup_at_birth(cluster: Cluster) -> Iterator[Pin]:
    """OB-01: PM_STARTUP of a first start; `cluster` is not running."""
    if not has_startup_barrier(cluster):
        with _caught_at_birth(cluster) as pin:
            yield pin
        return
    barrier = StartupBarrier(cluster)
    then = cluster.since()
    cluster.start(wait=False)
    with Pin(cluster, barrier.wait_for_startup(then)) as pin:
        yield pin
        barrier.open()


@contextlib.contextmanager
def pin_startup_after_crash(
    cluster: Cluster, victim: Kind | str = Kind.BACKGROUND_WRITER
) -> Iterator[Pin]:
    """OB-02: PM_STARTUP after a crash, FatalError set."""
    if not has_startup_barrier(cluster):
        with pin_startup(cluster, victim) as pin:
            yield pin
        return
    barrier = StartupBarrier(cluster)
    then = cluster.since()
    cluster.crash(victim)
    then.expect_line(REINITIALIZING)
    with Pin(cluster, barrier.wait_for_startup(then)) as pin:
        yield pin
        barrier.open()


def _caught_at_birth(cluster: Cluster) -> Pin:
    """The startup process of a start, stopped as it appears; the server starts again if missed."""
    for _ in range(_ATTEMPTS):
        then = cluster.since()
        cluster.start(wait=False)
        pin = _catch(cluster)
        if pin is not None:
            return pin
        then.expect_ready()
        cluster.stop()
    raise Inconclusive("the startup process stopped as it appears", f"missed {_ATTEMPTS} times")


def _catch(cluster: Cluster) -> Pin | None:
    pid = stop_startup(cluster, set())
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
