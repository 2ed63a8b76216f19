"""Holding a server in one state from outside, by stopping the child that it waits for.

Begin with   Pin, then the recipes `pin_...` in the order of a shutdown.
Owns         rules OB-02 and OB-05 to OB-12 as context managers. Each confirms by evidence that
             the state has been entered before it hands over.
Leaves out   archive_command and walsenders (they come with those processes).
Source       PR-28: a stopped process stays in its place and every wait that includes it waits.

TERM and QUIT stay pending in a stopped process, KILL works. In a crash or after an immediate
request the SIGKILL round ends every pin after five seconds (SL-05).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from types import TracebackType

from pglife_conformance.base import deadlines
from pglife_conformance.base.failures import Expectation, Inconclusive
from pglife_conformance.base.refusals import IN_RECOVERY_MODE
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import Session
from pglife_conformance.events import FAST, SMART, LimitForks, ShutdownMode, SignalChild
from pglife_conformance.expect.children import io_worker_number
from pglife_conformance.expect.crash import was_too_slow
from pglife_conformance.observation.kinds import Kind, as_kind, kind_of_title
from pglife_conformance.observation.processes import (
    Child,
    RunState,
    children_of,
    read_stat,
    read_title,
)
from pglife_conformance.observation.rest import Rest

_STARTUP_ATTEMPTS = 12
_STARTUP_PAUSE_S = 0.0003
_PADDING_FILES = 3000
_ARCHIVE_HOLD = "pglife_hold_archive"


class Pin:
    """A child held with SIGSTOP; released at the end of the block or of the scenario."""

    def __init__(self, cluster: Cluster, child: Child | Kind | str) -> None:
        self.cluster = cluster
        if not isinstance(child, Child):
            is_io_worker = as_kind(child) is Kind.IO_WORKER
            child = idle_io_worker(cluster) if is_io_worker else cluster.child(child)
            _let_rest(cluster, child)
        self.child = cluster.signal_child(child, signal.SIGSTOP)
        self.client: Session | None = None
        """Whose child it is, where a recipe knows it."""
        self._held = True
        cluster.at_end.append(self.release)
        self._confirm()

    def _confirm(self) -> None:
        def stopped() -> Child | None:
            kids = self.cluster.watcher.kids
            return next((kid for kid in kids if kid.key == self.child.key and _is_still(kid)), None)

        found = self.cluster.wait_for(f"{self.child} to be stopped", stopped)
        if found.state is not RunState.STOPPED:
            raise Inconclusive(f"{self.child} stopped", "it had ended before it could be stopped")

    def release(self) -> None:
        """CONT; nothing if it has ended or been released before."""
        if not self._held:
            return
        self._held = False
        if self.is_there():
            self.cluster.watcher.stimulus(SignalChild(self.child, signal.SIGCONT))
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.child.pid, signal.SIGCONT)

    def is_there(self) -> bool:
        """The child has not ended yet."""
        kids = self.cluster.watcher.look().kids
        return any(kid.key == self.child.key and kid.is_alive for kid in kids)

    def __enter__(self) -> Pin:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _let_rest(cluster: Cluster, child: Child) -> None:
    """Wait until it sleeps, if it does: stopped in the middle of its own start, say, it might hold
    a lock that somebody else needs."""
    rest = Rest(child.pid)

    def is_quiet() -> bool:
        stat = read_stat(child.pid)
        return rest.has_come() or (stat is not None and stat.state in "Tt")

    with contextlib.suppress(Expectation):
        cluster.wait_for(f"{child} to rest", is_quiet)


def idle_io_worker(cluster: Cluster) -> Child:
    """The io worker that is least likely to be given work: the one of the highest number.

    Work goes to the lowest idle one. If it is stopped with a read of somebody's in hand, that
    process waits for it, and a shutdown waits for that process in an earlier state.
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
    mark = cluster.mark()
    with cluster.session() as session:
        cluster.request_shutdown(SMART)
        cluster.expect_log("^received smart shutdown request$", since=mark)
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
    with archiving switches the segment (SH-17). Gives the archiver, which is not stopped itself.
    """
    archiver = cluster.child(Kind.ARCHIVER)
    hold = cluster.write_file(_ARCHIVE_HOLD)

    def let_go() -> None:
        hold.unlink(missing_ok=True)

    cluster.at_end.append(let_go)
    cluster.session().query("create table pglife_something_to_archive ()")
    mark = cluster.mark()
    cluster.request_shutdown(mode)
    cluster.wait_for(
        "the archiver's command under way after the shutdown checkpoint",
        lambda: _is_archiving(cluster, archiver) and _has_checkpointed(cluster, mark),
        deadlines.SHUTDOWN_LIMIT,
    )
    if cluster.target.version.major >= 18:
        cluster.expect_pmstate("PM_WAIT_XLOG_ARCHIVAL")
    yield archiver
    let_go()


def _is_archiving(cluster: Cluster, archiver: Child) -> bool:
    kids = cluster.watcher.kids
    return any(kid.key == archiver.key and "archiving" in kid.title for kid in kids)


def _has_checkpointed(cluster: Cluster, mark: int) -> bool:
    """After its checkpoint it has ended (≤17) or waits for USR2 (18)."""
    if cluster.target.version.major < 18:
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
    with (
        pin_wait_io_workers(cluster, mode) as io_worker,
        Pin(cluster, Kind.CHECKPOINTER) as pin,
    ):
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
                "nobody but the stopped dead-end child and the logger",
                lambda: _nobody_but(cluster, pin.child),
                deadlines.SHUTDOWN_LIMIT,
            )
            if cluster.target.version.major >= 18:
                cluster.expect_pmstate("PM_WAIT_DEAD_END")
            yield pin


# Crashes. The clock of five seconds runs.


@contextlib.contextmanager
def pin_wait_backends_after_crash(
    cluster: Cluster, victim: Child | Kind | str = Kind.BACKGROUND_WRITER
) -> Iterator[Pin]:
    """OB-07: PM_WAIT_BACKENDS after a crash of `victim`, held by a stopped session."""
    session = cluster.session()
    with Pin(cluster, session.child) as pin:
        mark = cluster.mark()
        cluster.crash(victim)
        cluster.expect_log("terminating any other active server processes", since=mark)
        _expect_in_time(cluster, mark)
        yield pin


@contextlib.contextmanager
def pin_wait_dead_end_after_crash(
    cluster: Cluster, victim: Child | Kind | str = Kind.BACKGROUND_WRITER
) -> Iterator[Pin]:
    """PM_WAIT_DEAD_END after a crash, held by a stopped dead-end child (OB-12 and OB-07).

    The dead-end child comes from a silent client that is refused: a smart shutdown must not be
    pending, so the refusal is that of a crash that is already being waited out.
    """
    mark = cluster.mark()
    with pin_wait_backends_after_crash(cluster, victim) as backend:
        dead_end = cluster.silent_client()
        with Pin(cluster, dead_end.child) as pin:
            pin.client = dead_end
            backend.release()
            cluster.wait_for(
                "nobody but the stopped dead-end child and the logger",
                lambda: _nobody_but(cluster, pin.child) or was_too_slow(cluster, mark),
            )
            _expect_in_time(cluster, mark)
            yield pin


def _expect_in_time(cluster: Cluster, mark: int) -> None:
    """Whom the round has killed is not held; that is the machine's doing and not the server's."""
    if was_too_slow(cluster, mark):
        raise Inconclusive(
            "a child held after a crash", "the five seconds of SL-05 were over first"
        )


@contextlib.contextmanager
def pin_startup(cluster: Cluster, victim: Kind | str = Kind.BACKGROUND_WRITER) -> Iterator[Pin]:
    """OB-02: PM_STARTUP after a crash, held by the startup process stopped as it appears.

    Ordinarily that process lives for some milliseconds only. With fsync on it looks at every
    file of the data directory before it reports anything, so many files make it linger. If it
    was missed or had already reported redo, the server is crashed again; Inconclusive if it is
    missed every time.
    """
    _make_startup_linger(cluster)
    for _ in range(_STARTUP_ATTEMPTS):
        mark = cluster.mark()
        old = {kid.pid for kid in cluster.children()}
        # No waiting for its end: that takes longer than the process lives that we are after.
        cluster.signal_child(victim, signal.SIGKILL)
        pin = _catch_startup(cluster, old)
        if pin is None:
            cluster.expect_ready(since=mark)
            continue
        with pin:
            yield pin
        return
    raise Inconclusive(
        "the startup process stopped before it reports redo",
        f"it was missed {_STARTUP_ATTEMPTS} times",
    )


def _make_startup_linger(cluster: Cluster) -> None:
    padding = cluster.data / "pglife_padding"
    if not padding.exists():
        padding.mkdir()
        cluster.target.user.owns(padding)
        for number in range(_PADDING_FILES):
            path = padding / str(number)
            path.touch()
            cluster.target.user.owns(path)
    mark = cluster.mark()
    cluster.reload(fsync=True)
    cluster.expect_log("^received SIGHUP, reloading configuration files$", since=mark)


def _catch_startup(cluster: Cluster, old: set[int]) -> Pin | None:
    """Stop it the moment its title is seen; None if it was missed."""
    pid = _stop_at_sight(cluster, old)
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


def _stop_at_sight(cluster: Cluster, old: set[int]) -> int | None:
    """A look at nothing but titles, for milliseconds count; the recorders hear of it later."""
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
    """Whether it had reported redo before it was stopped.

    A client is asked and not the log: whatever the process has reported, the postmaster has
    handled before it gets to a client that comes afterwards (SL-01), its log line included.
    """
    return cluster.refusal_of_new_client().message != IN_RECOVERY_MODE


# Forks that fail.


@contextlib.contextmanager
def pin_fork_failure(cluster: Cluster) -> Iterator[None]:
    """OB-13: every fork of the postmaster fails, by its limit of processes."""
    user, pid = cluster.target.user, cluster.pid

    def give_back() -> None:
        user.limit_processes(pid, None)

    cluster.at_end.append(give_back)
    cluster.watcher.stimulus(LimitForks(0))
    if not user.limit_processes(pid, 0):
        raise Inconclusive("a limit of processes for the postmaster", "it could not be set")
    try:
        yield
    finally:
        cluster.watcher.stimulus(LimitForks(None))
        give_back()


# The postmaster itself.


class StoppedPostmaster:
    """The postmaster held with STOP, so that several things come to it at the same time."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def __enter__(self) -> None:
        self.cluster.signal_postmaster(signal.SIGSTOP)
        self.cluster.wait_for("the postmaster to be stopped", self._is_stopped)

    def __exit__(self, *_: object) -> None:
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
    """By the state's name where the log tells it, else by who has gone."""

    def gone() -> bool:
        return not any(child.kind in kinds_gone for child in cluster.children())

    names = ", ".join(sorted(kind.value for kind in kinds_gone))
    cluster.wait_for(f"the end of {names}", gone, deadlines.SHUTDOWN_LIMIT)
    if cluster.target.version.major >= 18:
        cluster.expect_pmstate(pmstate)


def _nobody_but(cluster: Cluster, child: Child) -> bool:
    others = [kid for kid in cluster.watcher.look().kids if kid.kind is not Kind.LOGGER]
    return [kid.key for kid in others] == [child.key]


def pinned_session(cluster: Cluster) -> tuple[Session, Pin]:
    """A session and a pin that holds its backend; both end with the scenario."""
    session = cluster.session()
    return session, Pin(cluster, session.child)
