"""The level of the postmaster's log lines about exits, crashes and shutdowns."""

import re
import signal

import pytest

from pglife_conformance.base.needs import CRASH, SIGNALS, Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import FAST, IMMEDIATE, SMART
from pglife_conformance.expect.lines import TERMINATING
from pglife_conformance.expect.since import Since
from pglife_conformance.hold.parallel import run_in_parallel
from pglife_conformance.hold.pin import pin_wait_backends
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.support.event_loop import exit_lines

CLEANUP = "postmaster.c: CleanupBackend()"
MACHINE = "postmaster.c: PostmasterStateMachine()"
PARALLEL = [*SIGNALS, Need.FULL_SQL, Need.SQL_FUNCTIONS]


@claim("RP-23 RP-02", source=CLEANUP, needs=SIGNALS)
@pytest.mark.parametrize("code", [0, 1])
def test_exit_of_a_session_is_logged_once_at_debug2(cluster: Cluster, code: int) -> None:
    """The postmaster logs the exit of a session with 0 or 1 once, at level DEBUG2."""
    session = cluster.session()
    child = session.child
    then = cluster.since()
    if code == 0:
        session.close()
    else:
        cluster.signal_child(child, signal.SIGTERM)
    cluster.expect_death(child)
    name = "client backend" if cluster.major >= 18 else "server process"
    wanted = [("DEBUG", f"{name} (PID {child.pid}) exited with exit code {code}")]
    cluster.wait_for(
        "the line about its exit", lambda: exit_lines(cluster, child.pid, then) == wanted
    )
    cluster.expect_idle()
    assert exit_lines(cluster, child.pid, then) == wanted


@claim("RP-23 RP-22", source=CLEANUP, needs=PARALLEL)
@settings(log_min_messages="debug1")
def test_at_debug1_only_exits_of_background_workers_are_logged(cluster: Cluster) -> None:
    """At debug1 the exit of a background worker with 0 is logged, the exit of a session is not."""
    with cluster.session() as session:
        child = session.child
        run_in_parallel(session)
        then = cluster.since()
        assert session.query("select 1") == [("1",)]
    cluster.expect_death(child)
    cluster.expect_idle()
    lines = then.messages(pid=cluster.pid)
    (started,) = [line for line in lines if line.startswith("starting background worker process")]
    (ended,) = [line for line in lines if " exited with " in line]
    assert re.fullmatch(
        r'background worker "parallel worker" \(PID \d+\) exited with exit code 0', ended
    ), ended
    assert "parallel worker for PID" in started
    assert exit_lines(cluster, child.pid, then) == []


def expect_all_log(cluster: Cluster, since: Since, *wanted: str) -> None:
    """The postmaster has logged these lines, and all its lines have level LOG."""
    records = since.postmaster_records()
    lines = [r.message for r in records]
    assert [line for line in wanted if line not in lines] == []
    assert [str(r) for r in records if r.level != "LOG"] == []


@claim("CR-02 CR-20 SH-02", source="postmaster.c: HandleChildCrash()", needs=CRASH)
def test_levels_of_a_crash_and_an_orderly_shutdown(cluster: Cluster) -> None:
    """The lines about a crash, its restart, a smart and a fast shutdown have level LOG."""
    then = cluster.since()
    cluster.crash(Kind.WALWRITER)
    then.expect_ready()
    session = cluster.session()
    cluster.request_shutdown(SMART, logged=True)
    cluster.request_shutdown(FAST)
    session.expect_end()
    cluster.expect_exit(code=0)
    expect_all_log(
        cluster,
        then,
        TERMINATING,
        "received smart shutdown request",
        "received fast shutdown request",
        "aborting any active transactions",
    )


@claim("CR-22 CR-30 SH-02", source=MACHINE, needs=CRASH)
@pytest.mark.parametrize("end", ["immediate", "abnormal", "no restart"])
def test_levels_of_an_abrupt_shutdown(stopped_cluster: Cluster, end: str) -> None:
    """The lines about an immediate or abnormal shutdown, or no restart, have level LOG."""
    cluster = stopped_cluster
    cluster.configure(restart_after_crash=end != "no restart")
    cluster.start()
    then = cluster.since()
    if end == "immediate":
        cluster.request_shutdown(IMMEDIATE)
    elif end == "abnormal":
        with pin_wait_backends(cluster):
            cluster.crash(Kind.CHECKPOINTER)
    else:
        cluster.crash(Kind.WALWRITER)
    cluster.expect_exit(code=0 if end == "immediate" else 1)
    expect_all_log(cluster, then)
    assert len(then.postmaster_records()) >= 2
