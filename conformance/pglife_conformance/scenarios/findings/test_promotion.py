"""The end of recovery: an exit at the target at a wrong time, and promotions that wait for ever or
are forgotten (F11 to F14, F16)."""

from typing import Any

import pytest

from pglife_conformance.base import deadlines
from pglife_conformance.base.findings import Finding
from pglife_conformance.base.needs import CRASH, Need
from pglife_conformance.cluster.cluster import Cluster, MakeCluster
from pglife_conformance.cluster.standby import READ_ONLY_LINE, start_pair
from pglife_conformance.events import FAST
from pglife_conformance.expect.lines import READY_LINE, REINITIALIZING, TERMINATING
from pglife_conformance.expect.symptom import Answer, Symptom, expect_answer, where_it_shows
from pglife_conformance.hold.pin import Pin, StoppedPostmaster
from pglife_conformance.hold.ptrace import FollowedChild
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_conformance.pytest.claims import Defect, claim
from pglife_conformance.scenarios.findings.support import (
    HELPERS_15,
    HELPERS_18,
    REAPER,
    expect_end,
    expect_zombie,
)
from pglife_conformance.scenarios.standby.test_end_of_recovery import Barrier, recovering
from pglife_conformance.scenarios.standby.test_promotion import promote
from pglife_spec import PM

pytestmark = pytest.mark.unmonitored("the model has no standbys")

STANDBY = [Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.STANDBY, Need.FULL_SQL]

HELPERS_LEFT: dict[str, Any] = {
    "summary": "the postmaster waits for helpers that ignore its SIGTERM",
    "state": PM.PM_WAIT_BACKENDS,
    "said": ("shutdown at recovery target",),
    "status": PidFileStatus.STARTING,
}
PROMOTION_WAITS = Symptom(
    summary="the startup process waits for a slot synchronization worker that knows of nothing",
    state=PM.PM_HOT_STANDBY,
    left=HELPERS_18 | {Kind.STARTUP, Kind.SLOTSYNC_WORKER},
    said=(),
    status=PidFileStatus.READY,
)
PROMOTION_WAITS_17 = Symptom(
    summary=PROMOTION_WAITS.summary,
    state=PM.PM_HOT_STANDBY,
    left=HELPERS_15 | {Kind.STARTUP, Kind.SLOTSYNC_WORKER},
    said=(),
    status=PidFileStatus.READY,
)
FORGOTTEN = Symptom(
    summary="the server is a standby again",
    state=PM.PM_HOT_STANDBY,
    left=None,
    said=(
        r"checkpointer process \(PID \d+\) was terminated by signal 9: Killed",
        TERMINATING,
        REINITIALIZING,
        READ_ONLY_LINE,
    ),
    status=PidFileStatus.READY,
)
RECEIVING = {Kind.STARTUP, Kind.ARCHIVER, Kind.WALRECEIVER}
REPLAY_WAITS: dict[str, Any] = {
    "summary": "the startup process waits until the archiver's command has ended",
    "state": PM.PM_HOT_STANDBY,
    "said": (),
    "status": PidFileStatus.READY,
}
SECOND_PRIMARY = Answer("the server is a second primary on timeline 1", "primary, timeline 1")


@claim(
    *("INV-91", "RC-10", "TR18-06"),
    source=REAPER,
    needs=[*CRASH, *STANDBY, Need.RESTORE_COMMAND],
    since=15,
    why="the helpers are started when redo begins",
    defects=[
        Defect(Finding.F11, Symptom(left={Kind.CHECKPOINTER}, **HELPERS_LEFT), since=16, until=17),
        Defect(
            Finding.F11,
            Symptom(left={Kind.CHECKPOINTER, Kind.IO_WORKER}, **HELPERS_LEFT),
            since=18,
        ),
    ],
)
def test_the_recovery_target_is_reached_right_after_a_crash(make_cluster: MakeCluster) -> None:
    """A server that crashes while it starts, and then reaches a recovery target with action
    shutdown, exits 0, also if the postmaster looks when the startup process has exited."""
    cluster = recovering(make_cluster, recovery_target_action="shutdown")
    barrier = Barrier(cluster)
    cluster.start(wait=False)
    cluster.expect_log("^database system was shut down at ", within=deadlines.START_LIMIT)
    then = cluster.since()
    cluster.crash(Kind.BACKGROUND_WRITER)
    then.expect_line(REINITIALIZING)
    then.expect_log("^database system was shut down at ", within=deadlines.START_LIMIT)
    startup = cluster.child(Kind.STARTUP)
    cluster.child(Kind.CHECKPOINTER)
    then = cluster.since()
    with StoppedPostmaster(cluster):
        barrier.open()
        expect_zombie(cluster, startup)
    with where_it_shows(then):
        expect_end(cluster, 0, idle=HELPERS_18)


@claim(
    *("INV-105", "WS-22"),
    source="slotsync.c: ReplSlotSyncWorkerMain(), ShutDownSlotSync()",
    needs=[*STANDBY, Need.WALSENDER, Need.SQL_FUNCTIONS],
    since=17,
    why="there is no slot synchronization worker",
    defects=[
        Defect(Finding.F12, PROMOTION_WAITS_17, since=17, until=17),
        Defect(Finding.F12, PROMOTION_WAITS, since=18),
    ],
)
def test_promotion_while_the_slotsync_worker_starts(make_cluster: MakeCluster) -> None:
    """A promotion ends although the slot synchronization worker is just starting when the startup
    process asks it to stop."""
    standby = start_pair(make_cluster).standby
    worker = FollowedChild(standby)
    standby.reload(sync_replication_slots=True)
    # Until it blocks no signal: it has noted its pid for the startup process, and has no slot yet
    # in the array through which it is signalled.
    worker.masks()
    then = standby.since()
    promote(standby)
    with standby.session() as session:
        asks = "select wait_event from pg_stat_activity where backend_type = 'startup'"
        session.expect_rows(asks, [("ReplicationSlotsyncShutdown",)])
        session.close(wait=True)
    worker.release()
    with where_it_shows(then):
        then.expect_line(READY_LINE)


@claim(
    *("INV-105", "PG-32", "PR-26"),
    source="procsignal.c: WaitForProcSignalBarrier(); dbcommands.c: dbase_redo()",
    needs=[*STANDBY, Need.WALSENDER, Need.ARCHIVER],
    since=15,
    why="no process waits for others when a database is dropped",
    defects=[
        Defect(
            Finding.F14, Symptom(left=HELPERS_15 | RECEIVING, **REPLAY_WAITS), since=15, until=17
        ),
        Defect(Finding.F14, Symptom(left=HELPERS_18 | RECEIVING, **REPLAY_WAITS), since=18),
    ],
)
def test_promotion_while_the_archive_command_hangs(make_cluster: MakeCluster) -> None:
    """A standby that archives is promoted although its archive_command hangs and it has to replay
    the drop of a database."""
    hangs = "while [ ! -e gate ]; do sleep 0.01; done"
    pair = start_pair(make_cluster, archive_mode="always", archive_command=hangs)
    standby = pair.standby
    with pair.primary.session() as session:
        session.query("create database other")
        session.query("select pg_switch_wal()")
        standby.expect_title(standby.child(Kind.ARCHIVER), "archiving")
        session.query("drop database other")
        ((dropped,),) = session.query("select pg_current_wal_lsn()")
    with standby.session() as session:
        received = f"select pg_last_wal_receive_lsn() >= '{dropped}'"
        session.expect_rows(received, [("t",)])
        session.close(wait=True)
    then = standby.since()
    promote(standby)
    try:
        with where_it_shows(then):
            then.expect_line(READY_LINE)
    finally:
        standby.write_file("gate")


@claim(
    *("INV-105", "TF-01"),
    source="xlogrecovery.c: CheckForStandbyTrigger()",
    needs=[*CRASH, *STANDBY, Need.WALSENDER],
    defects=[Defect(Finding.F16, FORGOTTEN)],
)
def test_a_crash_during_a_promotion(make_cluster: MakeCluster) -> None:
    """A promotion that was requested is carried out although a child crashes before it is done."""
    pair = start_pair(make_cluster)
    standby = pair.standby
    # The startup process waits for the end of the walreceiver before it writes anything.
    with Pin(standby, pair.walreceiver()):
        then = standby.since()
        promote(standby)
        then.expect_line("received promote request")
        standby.expect_no_file("promote")
        standby.crash(Kind.CHECKPOINTER)
        then.expect_line(TERMINATING)
    then.expect_log(f"^({READ_ONLY_LINE}|{READY_LINE})$", within=deadlines.CRASH_RESTART_LIMIT)
    with where_it_shows(then):
        then.expect_line(READY_LINE)


@claim(
    *("INV-105", "RC-12", "TF-05"),
    source="xlog.c: StartupXLOG(); timeline.c: writeTimeLineHistory()",
    needs=[*STANDBY, Need.WALSENDER, Need.RESTORE_COMMAND, Need.SQL_FUNCTIONS],
    defects=[Defect(Finding.F13, SECOND_PRIMARY)],
)
def test_shutdown_during_a_promotion(make_cluster: MakeCluster) -> None:
    """A standby that is shut down while it is being promoted is a standby at its next start, or a
    primary on a timeline of its own."""
    gate = "while [ ! -e gate ]; do sleep 0.01; done"
    wait = f"case %f in 00000001.history) {gate};; esac; false"
    pair = start_pair(make_cluster, restore_command=wait)
    standby = pair.standby
    then = standby.since()
    promote(standby)
    then.expect_line("selected new timeline ID: 2")
    standby.expect_no_file("standby.signal")
    standby.request_shutdown(FAST)
    standby.expect_exit(code=0)
    standby.write_file("gate")
    then = standby.since()
    standby.start(wait=False)
    opened = f"^({READ_ONLY_LINE}|{READY_LINE})$"
    then.expect_log(opened, within=deadlines.START_LIMIT)
    expect_answer(role_of(standby), "standby|primary, timeline 2")


def role_of(cluster: Cluster) -> str:
    """Whether the server is a primary, and on which timeline it writes."""
    with cluster.session() as session:
        if session.query("select pg_is_in_recovery()") == [("t",)]:
            return "standby"
        ((name,),) = session.query("select pg_walfile_name(pg_current_wal_lsn())")
        assert name is not None
        return f"primary, timeline {int(name[:8], 16)}"
