"""Holding a server in one state from outside, by stopping the child that it waits for.

Begin with Pin, then the recipes `pin_...`, in the order of a shutdown: rules OB-02 and OB-05 to
OB-12 as context managers. Each one confirms by evidence that the state has been entered.

SIGTERM and SIGQUIT stay pending in a stopped process; SIGKILL kills it. In a crash or after an
immediate request the SIGKILL round ends every pin after five seconds (SL-05).

Source: PR-28.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator

from pglife_conformance.base import deadlines
from pglife_conformance.base.failures import Expectation, Inconclusive
from pglife_conformance.base.ids import Pid
from pglife_conformance.base.refusals import IN_RECOVERY_MODE
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import Session
from pglife_conformance.events import FAST, SMART, LimitForks, ShutdownMode, SignalChild
from pglife_conformance.expect.children import io_worker_number
from pglife_conformance.expect.lines import TERMINATING
from pglife_conformance.expect.since import Since
from pglife_conformance.hold.held import Held
from pglife_conformance.observation.idle import IdleProbe
from pglife_conformance.observation.kinds import Kind, as_kind, kind_of_title
from pglife_conformance.observation.processes import (
    Child,
    RunState,
    children_of,
    read_stat,
    read_title,
)

_STARTUP_ATTEMPTS = 12
_STARTUP_PAUSE_S = 0.0003
_PADDING_FILES = 3000
_ARCHIVE_HOLD = "pglife_hold_archive"


class Pin(Held):
    """A child stopped with SIGSTOP.

    Args:
        cluster: the cluster.
        child: the child, stopped at once; or a kind, of which an idle child is stopped.

    Raises:
        Inconclusive: the child exited before it could be stopped.
    """

    def __init__(self, cluster: Cluster, child: Child | Kind | str) -> None:
        if not isinstance(child, Child):
            is_io_worker = as_kind(child) is Kind.IO_WORKER
            child = idle_io_worker(cluster) if is_io_worker else cluster.child(child)
            _let_fall_idle(cluster, child)
        self.child = cluster.signal_child(child, signal.SIGSTOP)
        self.client: Session | None = None
        """The client of the child, where a recipe knows it."""
        super().__init__(cluster)
        self._confirm()

    def _confirm(self) -> None:
        def stopped() -> Child | None:
            kids = self.cluster.watcher.kids
            return next((kid for kid in kids if kid.key == self.child.key and _is_still(kid)), None)

        found = self.cluster.wait_for(f"{self.child} to be stopped", stopped)
        if found.state is not RunState.STOPPED:
            raise Inconclusive(f"{self.child} stopped", "it had exited before it could be stopped")

    def is_there(self) -> bool:
        """Whether the child has not exited."""
        kids = self.cluster.watcher.look().kids
        return any(kid.key == self.child.key and kid.is_alive for kid in kids)

    def _release(self) -> None:
        if self.is_there():
            self.cluster.watcher.stimulus(SignalChild(self.child, signal.SIGCONT))
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.child.pid, signal.SIGCONT)


def _let_fall_idle(cluster: Cluster, child: Child) -> None:
    """Wait until the child is idle, if it ever is.

    One that is stopped while it starts, say, might hold a lock that another process needs.
    """
    probe = IdleProbe(child.pid)

    def is_quiet() -> bool:
        stat = read_stat(child.pid)
        return probe.is_idle() or (stat is not None and stat.state in "Tt")

    with contextlib.suppress(Expectation):
        cluster.wait_for(f"{child} to be idle", is_quiet)


def idle_io_worker(cluster: Cluster) -> Child:
    """The io worker that is least likely to be given work: the one with the highest number.

    Work goes to the idle worker with the lowest number. If a worker is stopped during a read,
    the process that has asked for it waits, and a shutdown waits for that process in an earlier
    state.
    """

    def the_last() -> Child | None:
        numbers = {kid: io_worker_number(kid) for kid in cluster.children(Kind.IO_WORKER)}
        known = {number: kid for kid, number in numbers.items() if number is not None}
        return known[max(known)] if known and len(known) == len(numbers) else None

    return cluster.wait_for("io workers with their numbers", the_last)


def _is_still(child: Child) -> bool:
    return child.state in (RunState.STOPPED, RunState.ZOMBIE)


# Shutdowns.


@contextlib.contextmanager
def pin_smart_pending(cluster: Cluster) -> Iterator[Session]:
    """OB-05: PM_RUN with a smart shutdown pending, held by a session."""
    with cluster.session() as session:
        cluster.request_shutdown(SMART, logged=True)
        yield session


@contextlib.contextmanager
def pin_wait_backends(cluster: Cluster, mode: ShutdownMode = FAST) -> Iterator[Pin]:
    """OB-06: PM_WAIT_BACKENDS in a shutdown, held by a stopped session."""
    session = cluster.session()
    with Pin(cluster, session.child) as pin:
        cluster.request_shutdown(mode)
        _confirm(cluster, "PM_WAIT_BACKENDS", kinds_gone={Kind.BACKGROUND_WRITER, Kind.WALWRITER})
        yield pin


@contextlib.contextmanager
def pin_wait_xlog_shutdown(cluster: Cluster, mode: ShutdownMode = FAST) -> Iterator[Pin]:
    """OB-08: PM_WAIT_XLOG_SHUTDOWN (≤17 PM_SHUTDOWN), held by the stopped checkpointer."""
    with Pin(cluster, Kind.CHECKPOINTER) as pin:
        cluster.request_shutdown(mode)
        _confirm(cluster, "PM_WAIT_XLOG_SHUTDOWN", kinds_gone=_TERM_SET)
        yield pin


ARCHIVER_HELD = {
    "archive_mode": "on",
    "archive_command": f"while test -e {_ARCHIVE_HOLD}; do sleep 0.02; done",
}
"""Settings of a cluster for pin_wait_xlog_archival: `@settings(**ARCHIVER_HELD)`."""


@contextlib.contextmanager
def pin_wait_xlog_archival(cluster: Cluster, mode: ShutdownMode = FAST) -> Iterator[Child]:
    """OB-09: PM_WAIT_XLOG_ARCHIVAL (≤17 PM_SHUTDOWN_2), held by an archive_command that sleeps.

    The cluster has the settings ARCHIVER_HELD. There is something to archive because a shutdown
    with archiving switches the segment (SH-17). Yields the archiver, which is not stopped itself.
    """
    archiver = cluster.child(Kind.ARCHIVER)
    hold = cluster.write_file(_ARCHIVE_HOLD)

    def release() -> None:
        hold.unlink(missing_ok=True)

    cluster.at_end.append(release)
    cluster.session().query("create table pglife_something_to_archive ()")
    cluster.request_shutdown(mode)
    cluster.wait_for(
        "the archiver's command under way after the shutdown checkpoint",
        lambda: _is_archiving(cluster, archiver) and _has_checkpointed(cluster),
        deadlines.SHUTDOWN_LIMIT,
    )
    if cluster.major >= 18:
        cluster.expect_pmstate("PM_WAIT_XLOG_ARCHIVAL")
    yield archiver
    release()


def _is_archiving(cluster: Cluster, archiver: Child) -> bool:
    kids = cluster.watcher.kids
    return any(kid.key == archiver.key and "archiving" in kid.title for kid in kids)


def _has_checkpointed(cluster: Cluster) -> bool:
    """After its checkpoint the checkpointer has exited (≤17) or waits for SIGUSR2 (18)."""
    if cluster.major < 18:
        return not any(kid.kind is Kind.CHECKPOINTER for kid in cluster.watcher.kids)
    return cluster.pmstate() == "PM_WAIT_XLOG_ARCHIVAL"


@contextlib.contextmanager
def pin_wait_io_workers(cluster: Cluster, mode: ShutdownMode = FAST) -> Iterator[Pin]:
    """OB-10: PM_WAIT_IO_WORKERS (18), held by a stopped io worker."""
    with Pin(cluster, Kind.IO_WORKER) as pin:
        cluster.request_shutdown(mode)
        cluster.expect_pmstate("PM_WAIT_IO_WORKERS")
        yield pin


@contextlib.contextmanager
def pin_wait_checkpointer(cluster: Cluster, mode: ShutdownMode = FAST) -> Iterator[Pin]:
    """OB-11: PM_WAIT_CHECKPOINTER (18), held by the checkpointer stopped after its checkpoint."""
    with pin_wait_io_workers(cluster, mode) as io_worker, Pin(cluster, Kind.CHECKPOINTER) as pin:
        io_worker.release()
        cluster.expect_pmstate("PM_WAIT_CHECKPOINTER")
        yield pin


@contextlib.contextmanager
def pin_wait_dead_end(cluster: Cluster, mode: ShutdownMode = FAST) -> Iterator[Pin]:
    """OB-12: PM_WAIT_DEAD_END in a shutdown, held by a stopped dead-end child."""
    with pin_wait_backends(cluster, mode) as backend:
        dead_end = cluster.silent_client()
        with Pin(cluster, dead_end.child) as pin:
            pin.client = dead_end
            backend.release()
            cluster.wait_for(
                "no child but the stopped dead-end child and the logger",
                lambda: _is_alone(cluster, pin.child),
                deadlines.SHUTDOWN_LIMIT,
            )
            if cluster.major >= 18:
                cluster.expect_pmstate("PM_WAIT_DEAD_END")
            yield pin


# Crashes. The SIGKILL timeout of five seconds runs.


@contextlib.contextmanager
def pin_wait_backends_after_crash(
    cluster: Cluster, victim: Child | Kind | str = Kind.BACKGROUND_WRITER
) -> Iterator[Pin]:
    """OB-07: PM_WAIT_BACKENDS after a crash of `victim`, held by a stopped session."""
    session = cluster.session()
    with Pin(cluster, session.child) as pin:
        then = cluster.since()
        cluster.crash(victim)
        then.expect_line(TERMINATING)
        _expect_in_time(then)
        yield pin


@contextlib.contextmanager
def pin_wait_dead_end_after_crash(
    cluster: Cluster, victim: Child | Kind | str = Kind.BACKGROUND_WRITER
) -> Iterator[Pin]:
    """PM_WAIT_DEAD_END after a crash, held by a stopped dead-end child (OB-12 and OB-07).

    The dead-end child is forked for a silent client while the crash is already being handled.
    """
    then = cluster.since()
    with pin_wait_backends_after_crash(cluster, victim) as backend:
        dead_end = cluster.silent_client()
        with Pin(cluster, dead_end.child) as pin:
            pin.client = dead_end
            backend.release()
            cluster.wait_for(
                "no child but the stopped dead-end child and the logger",
                lambda: _is_alone(cluster, pin.child) or then.was_too_slow(),
            )
            _expect_in_time(then)
            yield pin


def _expect_in_time(then: Since) -> None:
    """On an overloaded machine the SIGKILL round may end a pin before it is confirmed."""
    if then.was_too_slow():
        raise Inconclusive(
            "a child held after a crash", "the five seconds of SL-05 were over first"
        )


@contextlib.contextmanager
def pin_startup(cluster: Cluster, victim: Kind | str = Kind.BACKGROUND_WRITER) -> Iterator[Pin]:
    """OB-02: PM_STARTUP after a crash, held by the startup process stopped as it appears.

    That process lives for some milliseconds only. With fsync on it looks at every file of the
    data directory before it reports anything, so many files make it last longer. If it was missed
    or had already reported redo, the server is crashed again.

    Raises:
        Inconclusive: it was missed every time.
    """
    _prolong_startup(cluster)
    for _ in range(_STARTUP_ATTEMPTS):
        then = cluster.since()
        old = {kid.pid for kid in cluster.children()}
        # Not crash(): the wait for the victim's end takes longer than the startup process lives.
        cluster.signal_child(victim, signal.SIGKILL)
        pin = _catch_startup(cluster, old)
        if pin is None:
            then.expect_ready()
            continue
        with pin:
            yield pin
        return
    raise Inconclusive(
        "the startup process stopped before it reports redo",
        f"it was missed {_STARTUP_ATTEMPTS} times",
    )


def _prolong_startup(cluster: Cluster) -> None:
    padding = cluster.data / "pglife_padding"
    if not padding.exists():
        padding.mkdir()
        cluster.target.user.chown(padding)
        for number in range(_PADDING_FILES):
            path = padding / str(number)
            path.touch()
            cluster.target.user.chown(path)
    cluster.reload_and_wait(fsync=True)


def _catch_startup(cluster: Cluster, old: set[Pid]) -> Pin | None:
    """Stop the startup process when its title appears; None if it was missed."""
    pid = stop_startup(cluster, old)
    child = next((kid for kid in cluster.children(Kind.STARTUP) if kid.pid == pid), None)
    if child is None:
        return None
    try:
        pin = Pin(cluster, child)
    except Expectation:
        return None
    if _is_past_startup(cluster):
        pin.release()
        return None
    return pin


def stop_startup(cluster: Cluster, old: set[Pid]) -> Pid | None:
    """Send SIGSTOP to the first startup process that is not among `old`, and return its pid.

    Reads nothing but titles, for milliseconds count; recorders see the process at the next look.
    None if the server has got past recovery, or after a deadline.
    """
    until = time.monotonic() + deadlines.CRASH_RESTART_LIMIT * cluster.scale
    seen = set(old)
    while time.monotonic() < until:
        for pid in children_of(cluster.pid):
            kind = Kind.UNKNOWN if pid in seen else kind_of_title(read_title(pid))
            if kind is Kind.STARTUP:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
                    return pid
            if kind is Kind.WALWRITER:
                return None
            if kind is not Kind.UNKNOWN:
                seen.add(pid)
        time.sleep(_STARTUP_PAUSE_S)
    return None


def _is_past_startup(cluster: Cluster) -> bool:
    """Whether the startup process had reported redo before it was stopped.

    A client's refusal shows it and not the log: whatever the process had reported, the postmaster
    handles before it accepts a later client (SL-01).
    """
    return cluster.refusal_of_new_client().message != IN_RECOVERY_MODE


# Forks that fail.


@contextlib.contextmanager
def pin_fork_failure(cluster: Cluster) -> Iterator[None]:
    """OB-13: every fork of the postmaster fails, by its limit of processes."""
    user, pid = cluster.target.user, cluster.pid

    def lift() -> None:
        user.limit_processes(pid, None)

    cluster.at_end.append(lift)
    cluster.watcher.stimulus(LimitForks(0))
    if not user.limit_processes(pid, 0):
        raise Inconclusive("a limit of processes for the postmaster", "it could not be set")
    try:
        yield
    finally:
        cluster.watcher.stimulus(LimitForks(None))
        lift()


# The postmaster itself.


class StoppedPostmaster(Held):
    """The postmaster stopped with SIGSTOP, so that it finds several events at once."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        cluster.signal_postmaster(signal.SIGSTOP)
        cluster.wait_for("the postmaster to be stopped", self._is_stopped)

    def _release(self) -> None:
        self.cluster.signal_postmaster(signal.SIGCONT)

    def _is_stopped(self) -> bool:
        stat = read_stat(self.cluster.pid)
        return stat is not None and stat.state in "Tt"


# Evidence.

_TERM_SET = frozenset(
    {
        Kind.BACKGROUND_WRITER,
        Kind.WALWRITER,
        Kind.AUTOVACUUM_LAUNCHER,
        Kind.LOGICAL_REPLICATION_LAUNCHER,
        Kind.CLIENT_BACKEND,
    }
)


def _confirm(cluster: Cluster, pmstate: str, *, kinds_gone: set[Kind] | frozenset[Kind]) -> None:
    """Wait for the state: by the log since 18, else until these kinds have exited."""
    names = ", ".join(sorted(kind.value for kind in kinds_gone))
    cluster.wait_for(
        f"the end of {names}",
        lambda: not any(child.kind in kinds_gone for child in cluster.children()),
        deadlines.SHUTDOWN_LIMIT,
    )
    if cluster.major >= 18:
        cluster.expect_pmstate(pmstate)


def _is_alone(cluster: Cluster, child: Child) -> bool:
    others = [kid for kid in cluster.watcher.look().kids if kid.kind is not Kind.LOGGER]
    return [kid.key for kid in others] == [child.key]
