"""For which children a shutdown waits, and in which state; one child of each kind is stopped.

Source: rules SM-03, SM-04, SM-07, SM-09, TR18-12, TR18-21, TR18-24, TR18-26, CR-03, CR-06,
IO-08, SE-33; postmaster.c: PostmasterStateMachine(), HandleFatalError().
"""

import contextlib
import signal
import time
from collections.abc import Iterator

import pytest

from pglife_conformance.base import deadlines
from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.base.needs import CRASH, SIGNALS, Need
from pglife_conformance.base.overload import is_overloaded
from pglife_conformance.base.refusals import IN_RECOVERY_MODE, SHUTTING_DOWN
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.standby import stop, unconfirming_receiver, walsender
from pglife_conformance.events import FAST, IMMEDIATE, SMART, ShutdownMode
from pglife_conformance.expect.lines import (
    READY_LINE,
    REINITIALIZING,
    SIGKILL_ROUND,
    TERMINATING,
    killed_line,
)
from pglife_conformance.hold.pin import (
    Pin,
    pin_wait_backends,
    pin_wait_io_workers,
    pin_wait_xlog_shutdown,
)
from pglife_conformance.hold.startup_barrier import pin_startup_at_birth
from pglife_conformance.observation.control_file import ControlState
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child
from pglife_conformance.observation.signals import pending_signals
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.signals.test_sent_by_the_postmaster import (
    ALWAYS,
    expect_each_pending,
    expect_words,
)

MACHINE = "postmaster.c: PostmasterStateMachine()"
FATAL = "postmaster.c: HandleFatalError()"
NOT_WAITED_FOR = "before, they are not waited for in this state (SM-03)"

CAUSES = pytest.mark.parametrize("cause", ["crash", "immediate"])


@contextlib.contextmanager
def within_the_sigkill_timeout(cluster: Cluster) -> Iterator[None]:
    """The checks made here must finish before the stopped child is killed (SL-05).

    If an overloaded machine was too slow, they are inconclusive; an early round is a failure.
    """
    began, then = time.monotonic(), cluster.since()
    try:
        yield
    except Inconclusive:
        raise
    except (AssertionError, OSError) as problem:
        was_slow = time.monotonic() - began >= deadlines.SIGKILL_TIMEOUT - 1
        has_struck = then.find_log(f"^{SIGKILL_ROUND}$") is not None
        if was_slow and has_struck and is_overloaded():
            raise Inconclusive("a look within five seconds", f"too slow; {problem}") from problem
        raise


def expect_only(cluster: Cluster, child: Child) -> None:
    """Wait until only this child is left."""
    cluster.wait_for(
        f"no child but {child}", lambda: [kid.key for kid in cluster.watcher.kids] == [child.key]
    )


def expect_wait_backends_for(cluster: Cluster, child: Child, cause: str) -> None:
    """After a crash or an immediate request PM_WAIT_BACKENDS lasts until this child exits."""
    then = cluster.since()
    with Pin(cluster, child), within_the_sigkill_timeout(cluster):
        if cause == "crash":
            cluster.crash(Kind.BACKGROUND_WRITER)
            then.expect_log(f"^{TERMINATING}$")
        else:
            cluster.request_shutdown(IMMEDIATE, logged=True)
        expect_only(cluster, child)
        cluster.expect_idle()
        assert cluster.pmstate() == "PM_WAIT_BACKENDS"
        refusal = cluster.refusal_of_new_client()
        assert refusal.message == (IN_RECOVERY_MODE if cause == "crash" else SHUTTING_DOWN)
    if cause == "crash":
        then.expect_log(f"^{READY_LINE}$", within=deadlines.CRASH_RESTART_LIMIT)
        stop(cluster)
    else:
        cluster.expect_exit(code=0)


@claim("SM-03 TR18-21 TR18-10 SM-04", source=MACHINE, needs=CRASH, since=18, why=NOT_WAITED_FOR)
@CAUSES
@pytest.mark.parametrize("kind", [Kind.CHECKPOINTER, Kind.IO_WORKER], ids=str)
def test_children_quit_before_pm_wait_dead_end(cluster: Cluster, kind: Kind, cause: str) -> None:
    """After a crash and in an immediate shutdown PM_WAIT_BACKENDS waits for checkpointer and io
    workers, and clients are refused."""
    held = cluster.children(kind)[-1]
    expect_wait_backends_for(cluster, held, cause)


@claim(
    "SM-03 TR18-21 TR18-10",
    source=MACHINE,
    needs=[*CRASH, Need.ARCHIVER, Need.WALSENDER],
    since=18,
    why=NOT_WAITED_FOR,
)
@settings(archive_mode="on", archive_command="true")
@CAUSES
@pytest.mark.parametrize("kind", [Kind.ARCHIVER, Kind.WALSENDER], ids=str)
def test_archiver_and_walsender_quit_before_pm_wait_dead_end(
    cluster: Cluster, kind: Kind, cause: str
) -> None:
    """After a crash or an immediate request PM_WAIT_BACKENDS waits for archiver and walsender."""
    held = walsender(cluster).child if kind is Kind.WALSENDER else cluster.child(kind)
    expect_wait_backends_for(cluster, held, cause)


SENDERS = settings(wal_sender_timeout="0", wal_level="replica")


def expect_held_by_walsender(cluster: Cluster, sender: Child) -> None:
    """After the shutdown checkpoint the postmaster waits for this walsender alone."""
    keepers = {Kind.CHECKPOINTER, Kind.WALSENDER}
    modern = cluster.major >= 18
    if modern:
        cluster.expect_pmstate("PM_WAIT_XLOG_ARCHIVAL", deadlines.SHUTDOWN_LIMIT)
    wanted = keepers if modern else {Kind.WALSENDER}
    cluster.wait_for(
        "only the walsender and the children that exit last",
        lambda: {kid.kind for kid in cluster.children()} - {Kind.IO_WORKER} == wanted,
        deadlines.SHUTDOWN_LIMIT,
    )
    cluster.expect_idle()
    assert sender.key in {kid.key for kid in cluster.children()}
    assert cluster.is_running()
    if modern:
        assert cluster.pmstate() == "PM_WAIT_XLOG_ARCHIVAL"


@claim("SM-07 TR18-24 TR18-26 SM-21 SH-20", source=MACHINE, needs=[*SIGNALS, Need.WALSENDER])
@SENDERS
@pytest.mark.parametrize("mode", [SMART, FAST])
def test_walsender_is_waited_for_after_the_last_checkpoint(
    cluster: Cluster, mode: ShutdownMode
) -> None:
    """After the shutdown checkpoint the postmaster waits for a walsender whose receiver lags."""
    session = unconfirming_receiver(cluster)
    cluster.request_shutdown(mode)
    expect_held_by_walsender(cluster, session.child)
    assert cluster.controldata_state() is ControlState.SHUT_DOWN
    session.disconnect()
    cluster.expect_exit(code=0)


@claim("SM-20 SM-01", source="postmaster.c: CountChildren()", needs=[*SIGNALS, Need.WALSENDER])
@SENDERS
def test_smart_shutdown_counts_a_session_beside_a_walsender(cluster: Cluster) -> None:
    """In PM_RUN a smart shutdown waits for a session, and not for a walsender."""
    session, receiver = cluster.session(), unconfirming_receiver(cluster)
    helpers = {kid.key for kid in cluster.children()}
    cluster.request_shutdown(SMART, logged=True)
    cluster.expect_idle()
    assert {kid.key for kid in cluster.children()} == helpers
    assert session.query("select 1") == [("1",)]
    session.close()
    expect_held_by_walsender(cluster, receiver.child)
    receiver.disconnect()
    cluster.expect_exit(code=0)


@claim(
    "SM-20 SE-46 PG-10 MM-05",
    source="walsender.c: InitWalSender()",
    needs=[*SIGNALS, Need.WALSENDER],
)
def test_smart_shutdown_continues_when_its_last_client_becomes_a_walsender(
    cluster: Cluster,
) -> None:
    """A smart shutdown waits for a silent client. When that asks for replication the shutdown
    continues at once, although no child has exited."""
    client = cluster.silent_client()
    helpers = {kid.key for kid in cluster.children()}
    cluster.request_shutdown(SMART, logged=True)
    cluster.expect_idle()
    assert {kid.key for kid in cluster.children()} == helpers
    client.client.send_startup({"user": "postgres", "replication": "true"})
    cluster.expect_exit(code=0)


@claim(
    "TR18-20 TR18-22 TR18-24 TR18-26 TR18-27",
    source="postmaster.c: SignalChildren()",
    since=18,
    why="the signals that are sent are not in the log before",
    needs=[*SIGNALS, Need.SIGNAL_LOG, Need.WALSENDER, Need.ARCHIVER],
)
@SENDERS
@settings(log_min_messages="debug3", archive_mode="on", archive_command="true", summarize_wal="on")
@pytest.mark.parametrize("mode", [SMART, FAST])
def test_signals_of_a_shutdown_with_archiver_and_walsender(
    cluster: Cluster, mode: ShutdownMode
) -> None:
    """Archiver and walsender are sent USR2, once, and the log line names the walsender."""
    receiver = unconfirming_receiver(cluster)
    then = cluster.since()
    cluster.request_shutdown(mode)
    expect_held_by_walsender(cluster, receiver.child)
    receiver.disconnect()
    cluster.expect_exit(code=0)
    wanted = [(signal.SIGTERM, name) for name in [*ALWAYS[:-1], "walsummarizer"]]
    last = ["archiver", "walsender", *["io worker"] * 3, "checkpointer"]
    wanted += [(signal.SIGINT, "checkpointer"), *((signal.SIGUSR2, name) for name in last)]
    expect_words(cluster, wanted, then)


# A crash during a shutdown: no client is served after it.


@claim("TR18-12 SE-33 SV-25", source=FATAL, needs=[*CRASH, Need.IO_WORKERS], since=18)
@pytest.mark.parametrize("state", ["PM_WAIT_XLOG_SHUTDOWN", "PM_WAIT_IO_WORKERS"])
def test_no_client_is_served_after_a_crash_during_a_shutdown(cluster: Cluster, state: str) -> None:
    """A crash after PM_WAIT_BACKENDS leads to PM_WAIT_DEAD_END, where clients are not answered."""
    early = state == "PM_WAIT_XLOG_SHUTDOWN"
    enter = pin_wait_xlog_shutdown if early else pin_wait_io_workers
    with enter(cluster) as held, within_the_sigkill_timeout(cluster):
        then = cluster.since()
        # The victim is a child that would stay: an io worker that is not stopped exits by itself.
        victim = cluster.crash(Kind.IO_WORKER if early else Kind.CHECKPOINTER)
        then.expect_log(f"^{TERMINATING}$")
        cluster.expect_pmstate("PM_WAIT_DEAD_END")
        expect_only(cluster, held.child)
        late = cluster.silent_client(wait_for_child=False)
        late.client.send_startup({"user": "postgres", "database": "postgres"})
        late.expect_silence(0.2)
        assert [kid.key for kid in cluster.children()] == [held.child.key]
        assert killed_line(cluster, victim) in then.postmaster_lines()
    late.disconnect()
    cluster.expect_exit(code=1)


@claim("TR18-22 SM-05 CK-06", source=MACHINE, needs=SIGNALS)
def test_checkpointer_is_signalled_after_all_sessions_exit(cluster: Cluster) -> None:
    """The checkpointer receives no signal before the last session exits, then exactly one."""
    with pin_wait_backends(cluster) as session, Pin(cluster, Kind.CHECKPOINTER) as pin:
        assert not pending_signals(pin.child)
        session.release()
        order = signal.SIGINT if cluster.major >= 18 else signal.SIGUSR2
        expect_each_pending(cluster, {pin.child: {order}})
    cluster.expect_exit(code=0)


# ABRT instead of QUIT, where it decides whether the startup process has failed.


@claim(
    "CR-06 TR18-07 CR-38",
    source="postmaster.c: TerminateChildren()",
    needs=[*CRASH, Need.STARTUP_BARRIER],
    since=16,
    why="there is no such setting before",
)
@settings(send_abort_for_crash="on")
def test_startup_process_that_was_sent_abrt_is_restarted(stopped_cluster: Cluster) -> None:
    """With send_abort_for_crash a startup process that is killed by ABRT is started again."""
    cluster = stopped_cluster
    then = cluster.since()
    with pin_startup_at_birth(cluster) as pin, within_the_sigkill_timeout(cluster):
        victim = cluster.crash(Kind.BACKGROUND_WRITER)
        then.expect_log(f"^{TERMINATING}$")
        cluster.wait_for("ABRT", lambda: signal.SIGABRT in pending_signals(pin.child))
    then.expect_ready()
    lines = then.postmaster_lines()
    at = lines.index(killed_line(cluster, victim))
    assert lines[at:] == [killed_line(cluster, victim), TERMINATING, REINITIALIZING, READY_LINE]
    stop(cluster)
