"""Shutdown: smart, fast, immediate, from PM_RUN to the end; the whole story of each.

Source       rules SH-01 to SH-17, SH-27, SM-20 to SM-23; postmaster.c:
             process_pm_shutdown_request(), PostmasterStateMachine().
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.base.refusals import CANNOT_CONNECT_NOW, SHUTTING_DOWN
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import FAST, IMMEDIATE, SMART, ShutdownMode
from pglife_conformance.expect.excerpt import in_version, same_lines, step
from pglife_conformance.expect.since import Since
from pglife_conformance.hold.pin import (
    Pin,
    pin_wait_backends,
    pin_wait_dead_end,
    pin_wait_io_workers,
    pin_wait_xlog_shutdown,
)
from pglife_conformance.matrix.finale import SHUT_DOWN
from pglife_conformance.observation.control_file import ControlState
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_conformance.pytest.claims import claim

SOURCE = "postmaster.c: process_pm_shutdown_request()"
MACHINE = "postmaster.c: PostmasterStateMachine()"

LAUNCHER_LEAVES = (
    'background worker "logical replication launcher" (logical replication launcher) '
    "exited with exit code 1"
)
"""SH-27"""
ORDERED_END = [
    step("PM_RUN", "PM_STOP_BACKENDS"),
    step("PM_STOP_BACKENDS", "PM_WAIT_BACKENDS"),
    LAUNCHER_LEAVES,
    step("PM_WAIT_BACKENDS", "PM_WAIT_XLOG_SHUTDOWN"),
    step("PM_WAIT_XLOG_SHUTDOWN", "PM_WAIT_XLOG_ARCHIVAL"),
    step("PM_WAIT_XLOG_ARCHIVAL", "PM_WAIT_IO_WORKERS"),
    step("PM_WAIT_IO_WORKERS", "PM_WAIT_CHECKPOINTER"),
    step("PM_WAIT_CHECKPOINTER", "PM_WAIT_DEAD_END"),
    step("PM_WAIT_DEAD_END", "PM_NO_CHILDREN"),
    SHUT_DOWN,
]
STORIES = {
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


def names_of(cluster: Cluster) -> dict[int, str]:
    """The living children by pid, for a story."""
    return {child.pid: str(child.kind) for child in cluster.children()}


def expect_end(
    cluster: Cluster, then: Since, story: Sequence[str], names: dict[int, str], code: int = 0
) -> None:
    """The server ends with this status, having told exactly this story, and leaves no pid file."""
    cluster.expect_exit(code=code)
    wanted = in_version(story, cluster.target.version.major)
    told = then.exact_lines(names)
    if not same_lines(told, wanted):
        raise cluster.watcher.failure(f"the story {[str(line) for line in wanted]}", str(told))
    assert cluster.log()[-1].message == SHUT_DOWN
    assert cluster.pid_file() is None


def rest(cluster: Cluster) -> None:
    """Wait until the postmaster has done whatever it does at once."""
    cluster.expect_idle()


# Whole stories.


@claim(
    "SH-02", "SH-10", "SH-11", "SH-13", "SH-27", "TR18-32", source=SOURCE, needs=[Need.CONTROL_FILE]
)
@pytest.mark.parametrize("mode", [SMART, FAST, IMMEDIATE])
def test_shutdown_without_sessions(cluster: Cluster, mode: ShutdownMode) -> None:
    """Each kind of shutdown tells its whole story once, exits 0, and leaves its control state."""
    names = names_of(cluster)
    then = cluster.since()
    cluster.request_shutdown(mode)
    expect_end(cluster, then, STORIES[mode], names)
    clean = mode is not IMMEDIATE
    state = ControlState.SHUT_DOWN if clean else ControlState.IN_PRODUCTION
    assert cluster.controldata_state() is state


@claim("SH-15", "SH-07", "CK-06", source="xlog.c: ShutdownXLOG()")
@pytest.mark.parametrize("mode", [SMART, FAST, IMMEDIATE])
def test_checkpointer_writes_one_last_checkpoint(cluster: Cluster, mode: ShutdownMode) -> None:
    """The checkpointer of the running server writes the shutdown checkpoint, once; or nobody."""
    checkpointer = cluster.child(Kind.CHECKPOINTER)
    then = cluster.since()
    cluster.request_shutdown(mode)
    cluster.expect_exit(code=0)
    said = [r for r in then.log() if r.level == "LOG" and r.pid != cluster.pid]
    if mode is IMMEDIATE:
        assert said == []
        return
    assert {record.pid for record in said} == {checkpointer.pid}
    texts = [record.message for record in said]
    assert len(texts) == 3
    assert texts[:2] == ["shutting down", "checkpoint starting: shutdown immediate"]
    assert texts[2].startswith("checkpoint complete: ")


@claim("SH-03", "SH-01", "SH-09", "INV-01", source=SOURCE, needs=[Need.OS_SIGNALS])
@pytest.mark.parametrize(
    "requests",
    [
        (SMART, FAST),
        (SMART, IMMEDIATE),
        (FAST, IMMEDIATE),
        (SMART, FAST, IMMEDIATE),
    ],
    ids="-".join,
)
def test_requests_only_get_stronger(cluster: Cluster, requests: tuple[ShutdownMode, ...]) -> None:
    """Each stronger request is told once; weaker and equal ones in between are dropped."""
    session = cluster.session()
    then = cluster.since()
    with Pin(cluster, session.child):
        for number, mode in enumerate(requests):
            cluster.request_shutdown(mode)
            then.expect_log(f"^received {mode} shutdown request$")
            for weaker in requests[: number + 1]:
                cluster.request_shutdown(weaker)
                rest(cluster)
    session.disconnect()
    cluster.expect_exit(code=0)
    told = [r.message for r in then.log() if r.message.startswith("received ")]
    assert told == [f"received {mode} shutdown request" for mode in requests]
    aborting = then.log()
    texts = [r.message for r in aborting if r.message == "aborting any active transactions"]
    assert len(texts) == (FAST in requests)


@claim("SH-04", "SM-01", source=MACHINE)
def test_smart_shutdown_ends_with_the_last_session(cluster: Cluster) -> None:
    """A smart shutdown refuses new clients, lets sessions work, and ends when the last left."""
    names = names_of(cluster)
    helpers = [child.key for child in cluster.children()]
    first, last = cluster.session(), cluster.session()
    then = cluster.since()
    cluster.request_shutdown(SMART)
    then.expect_line("received smart shutdown request")
    refusal = cluster.refusal_of_new_client()
    assert (refusal.severity, refusal.sqlstate, refusal.message) == (
        "FATAL",
        CANNOT_CONNECT_NOW,
        SHUTTING_DOWN,
    )
    assert first.query("select 1") == [("1",)]
    first.close()
    cluster.expect_count(Kind.CLIENT_BACKEND, 1)
    rest(cluster)
    assert last.query("begin") == []
    assert last.query("select 2") == [("2",)]
    assert last.query("commit") == []
    kids = [kid.key for kid in cluster.children() if kid.kind is not Kind.CLIENT_BACKEND]
    assert [key for key in kids if key in helpers] == helpers
    assert cluster.pid_file_status() is PidFileStatus.STOPPING
    assert then.exact_lines() == ["received smart shutdown request"]
    last.close()
    expect_end(cluster, then, STORIES[SMART], names)


@claim("SM-20", source="postmaster.c: CountChildren()")
def test_smart_shutdown_waits_for_a_silent_client(cluster: Cluster) -> None:
    """A client that has said nothing yet is waited for, too, and is let in."""
    names = names_of(cluster)
    client = cluster.silent_client()
    then = cluster.since()
    cluster.request_shutdown(SMART)
    then.expect_line("received smart shutdown request")
    rest(cluster)
    assert then.exact_lines() == ["received smart shutdown request"]
    client.send_startup_packet({"user": "postgres", "database": "postgres"})
    assert client.query("select 1") == [("1",)]
    client.close()
    expect_end(cluster, then, STORIES[SMART], names)


@claim("SM-20", source="postmaster.c: CountChildren()")
def test_smart_shutdown_ends_when_a_silent_client_hangs_up(cluster: Cluster) -> None:
    """It counts until its child has ended."""
    names = names_of(cluster)
    client = cluster.silent_client()
    then = cluster.since()
    cluster.request_shutdown(SMART)
    then.expect_line("received smart shutdown request")
    client.disconnect()
    expect_end(cluster, then, STORIES[SMART], names)


@claim("SM-20", "SM-23", "MM-06", source="postmaster.c: CountChildren()")
def test_smart_shutdown_does_not_wait_for_the_refused(cluster: Cluster) -> None:
    """A dead-end child holds no smart shutdown in PM_RUN; before 18 it holds the very end."""
    names = names_of(cluster)
    session = cluster.session()
    then = cluster.since()
    cluster.request_shutdown(SMART)
    then.expect_line("received smart shutdown request")
    refused = cluster.silent_client()
    session.close()
    if cluster.target.version.major < 18:
        cluster.expect_only(refused.child)
        cluster.expect_still("a server that waits", cluster.is_running, 0.3)
        assert cluster.controldata_state() is ControlState.SHUT_DOWN
        refused.disconnect()
    expect_end(cluster, then, STORIES[SMART], names)


@claim("SM-23", "HB-38", "INV-110", source=MACHINE, needs=[Need.OS_SIGNALS])
@pytest.mark.parametrize("mode", [FAST, IMMEDIATE])
def test_silent_client_that_comes_late(cluster: Cluster, mode: ShutdownMode) -> None:
    """18 ends although a refused client stays; before, the end waits until it hangs up."""
    with pin_wait_backends(cluster) as pin:
        late = cluster.silent_client()
        if mode is IMMEDIATE:
            cluster.request_shutdown(IMMEDIATE)
            cluster.expect_log("^received immediate shutdown request$")
        pin.release()
        if cluster.target.version.major < 18:
            cluster.expect_only(late.child)
            cluster.expect_still("a server that waits", cluster.is_running, 0.3)
            late.disconnect()
        cluster.expect_exit(code=0)
    if cluster.target.version.major >= 18:
        assert late.expect_final_message() is None


@claim("SH-14", "SH-13", source="xlog.c: CreateCheckPoint()", needs=[Need.OS_SIGNALS])
def test_control_file_before_the_last_checkpoint(cluster: Cluster) -> None:
    """Until the checkpointer has begun the control file says `in production`."""
    with pin_wait_xlog_shutdown(cluster):
        assert cluster.controldata_state() is ControlState.IN_PRODUCTION
        assert cluster.pid_file_status() is PidFileStatus.STOPPING
    cluster.expect_exit(code=0)
    assert cluster.controldata_state() is ControlState.SHUT_DOWN


@claim("SH-14", source="xlog.c: CreateCheckPoint()", needs=[Need.IO_WORKERS], since=18)
def test_control_file_after_the_last_checkpoint(cluster: Cluster) -> None:
    """It says `shut down` while io workers and the checkpointer still live."""
    with pin_wait_io_workers(cluster):
        assert cluster.controldata_state() is ControlState.SHUT_DOWN
        assert len(cluster.children(Kind.CHECKPOINTER)) == 1
        assert cluster.pid_file_status() is PidFileStatus.STOPPING
    cluster.expect_exit(code=0)


@claim("SE-33", "SV-25", source="postmaster.c: ConfigurePostmasterWaitSet()")
def test_client_of_the_last_moment_hears_nothing(cluster: Cluster) -> None:
    """In PM_WAIT_DEAD_END one can connect but is not served; the end of the server ends it."""
    with pin_wait_dead_end(cluster):
        before = [kid.key for kid in cluster.children()]
        client = cluster.silent_client(wait_for_child=False)
        client.client.send_startup({"user": "postgres", "database": "postgres"})
        client.expect_silence(0.2)
        assert [kid.key for kid in cluster.children()] == before
    cluster.release_everything()
    cluster.expect_exit(code=0)


@claim("SH-12", source="miscinit.c: UnlinkLockFiles()")
def test_pid_file_goes_whoever_wrote_it(cluster: Cluster) -> None:
    """The pid file is removed at the end even if somebody has written another one."""
    cluster.write_file("postmaster.pid", "1\n")
    cluster.request_shutdown(FAST)
    cluster.expect_exit(code=0)
    assert not (cluster.data / "postmaster.pid").exists()


@claim("SH-11", "SH-13", source="miscinit.c: UnlinkLockFiles()")
def test_life_goes_on_after_each_shutdown(cluster: Cluster) -> None:
    """After any shutdown the next start works, and its end is the last word again."""
    for mode in (SMART, FAST, IMMEDIATE):
        cluster.request_shutdown(mode)
        cluster.expect_exit(code=0)
        assert cluster.log()[-1].message == SHUT_DOWN
        cluster.start()
    with cluster.session() as session:
        assert session.query("select 1") == [("1",)]


@claim(
    "PM-01",
    "PM-03",
    "PM-04",
    source="postmaster.c: UpdatePMState()",
    needs=[Need.PMSTATE_LOG],
    since=18,
)
@pytest.mark.parametrize("mode", [SMART, FAST, IMMEDIATE])
def test_each_step_begins_where_the_last_one_ended(cluster: Cluster, mode: ShutdownMode) -> None:
    """From birth to the end the steps of pmState are one chain, and it ends in no children."""
    cluster.request_shutdown(mode)
    cluster.expect_exit(code=0)
    steps = cluster.all_log().pmstates()
    assert steps[0][0] == "PM_INIT"
    assert steps[-1][1] == "PM_NO_CHILDREN"
    assert all(before[1] == after[0] for before, after in pairwise(steps))
