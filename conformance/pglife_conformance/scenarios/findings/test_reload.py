"""A reload that is accepted and forbids the next start, one that is lost, and lines that a setting
causes without end; and a command that waits for the archiver (W12 to W15)."""

import signal

import pytest

from pglife_conformance.base import deadlines
from pglife_conformance.base.findings import Finding
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.standby import ALONE, READ_ONLY_LINE
from pglife_conformance.events import FAST
from pglife_conformance.expect.symptom import Answer, expect_answer
from pglife_conformance.hold.ptrace import CaughtFork
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import Defect, claim, settings

CLIENTS = 5

FORBIDDEN = Answer(
    summary="the next start refuses what a reload has accepted",
    pattern='exit status 1: WAL cannot be summarized when "wal_level" is "minimal"',
)
EACH_TIME = Answer(
    summary="each iteration of the postmaster's loop logs a line",
    pattern=rf"([{CLIENTS}-9]|\d\d+) lines",
)
LOST = Answer("a background worker has not read the file", "1 lines")
WAITS = Answer(
    summary="drop database waits for the archiver's command",
    pattern=r"still waiting for backend with PID \d+ to accept ProcSignalBarrier",
)


@claim(
    *("ST-02", "PR-09"),
    source="postmaster.c: PostmasterMain()",
    needs=[Need.WALSUMMARIZER],
    since=17,
    why="there is no summarize_wal",
    defects=[Defect(Finding.W12, FORBIDDEN, since=17)],
)
@pytest.mark.unmonitored("the model has no WAL summarizer")
@settings(wal_level="minimal", max_wal_senders=0)
def test_a_reload_accepts_what_a_start_accepts(cluster: Cluster) -> None:
    """A server that has accepted summarize_wal at a reload starts with the same file."""
    cluster.reload_and_wait(summarize_wal=True)
    cluster.request_shutdown(FAST)
    cluster.expect_exit(code=0)
    then = cluster.since()
    cluster.start(wait=False)

    def outcome() -> str | None:
        if not cluster.is_running():
            return "exit status 1: " + "; ".join(then.messages("FATAL"))
        return "started" if then.find_log("is ready to accept connections$") else None

    expect_answer(cluster.wait_for("start or exit", outcome, deadlines.START_LIMIT), "started")


@claim(
    "WS-20",
    source="slotsync.c: ValidateSlotSyncParams()",
    needs=[Need.STANDBY],
    since=17,
    why="there is no slot synchronization worker",
    defects=[Defect(Finding.W13, EACH_TIME, since=17)],
)
@pytest.mark.unmonitored("the model has no standbys")
@settings(**ALONE, wal_level="logical", hot_standby_feedback="on", sync_replication_slots="on")
def test_a_missing_setting_is_not_logged_for_each_client(stopped_cluster: Cluster) -> None:
    """A standby with a setting missing for slot synchronization does not log that whenever the
    postmaster is woken."""
    cluster = stopped_cluster
    cluster.write_file("standby.signal")
    cluster.start(wait=False)
    cluster.expect_log(f"^{READ_ONLY_LINE}$", within=deadlines.START_LIMIT)
    cluster.expect_idle()
    then = cluster.since()
    for _ in range(CLIENTS):
        cluster.session().close(wait=True)
    cluster.expect_idle()
    lines = then.log(matching="^replication slot synchronization requires ")
    expect_answer(f"{len(lines)} lines", "[01] lines")


@claim(
    *("BG-18", "MM-22"),
    source="bgworker.c: BackgroundWorkerMain()",
    needs=[Need.OS_SIGNALS, Need.PROCESS_TITLES],
    defects=[Defect(Finding.W14, LOST)],
)
@pytest.mark.unmonitored("a debugger delays a child")
def test_a_reload_right_after_the_fork_of_a_background_worker(cluster: Cluster) -> None:
    """A background worker that was forked just before a reload reads the configuration, too."""
    fork = CaughtFork(cluster)
    old = cluster.signal_child(Kind.LOGICAL_REPLICATION_LAUNCHER, signal.SIGTERM)
    cluster.expect_death(old)
    worker = fork.wait_for_fork()
    fork.release_postmaster()
    # A launcher that has read this does not log its exit, which has level DEBUG1.
    cluster.reload_and_wait(log_min_messages="log")
    fork.release()
    cluster.expect_idle(cluster.child(Kind.LOGICAL_REPLICATION_LAUNCHER, other_than=[old]))
    then = cluster.since()
    cluster.expect_death(cluster.signal_child(cluster.child_with_pid(worker), signal.SIGTERM))
    lines = then.log(pid=worker, matching="^logical replication launcher shutting down$")
    expect_answer(f"{len(lines)} lines", "0 lines")


@claim(
    *("PG-32", "PR-26"),
    source="procsignal.c: WaitForProcSignalBarrier(); shell_archive.c: shell_archive_file()",
    needs=[Need.ARCHIVER, Need.FULL_SQL, Need.SQL_FUNCTIONS, Need.PROCESS_TITLES],
    since=15,
    why="DROP DATABASE waits for no other process",
    defects=[Defect(Finding.W15, WAITS, since=15)],
)
@pytest.mark.unmonitored("the model has no archiver")
@settings(archive_mode="on", archive_command="while [ ! -e gate ]; do sleep 0.01; done")
def test_drop_database_does_not_wait_for_the_archive_command(cluster: Cluster) -> None:
    """DROP DATABASE ends while an archive_command runs."""
    with cluster.session() as session:
        session.query("create database other")
        session.query("select pg_switch_wal()")
        cluster.expect_title(cluster.child(Kind.ARCHIVER), "archiving")
        then = cluster.since()
        session.send_query("drop database other")

        def outcome() -> str | None:
            complaint = then.find_log("^still waiting for backend")
            if not session.is_silent():
                return "done"
            return complaint.message if complaint is not None else None

        found = cluster.wait_for("end or complaint", outcome, deadlines.START_LIMIT)
        cluster.write_file("gate")
        session.result()
        expect_answer(found, "done")
