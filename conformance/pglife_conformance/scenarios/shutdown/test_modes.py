"""Shutdown: smart, fast, immediate, from PM_RUN to the exit; the whole log of each.

Source: rules SH-01 to SH-17, SH-27, SM-20 to SM-23; postmaster.c:
process_pm_shutdown_request(), PostmasterStateMachine().
"""

from collections.abc import Sequence
from itertools import pairwise

import pytest

from pglife_conformance.base.ids import Pid
from pglife_conformance.base.needs import Need
from pglife_conformance.base.refusals import SHUTTING_DOWN
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import FAST, IMMEDIATE, SMART, ShutdownMode
from pglife_conformance.expect.excerpt import in_version, same_lines, step
from pglife_conformance.expect.lines import SHUT_DOWN
from pglife_conformance.expect.since import Since
from pglife_conformance.hold.pin import (
    Pin,
    pin_wait_backends,
    pin_wait_dead_end,
    pin_wait_io_workers,
    pin_wait_xlog_shutdown,
)
from pglife_conformance.observation.control_file import ControlState
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_conformance.pytest.claims import claim

SOURCE = "postmaster.c: process_pm_shutdown_request()"
MACHINE = "postmaster.c: PostmasterStateMachine()"

LAUNCHER_EXITS = (
    'background worker "logical replication launcher" (logical replication launcher) '
    "exited with exit code 1"
)
"""SH-27"""
ORDERED_END = [
    step("PM_RUN", "PM_STOP_BACKENDS"),
    step("PM_STOP_BACKENDS", "PM_WAIT_BACKENDS"),
    LAUNCHER_EXITS,
    step("PM_WAIT_BACKENDS", "PM_WAIT_XLOG_SHUTDOWN"),
    step("PM_WAIT_XLOG_SHUTDOWN", "PM_WAIT_XLOG_ARCHIVAL"),
    step("PM_WAIT_XLOG_ARCHIVAL", "PM_WAIT_IO_WORKERS"),
    step("PM_WAIT_IO_WORKERS", "PM_WAIT_CHECKPOINTER"),
    step("PM_WAIT_CHECKPOINTER", "PM_WAIT_DEAD_END"),
    step("PM_WAIT_DEAD_END", "PM_NO_CHILDREN"),
    SHUT_DOWN,
]
EXCERPTS = {
    SMART: ["received smart shutdown request", *ORDERED_END],
    FAST: ["received fast shutdown request", "aborting any active transactions", *ORDERED_END],
    IMMEDIATE: [
        "received immediate shutdown request",
        step("PM_RUN", "PM_WAIT_BACKENDS"),
        step("PM_WAIT_BACKENDS", "PM_WAIT_DEAD_END"),
        step("PM_WAIT_DEAD_END", "PM_NO_CHILDREN"),
        SHUT_DOWN,
    ],
}


def names_of(cluster: Cluster) -> dict[Pid, str]:
    """The living children by pid, for a log excerpt."""
    return {child.pid: str(child.kind) for child in cluster.children()}


def expect_end(
    cluster: Cluster, then: Since, excerpt: Sequence[str], names: dict[Pid, str], code: int = 0
) -> None:
    """The server exits with this status, has logged exactly this, and leaves no pid file."""
    cluster.expect_exit(code=code)
    wanted = in_version(excerpt, cluster.major)
    lines = then.exact_lines(names)
    if not same_lines(lines, wanted):
        raise cluster.watcher.failure(f"the log {[str(line) for line in wanted]}", str(lines))
    assert cluster.log()[-1].message == SHUT_DOWN
    assert cluster.pid_file() is None


# Whole logs.


@claim("SH-02 SH-10 SH-11 SH-13 SH-27 TR18-32", source=SOURCE, needs=[Need.CONTROL_FILE])
@pytest.mark.parametrize("mode", [SMART, FAST, IMMEDIATE])
def test_shutdown_without_sessions(cluster: Cluster, mode: ShutdownMode) -> None:
    """Each shutdown mode logs its lines once, exits 0, and leaves its control file state."""
    names = names_of(cluster)
    then = cluster.since()
    cluster.request_shutdown(mode)
    expect_end(cluster, then, EXCERPTS[mode], names)
    clean = mode is not IMMEDIATE
    state = ControlState.SHUT_DOWN if clean else ControlState.IN_PRODUCTION
    assert cluster.controldata_state() is state


@claim("SH-15 SH-07 CK-06", source="xlog.c: ShutdownXLOG()")
@pytest.mark.parametrize("mode", [SMART, FAST, IMMEDIATE])
def test_checkpointer_writes_one_last_checkpoint(cluster: Cluster, mode: ShutdownMode) -> None:
    """Smart and fast: the checkpointer writes one shutdown checkpoint. Immediate: none."""
    checkpointer = cluster.child(Kind.CHECKPOINTER)
    then = cluster.since()
    cluster.stop(mode)
    said = [r for r in then.log() if r.level == "LOG" and r.pid != cluster.pid]
    if mode is IMMEDIATE:
        assert said == []
        return
    assert {record.pid for record in said} == {checkpointer.pid}
    texts = [record.message for record in said]
    assert len(texts) == 3
    assert texts[:2] == ["shutting down", "checkpoint starting: shutdown immediate"]
    assert texts[2].startswith("checkpoint complete: ")


@claim("SH-03 SH-01 SH-09 INV-01", source=SOURCE, needs=[Need.OS_SIGNALS])
@pytest.mark.parametrize(
    "requests",
    [(SMART, FAST), (SMART, IMMEDIATE), (FAST, IMMEDIATE), (SMART, FAST, IMMEDIATE)],
    ids="-".join,
)
def test_requests_only_get_stronger(cluster: Cluster, requests: tuple[ShutdownMode, ...]) -> None:
    """Each stronger request is logged once; weaker and equal ones in between are ignored."""
    session = cluster.session()
    then = cluster.since()
    with Pin(cluster, session.child):
        for number, mode in enumerate(requests):
            cluster.request_shutdown(mode, logged=True)
            for weaker in requests[: number + 1]:
                cluster.request_shutdown(weaker)
                cluster.expect_idle()
    session.disconnect()
    cluster.expect_exit(code=0)
    received = then.messages(matching="^received ")
    assert received == [f"received {mode} shutdown request" for mode in requests]
    aborting = then.log()
    texts = [r.message for r in aborting if r.message == "aborting any active transactions"]
    assert len(texts) == (FAST in requests)


@claim("SH-04 SM-01", source=MACHINE)
def test_smart_shutdown_ends_with_the_last_session(cluster: Cluster) -> None:
    """A smart shutdown refuses new clients, lets sessions work, and ends with the last session."""
    names = names_of(cluster)
    helpers = [child.key for child in cluster.children()]
    first, last = cluster.session(), cluster.session()
    then = cluster.since()
    cluster.request_shutdown(SMART, logged=True)
    cluster.expect_refusal(SHUTTING_DOWN)
    assert first.query("select 1") == [("1",)]
    first.close()
    cluster.expect_count(Kind.CLIENT_BACKEND, 1)
    cluster.expect_idle()
    assert last.query("begin") == []
    assert last.query("select 2") == [("2",)]
    assert last.query("commit") == []
    kids = [kid.key for kid in cluster.children() if kid.kind is not Kind.CLIENT_BACKEND]
    assert [key for key in kids if key in helpers] == helpers
    assert cluster.pid_file_status() is PidFileStatus.STOPPING
    assert then.exact_lines() == ["received smart shutdown request"]
    last.close()
    expect_end(cluster, then, EXCERPTS[SMART], names)


@claim("SM-20", source="postmaster.c: CountChildren()")
def test_smart_shutdown_waits_for_a_silent_client(cluster: Cluster) -> None:
    """A smart shutdown waits for a client that has sent nothing yet, and still admits it."""
    names = names_of(cluster)
    client = cluster.silent_client()
    then = cluster.since()
    cluster.request_shutdown(SMART, logged=True)
    cluster.expect_idle()
    assert then.exact_lines() == ["received smart shutdown request"]
    client.send_startup_packet({"user": "postgres", "database": "postgres"})
    assert client.query("select 1") == [("1",)]
    client.close()
    expect_end(cluster, then, EXCERPTS[SMART], names)


@claim("SM-20", source="postmaster.c: CountChildren()")
def test_smart_shutdown_ends_when_a_silent_client_hangs_up(cluster: Cluster) -> None:
    """A smart shutdown waits for a silent client until its child has exited."""
    names = names_of(cluster)
    client = cluster.silent_client()
    then = cluster.since()
    cluster.request_shutdown(SMART, logged=True)
    client.disconnect()
    expect_end(cluster, then, EXCERPTS[SMART], names)


@claim("SM-20 SM-23 MM-06", source="postmaster.c: CountChildren()")
def test_smart_shutdown_does_not_wait_for_refused_clients(cluster: Cluster) -> None:
    """A smart shutdown does not wait for dead-end children in PM_RUN; before 18 the exit does."""
    names = names_of(cluster)
    session = cluster.session()
    then = cluster.since()
    cluster.request_shutdown(SMART, logged=True)
    refused = cluster.silent_client()
    session.close()
    if cluster.major < 18:
        cluster.expect_only(refused.child)
        cluster.expect_still("a server that waits", cluster.is_running, 0.3)
        assert cluster.controldata_state() is ControlState.SHUT_DOWN
        refused.disconnect()
    expect_end(cluster, then, EXCERPTS[SMART], names)


@claim("SM-23 HB-38 INV-110", source=MACHINE, needs=[Need.OS_SIGNALS])
@pytest.mark.parametrize("mode", [FAST, IMMEDIATE])
def test_silent_client_that_connects_during_a_shutdown(
    cluster: Cluster, mode: ShutdownMode
) -> None:
    """18 exits although a refused client is connected; before, it waits until that disconnects."""
    with pin_wait_backends(cluster) as pin:
        late = cluster.silent_client()
        if mode is IMMEDIATE:
            cluster.request_shutdown(IMMEDIATE, logged=True)
        pin.release()
        if cluster.major < 18:
            cluster.expect_only(late.child)
            cluster.expect_still("a server that waits", cluster.is_running, 0.3)
            late.disconnect()
        cluster.expect_exit(code=0)
    if cluster.major >= 18:
        assert late.expect_final_message() is None


@claim("SH-14 SH-13", source="xlog.c: CreateCheckPoint()", needs=[Need.OS_SIGNALS])
def test_control_file_before_the_last_checkpoint(cluster: Cluster) -> None:
    """Until the shutdown checkpoint begins the control file says `in production`."""
    with pin_wait_xlog_shutdown(cluster):
        assert cluster.controldata_state() is ControlState.IN_PRODUCTION
        assert cluster.pid_file_status() is PidFileStatus.STOPPING
    cluster.expect_exit(code=0)
    assert cluster.controldata_state() is ControlState.SHUT_DOWN


@claim("SH-14", source="xlog.c: CreateCheckPoint()", needs=[Need.IO_WORKERS], since=18)
def test_control_file_after_the_last_checkpoint(cluster: Cluster) -> None:
    """The control file says `shut down` while io workers and the checkpointer still run."""
    with pin_wait_io_workers(cluster):
        assert cluster.controldata_state() is ControlState.SHUT_DOWN
        assert len(cluster.children(Kind.CHECKPOINTER)) == 1
        assert cluster.pid_file_status() is PidFileStatus.STOPPING
    cluster.expect_exit(code=0)


@claim("SE-33 SV-25", source="postmaster.c: ConfigurePostmasterWaitSet()")
def test_client_in_pm_wait_dead_end_receives_nothing(cluster: Cluster) -> None:
    """In PM_WAIT_DEAD_END a client connects but is not accepted; the server's exit closes it."""
    with pin_wait_dead_end(cluster):
        before = [kid.key for kid in cluster.children()]
        client = cluster.silent_client(wait_for_child=False)
        client.client.send_startup({"user": "postgres", "database": "postgres"})
        client.expect_silence(0.2)
        assert [kid.key for kid in cluster.children()] == before
    cluster.release_everything()
    cluster.expect_exit(code=0)


@claim("SH-12", source="miscinit.c: UnlinkLockFiles()")
def test_pid_file_is_removed_even_if_rewritten(cluster: Cluster) -> None:
    """The pid file is removed at the exit even if another process has cut it to its first line."""
    cluster.write_file("postmaster.pid", f"{cluster.pid}\n")
    cluster.stop()
    assert not (cluster.data / "postmaster.pid").exists()


@claim("SH-11 SH-13", source="miscinit.c: UnlinkLockFiles()")
def test_server_starts_again_after_each_shutdown(cluster: Cluster) -> None:
    """After any shutdown the server starts again; its last line is always the shutdown line."""
    for mode in (SMART, FAST, IMMEDIATE):
        cluster.stop(mode)
        assert cluster.log()[-1].message == SHUT_DOWN
        cluster.start()
    cluster.expect_service()


@claim(
    "PM-01 PM-03 PM-04", source="postmaster.c: UpdatePMState()", needs=[Need.PMSTATE_LOG], since=18
)
@pytest.mark.parametrize("mode", [SMART, FAST, IMMEDIATE])
def test_each_step_begins_where_the_last_one_ended(cluster: Cluster, mode: ShutdownMode) -> None:
    """The steps of pmState are one chain from PM_INIT to PM_NO_CHILDREN."""
    cluster.stop(mode)
    steps = cluster.all_log().pmstates()
    assert steps[0][0] == "PM_INIT"
    assert steps[-1][1] == "PM_NO_CHILDREN"
    assert all(before[1] == after[0] for before, after in pairwise(steps))
