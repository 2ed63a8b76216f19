"""The postmaster's event loop: it acts once on each event, and on nothing else.

Source: postmaster.c: ServerLoop(), CleanupBackend(), signal_child().
"""

import contextlib
import os
import signal

import pytest

from pglife_conformance.base.ids import Pid
from pglife_conformance.base.needs import SIGNALS, Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import FAST, IMMEDIATE, SMART, ShutdownMode
from pglife_conformance.hold.fork_limit import lift_limit
from pglife_conformance.hold.pin import StoppedPostmaster
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import children_of, read_stat
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.signals.test_optional_processes import parallel_worker
from pglife_conformance.scenarios.signals.test_sent_by_the_postmaster import expect_words
from pglife_conformance.scenarios.support.event_loop import expect_asleep
from pglife_conformance.scenarios.support.failing_forks import (
    AT_BARRIER,
    QUIET,
    open_without_checkpointer,
)

LOOP = "postmaster.c: ServerLoop()"
SLEEP = "postmaster.c: DetermineSleepTime()"
MACHINE = "postmaster.c: PostmasterStateMachine()"
PARALLEL = [*SIGNALS, Need.FULL_SQL, Need.SQL_FUNCTIONS]
WORDS_18 = "releases before do not log the signals that they send"
TAKEN = {
    signal.SIGUSR1: "postmaster received pmsignal signal",
    signal.SIGHUP: "postmaster received reload request signal",
    signal.SIGTERM: "postmaster received shutdown request signal",
    signal.SIGCHLD: "reaping dead processes",
}


@claim("SG-01 RP-22", source=LOOP, since=18, why="releases before log only some of these lines")
@settings(log_min_messages="debug4", autovacuum="off", max_logical_replication_workers="0")
def test_postmaster_takes_each_signal_once(cluster: Cluster) -> None:
    """The postmaster acts on a signal in the next loop iteration, and in no later one."""
    with cluster.session():
        cluster.expect_idle()
        for number, line in TAKEN.items():
            then = cluster.since()
            if number is signal.SIGTERM:
                cluster.request_shutdown(SMART)
            else:
                cluster.signal_postmaster(number)
            then.expect_log(f"^{line}$")
            cluster.expect_idle()
            lines = [r.message for r in then.log() if r.message in TAKEN.values()]
            assert lines == [line]


@claim("SL-06 BG-12 BG-14", source=SLEEP, needs=PARALLEL)
def test_worker_awaiting_restart_does_not_affect_a_running_one(cluster: Cluster) -> None:
    """While one background worker awaits its restart, a running one stays registered."""
    with parallel_worker(cluster) as (_, worker):
        then = cluster.since()
        cluster.end_child(Kind.LOGICAL_REPLICATION_LAUNCHER, signal.SIGTERM)
        then.expect_log("exited with exit code 1$")
        expect_asleep(cluster)
        then.expect_no_log("^unregistering background worker")
        assert worker.key in {kid.key for kid in cluster.children()}


@claim("SL-09 SL-10", source=LOOP)
def test_socket_files_keep_their_times_in_the_first_hour(cluster: Cluster) -> None:
    """The socket and its lock file keep their times, whatever wakes the postmaster."""

    def times() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in cluster.socket_directory.iterdir()}

    before = times()
    assert len(before) == 2
    with cluster.session():
        cluster.reload_and_wait()
    cluster.expect_idle()
    assert times() == before


@claim("SL-01", source=LOOP, needs=[Need.SIGNAL_LOG], since=18, why=WORDS_18)
@settings(log_min_messages="debug4")
def test_reload_does_nothing_but_reload(cluster: Cluster) -> None:
    """A reload does not make the postmaster reap, and every signal that it sends arrives."""
    cluster.expect_idle()
    then = cluster.since()
    cluster.reload_and_wait()
    cluster.expect_idle()
    then.expect_log("sending signal 1/SIGHUP to checkpointer")
    for unexpected in ("^reaping dead processes$", "^received .* shutdown", r"^kill\("):
        then.expect_no_log(unexpected)
    then = cluster.since()
    cluster.stop()
    then.expect_no_log(r"^kill\(")


@claim("PR-26 SE-20", source="postmaster.c: signal_child()", needs=[*SIGNALS, Need.FULL_SQL])
@pytest.mark.unmonitored("the model has no children of children")
@pytest.mark.parametrize("mode", [FAST, IMMEDIATE])
def test_signal_reaches_the_program_that_a_child_has_started(
    cluster: Cluster, mode: ShutdownMode
) -> None:
    """A program that a session has started receives the session's signal, and exits with it."""
    session = cluster.session()
    session.query("create table target (a int)")
    session.send_query("copy target from program 'exec sleep 60'")
    backend = session.child.pid

    def started() -> Pid | None:
        kids = children_of(backend)
        return next((pid for pid in kids if _command(pid) == "sleep"), None)

    program = cluster.wait_for("the program", started)
    stat = read_stat(program)
    assert stat is not None
    began = stat.start_time
    cluster.stop(mode)
    cluster.wait_for("the program to exit", lambda: _has_ended(program, began))
    with contextlib.suppress(ChildProcessError):
        os.waitpid(program, os.WNOHANG)


def _command(pid: Pid) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def _has_ended(pid: Pid, start_time: int) -> bool:
    stat = read_stat(pid)
    return stat is None or stat.start_time != start_time or stat.state in "ZX"


@claim("SM-05 TR18-22 TR17-19 PR-02", source=MACHINE, needs=AT_BARRIER)
@QUIET
def test_checkpointer_is_forked_for_the_last_checkpoint(counted_cluster: Cluster) -> None:
    """A fast shutdown without a checkpointer forks one, which writes the shutdown checkpoint."""
    cluster = counted_cluster
    open_without_checkpointer(cluster)
    then = cluster.since()
    with StoppedPostmaster(cluster):
        lift_limit(cluster)
        cluster.request_shutdown(FAST)
    cluster.expect_exit(code=0)
    then.expect_log("^checkpoint complete: ")


@claim(
    "SM-06 TR18-23 CR-06",
    source=MACHINE,
    needs=[*AT_BARRIER, Need.SIGNAL_LOG, Need.IO_WORKERS],
    since=18,
    why=WORDS_18,
)
@QUIET
@settings(send_abort_for_crash="on", log_min_messages="debug3")
def test_no_child_receives_abrt_when_a_fork_fails(counted_cluster: Cluster) -> None:
    """When no checkpointer can be forked the other children receive QUIT, never ABRT."""
    cluster = counted_cluster
    open_without_checkpointer(cluster)
    then = cluster.since()
    cluster.request_shutdown(FAST)
    cluster.expect_exit(code=1)
    expect_words(cluster, [(signal.SIGQUIT, "io worker")] * 3, then)


"""Of the time until the postmaster kills; one that spins is awake all the time."""
