"""Crashes at special moments: several at once, with requests, during a shutdown, at a start.

Source: rules CR-22, CR-28, CR-30 to CR-38, CR-48, RP-01, RP-04, SG-08, PR-20;
postmaster.c: HandleChildCrash(), HandleFatalError(), PostmasterStateMachine().
"""

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from pglife_conformance.base.needs import CRASH, Need
from pglife_conformance.base.refusals import IN_RECOVERY_MODE, SHUTTING_DOWN, STARTING_UP
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import FAST, IMMEDIATE, SMART, ShutdownMode
from pglife_conformance.expect.lines import (
    ABNORMAL,
    READY_LINE,
    REINITIALIZING,
    SHUT_DOWN,
    SIGKILL_ROUND,
    STARTUP_FAILED,
    TERMINATING,
    death_line,
    killed_line,
    quoted,
)
from pglife_conformance.expect.since import Since
from pglife_conformance.hold.pin import (
    Pin,
    StoppedPostmaster,
    pin_wait_backends,
    pin_wait_backends_after_crash,
    pin_wait_checkpointer,
    pin_wait_dead_end,
    pin_wait_io_workers,
    pin_wait_xlog_shutdown,
)
from pglife_conformance.hold.startup_barrier import pin_startup_after_crash, pin_startup_at_birth
from pglife_conformance.observation.control_file import ControlState
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_conformance.observation.processes import Child
from pglife_conformance.pytest.claims import claim
from pglife_conformance.scenarios.crash.test_sigkill_round import Countdown
from pglife_conformance.scenarios.support.signals import KILL_QUIT

SM = "postmaster.c: PostmasterStateMachine()"
HANDLER = "postmaster.c: HandleChildCrash()"
FATAL = "postmaster.c: HandleFatalError()"


# Several at once.


@claim("RP-01 CR-48 RP-04 INV-22", source=HANDLER, needs=CRASH)
def test_deaths_reaped_together_are_one_crash(cluster: Cluster) -> None:
    """Of several children that died together one is named, and there is one crash cycle."""
    session = cluster.session()
    kinds = (Kind.CHECKPOINTER, Kind.WALWRITER, Kind.LOGICAL_REPLICATION_LAUNCHER)
    before = cluster.since()
    with StoppedPostmaster(cluster):
        victims = [cluster.crash(kind) for kind in kinds] + [cluster.crash(session.child)]
    before.expect_log(f"^{TERMINATING}$")
    named = before.postmaster_lines()[0]
    assert named in [killed_line(cluster, victim) for victim in victims]
    before.expect_crash_restart(named)


@claim("RP-01 RP-12 RP-23", source=HANDLER, needs=CRASH)
def test_an_ordinary_end_beside_a_crash_changes_nothing(cluster: Cluster) -> None:
    """An exit with 0 and one with 1, reaped together with a crash, are not named."""
    session = cluster.session()
    before = cluster.since()
    with StoppedPostmaster(cluster):
        for child in (cluster.child(Kind.BACKGROUND_WRITER), session.child):
            cluster.end_child(child, signal.SIGTERM)
        victim = cluster.crash(Kind.WALWRITER)
    before.expect_crash_restart(killed_line(cluster, victim))


@claim("RP-01 PR-23 INV-30", source="postmaster.c: LaunchMissingBackgroundProcesses()", needs=CRASH)
def test_ordinary_ends_reaped_together_are_all_replaced(cluster: Cluster) -> None:
    """Several background processes that exit 0 together are each replaced once."""
    kinds = (Kind.BACKGROUND_WRITER, Kind.WALWRITER, Kind.AUTOVACUUM_LAUNCHER)
    before = cluster.since()
    with StoppedPostmaster(cluster):
        for kind in kinds:
            cluster.end_child(kind, signal.SIGTERM)
    cluster.expect_ready()
    before.expect_postmaster_lines([])
    now = {kid.kind: kid.key for kid in cluster.children()}
    for kid in before.kids:
        if kid.kind is not Kind.IO_WORKER:
            assert (now[kid.kind] != kid.key) is (kid.kind in kinds), kid
    assert len(cluster.children()) == len(before.kids)


@claim("SG-08 CR-30", source="postmaster.c: ServerLoop()", needs=CRASH)
@pytest.mark.parametrize("mode", [SMART, FAST])
def test_request_beside_a_death_comes_first(cluster: Cluster, mode: ShutdownMode) -> None:
    """A smart or fast request is processed before a crash pending with it: exit 1."""
    session = cluster.session()
    then = cluster.since()
    with StoppedPostmaster(cluster):
        victim = cluster.crash(Kind.WALWRITER)
        cluster.request_shutdown(mode)
    session.expect_end()
    request = [f"received {mode} shutdown request"]
    if mode is FAST:
        request.append("aborting any active transactions")
    then.expect_abnormal_exit([*request, killed_line(cluster, victim), TERMINATING])


@claim("SG-08 RP-04 TR18-09", source="postmaster.c: ServerLoop()", needs=CRASH)
def test_immediate_request_beside_a_death_silences_it(cluster: Cluster) -> None:
    """A crash reaped together with an immediate request is not logged; the postmaster exits 0."""
    then = cluster.since()
    with StoppedPostmaster(cluster):
        cluster.crash(Kind.WALWRITER)
        cluster.request_shutdown(IMMEDIATE)
    cluster.expect_exit(code=0)
    expected = ["received immediate shutdown request", SHUT_DOWN]
    then.expect_postmaster_lines(expected)


@claim("SG-08 SH-03", source="postmaster.c: process_pm_shutdown_request()")
def test_of_requests_at_once_the_strongest_is_logged(cluster: Cluster) -> None:
    """Of three requests at once 16 and later process one; 15 processes fast, then immediate."""
    then = cluster.since()
    with StoppedPostmaster(cluster):
        for mode in (SMART, IMMEDIATE, FAST):
            cluster.request_shutdown(mode)
    cluster.expect_exit(code=0)
    expected = ["received immediate shutdown request"]
    if cluster.major <= 15:
        expected = ["received fast shutdown request", "aborting any active transactions", *expected]
    then.expect_postmaster_lines([*expected, SHUT_DOWN], launcher_aside=True)


@claim("SG-08 SG-02", source="postmaster.c: process_pm_reload_request()")
def test_reload_beside_a_fast_request(cluster: Cluster) -> None:
    """A reload pending with a fast request is ignored; 15 processes it first."""
    then = cluster.since()
    with StoppedPostmaster(cluster):
        cluster.request_shutdown(FAST)
        cluster.reload()
    cluster.expect_exit(code=0)
    lines = then.postmaster_lines(launcher_aside=True)
    expected = ["received fast shutdown request", "aborting any active transactions", SHUT_DOWN]
    if cluster.major <= 15:
        expected.insert(0, "received SIGHUP, reloading configuration files")
    assert lines == expected


@claim("CR-28 CR-25", source=SM, needs=CRASH)
def test_crashes_one_after_the_other(cluster: Cluster) -> None:
    """Nothing limits the number of crash restarts: three in a row are three whole cycles."""
    for kind in (Kind.WALWRITER, Kind.CHECKPOINTER, Kind.WALWRITER):
        before = cluster.since()
        victim = cluster.crash(kind)
        before.expect_crash_restart(killed_line(cluster, victim))


# During a shutdown.


@claim("CR-30 INV-72 TR18-31", source=SM, needs=[*CRASH, Need.CONTROL_FILE])
def test_crash_while_a_smart_shutdown_waits(cluster: Cluster) -> None:
    """With a smart shutdown pending a crash ends the server with 1 and no restart."""
    session = cluster.session()
    then = cluster.since()
    cluster.request_shutdown(SMART, logged=True)
    victim = cluster.crash(Kind.BACKGROUND_WRITER)
    session.expect_end()
    said = ["received smart shutdown request", killed_line(cluster, victim), TERMINATING]
    then.expect_abnormal_exit(said)
    assert cluster.controldata_state() is ControlState.IN_PRODUCTION


@claim("CR-30 RP-26", source="postmaster.c: CleanupBackend()", needs=CRASH)
def test_crash_of_a_dead_end_child_while_a_smart_shutdown_waits(cluster: Cluster) -> None:
    """A client refused because of a smart shutdown has a dead-end child; killed, it is a crash."""
    session = cluster.session()
    then = cluster.since()
    cluster.request_shutdown(SMART, logged=True)
    victim = cluster.crash(cluster.silent_client().child)
    session.expect_end()
    line = killed_line(cluster, victim, dead_end=True)
    then.expect_abnormal_exit(["received smart shutdown request", line, TERMINATING])


REQUESTED = ["received fast shutdown request", "aborting any active transactions"]


Held = Callable[[Cluster], AbstractContextManager[Pin]]


def crash_in(cluster: Cluster, held: Held, kind: Kind | None, control: ControlState) -> Since:
    """Crash a child, or the pinned one, in this state of a fast shutdown: exit 1, no checkpoint."""
    then = cluster.since()
    with held(cluster) as pin:
        countdown = Countdown(cluster)
        victim = cluster.crash(pin.child if kind is None else kind)
        if kind is not None:
            then.expect_log(f"^{TERMINATING}$")
    but_a_late_round = countdown.let_go()
    cluster.expect_exit(code=1)
    lines = but_a_late_round(then.postmaster_lines(launcher_aside=True))
    died = killed_line(cluster, victim, dead_end=victim.kind is Kind.UNKNOWN)
    assert lines == [*REQUESTED, died, TERMINATING, ABNORMAL, SHUT_DOWN]
    assert cluster.controldata_state() is control
    assert cluster.pid_file() is None
    return then


@claim("CR-31 CR-32 CR-35 TR18-11 TR18-12 TR18-13", source=FATAL, needs=[*CRASH, Need.CONTROL_FILE])
@pytest.mark.parametrize(
    ("held", "kind", "control"),
    [
        (pin_wait_backends, Kind.CHECKPOINTER, ControlState.IN_PRODUCTION),
        (pin_wait_backends, None, ControlState.IN_PRODUCTION),
        (pin_wait_xlog_shutdown, None, ControlState.IN_PRODUCTION),
        (pin_wait_dead_end, None, ControlState.SHUT_DOWN),
    ],
    ids=["checkpointer-beside-a-session", "session", "checkpointer", "last-dead-end-child"],
)
def test_crash_during_a_shutdown_ends_it(
    cluster: Cluster, held: Held, kind: Kind | None, control: ControlState
) -> None:
    """A crash in PM_WAIT_BACKENDS or PM_WAIT_XLOG_SHUTDOWN: no checkpoint, exit 1. One of the last
    dead-end child: exit 1, control file `shut down`."""
    then = crash_in(cluster, held, kind, control)
    if control is ControlState.IN_PRODUCTION and held is pin_wait_backends:
        then.expect_no_log("^shutting down$")


@claim(
    "CR-32 CR-34 RP-13 TR18-12", source=FATAL, needs=[*CRASH, Need.IO_WORKERS, Need.CONTROL_FILE]
)
@pytest.mark.parametrize(
    ("held", "kind", "control"),
    [
        (pin_wait_xlog_shutdown, Kind.IO_WORKER, ControlState.IN_PRODUCTION),
        (pin_wait_io_workers, None, ControlState.SHUT_DOWN),
        (pin_wait_io_workers, Kind.CHECKPOINTER, ControlState.SHUT_DOWN),
        (pin_wait_checkpointer, None, ControlState.SHUT_DOWN),
    ],
    ids=["io-worker-before-the-checkpoint", "io-worker", "checkpointer", "last-checkpointer"],
)
def test_crash_beside_the_last_checkpoint_ends_the_shutdown(
    cluster: Cluster, held: Held, kind: Kind | None, control: ControlState
) -> None:
    """A crash in PM_WAIT_XLOG_SHUTDOWN, PM_WAIT_IO_WORKERS or PM_WAIT_CHECKPOINTER: to
    PM_WAIT_DEAD_END at once, exit 1, although the control file may say `shut down`."""
    then = crash_in(cluster, held, kind, control)
    assert [before for before, after in then.pmstates() if after == "PM_WAIT_DEAD_END"] == [
        held.__name__.replace("pin_", "PM_").upper()
    ]


@claim("CR-36 CR-37", source=SM, needs=CRASH)
@pytest.mark.parametrize("mode", [SMART, FAST, IMMEDIATE])
def test_request_while_a_crash_is_waited_out(cluster: Cluster, mode: ShutdownMode) -> None:
    """A request during a crash is processed, refusals change, and the postmaster exits 1."""
    then = cluster.since()
    countdown = Countdown(cluster)
    with pin_wait_backends_after_crash(cluster, Kind.WALWRITER):
        with countdown.step():
            cluster.expect_refusal(IN_RECOVERY_MODE)
        with countdown.step():
            cluster.request_shutdown(mode, logged=True)
            then.expect_no_log(f"^{SIGKILL_ROUND}$")
        with countdown.step():
            cluster.expect_refusal(SHUTTING_DOWN)
            cluster.expect_pid_file(PidFileStatus.STOPPING)
    but_a_late_round = countdown.let_go()
    cluster.expect_exit(code=1)
    lines = but_a_late_round(then.postmaster_lines())
    assert lines[1:] == [TERMINATING, f"received {mode} shutdown request", ABNORMAL, SHUT_DOWN]


# restart_after_crash.


@claim("CR-22 SV-30", source=SM, needs=CRASH)
@pytest.mark.parametrize("value", ["off", "on"])
def test_last_value_of_restart_after_crash_counts(cluster: Cluster, value: str) -> None:
    """A reload of restart_after_crash while children exit decides about this restart."""
    if value == "on":
        then = cluster.since()
        cluster.reload(restart_after_crash="off")
        then.expect_log('parameter "restart_after_crash" changed to "off"')
    then = cluster.since()
    reloaded = "received SIGHUP, reloading configuration files"
    changed = f'parameter "restart_after_crash" changed to "{value}"'
    countdown = Countdown(cluster)
    with pin_wait_backends_after_crash(cluster, Kind.WALWRITER), countdown.step():
        cluster.reload(restart_after_crash=value)
        then.expect_log(f"{changed}|^{SIGKILL_ROUND}$")
        then.expect_no_log(f"^{SIGKILL_ROUND}$")
    but_a_late_round = countdown.let_go()
    if value == "on":
        then.expect_ready()
        end = [REINITIALIZING, READY_LINE]
    else:
        cluster.expect_exit(code=1)
        end = [f"shutting down because {quoted('restart_after_crash', cluster)} is off", SHUT_DOWN]
        assert cluster.pid_file() is None
    lines = but_a_late_round(then.postmaster_lines())
    assert lines[1:] == [TERMINATING, reloaded, changed, *end]


# At a start.


def start_uncleanly(cluster: Cluster) -> None:
    """End the server by an immediate shutdown, so that the next start has to recover."""
    cluster.start()
    cluster.stop(IMMEDIATE)


@claim("CR-38 CN-02 CN-04", source=FATAL, needs=[*CRASH, Need.RESTORE_COMMAND])
@pytest.mark.parametrize("kind", [Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER], ids=str)
def test_crash_at_a_first_start_tries_again(stopped_cluster: Cluster, kind: Kind) -> None:
    """A crash in PM_STARTUP ends the startup process too, and the server starts again."""
    cluster = stopped_cluster
    start_uncleanly(cluster)
    then = cluster.since()
    with pin_startup_at_birth(cluster) as pin:
        cluster.expect_refusal(STARTING_UP)
        assert cluster.pid_file_status() is PidFileStatus.STARTING
        countdown = Countdown(cluster)
        victim = cluster.crash(kind)
        then.expect_log(f"^{TERMINATING}$")
        with countdown.step():
            cluster.expect_refusal(IN_RECOVERY_MODE)
        first = pin.child
    but_a_late_round = countdown.let_go()
    then.expect_ready()
    lines = but_a_late_round(then.postmaster_lines())
    at = lines.index(killed_line(cluster, victim))
    assert lines[at:] == [killed_line(cluster, victim), TERMINATING, REINITIALIZING, READY_LINE]
    assert first.key not in {kid.key for kid in cluster.children()}


@claim("PR-20 CR-49 INV-16 RP-10 TR18-33", source=SM, needs=[*CRASH, Need.RESTORE_COMMAND])
@KILL_QUIT
def test_death_of_the_startup_process_ends_the_server(
    stopped_cluster: Cluster, number: signal.Signals
) -> None:
    """A startup process that dies at a first start is named, and the postmaster exits 1."""
    cluster = stopped_cluster
    start_uncleanly(cluster)
    then = cluster.since()
    with pin_startup_at_birth(cluster) as pin:
        victim: Child = cluster.signal_child(pin.child, number)
    line = death_line(cluster, victim, number)
    cluster.expect_exit(code=1)
    lines = then.postmaster_lines()
    assert lines[lines.index(line) :] == [line, TERMINATING, STARTUP_FAILED, SHUT_DOWN]
    assert cluster.pid_file() is None
    assert cluster.children() == []


@claim("CR-38 CN-04 SH-41 MM-15", source="postmaster.c: canAcceptConnections()", needs=CRASH)
def test_clients_are_refused_until_a_crashed_server_runs(cluster: Cluster) -> None:
    """In PM_STARTUP after a crash clients are refused: `in recovery mode`; later admitted."""
    then = cluster.since()
    with pin_startup_after_crash(cluster, Kind.WALWRITER):
        for _ in range(2):
            cluster.expect_refusal(IN_RECOVERY_MODE)
        assert cluster.pid_file_status() is PidFileStatus.READY
    then.expect_ready()
    cluster.expect_service()


@claim("CR-31 PR-28", source=HANDLER, needs=CRASH)
def test_stopped_child_delays_the_restart_until_it_continues(cluster: Cluster) -> None:
    """While one child has not exited no child is forked; when it continues, the server restarts."""
    before = cluster.since()
    countdown = Countdown(cluster)
    with Pin(cluster, Kind.CHECKPOINTER) as pin:
        victim = cluster.crash(Kind.WALWRITER)
        before.expect_log(f"^{TERMINATING}$")
        with countdown.step():
            cluster.wait_for(
                "no child but the stopped checkpointer", lambda: _keys(cluster) == [pin.child.key]
            )
        with countdown.step():
            cluster.expect_still("no new child", lambda: _keys(cluster) == [pin.child.key], 0.2)
            before.expect_no_log(REINITIALIZING)
    but_a_late_round = countdown.let_go()
    before.expect_log(f"^{REINITIALIZING}$")
    lines = before.postmaster_lines()
    lines = lines[: lines.index(REINITIALIZING)]
    assert but_a_late_round(lines) == [killed_line(cluster, victim), TERMINATING]
    before.expect_crash_restart(killed_line(cluster, victim))


def _keys(cluster: Cluster) -> list[tuple[int, int]]:
    return [kid.key for kid in cluster.children()]
