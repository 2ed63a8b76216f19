"""A standby's own processes: who is started in which state, whose end is a crash, who comes again.

Source       rules PR-02 to PR-10, RP-14 to RP-20, SG-19, RC-06, RC-10, RC-15, TR18-06, SM-22,
             WS-20, WS-21, INV-42; postmaster.c: LaunchMissingBackgroundProcesses(),
             process_pm_child_exit().
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from pglife_conformance.base import deadlines
from pglife_conformance.base.needs import Need
from pglife_conformance.base.refusals import CANNOT_CONNECT_NOW, SHUTTING_DOWN
from pglife_conformance.cluster.cluster import Cluster, MakeCluster
from pglife_conformance.cluster.standby import (
    ALONE,
    ARCHIVES_ALWAYS,
    READ_ONLY_LINE,
    Pair,
    start_pair,
    stop,
    walsender,
)
from pglife_conformance.events import FAST, SMART, ShutdownMode
from pglife_conformance.expect.lines import (
    REINITIALIZING,
    SHUT_DOWN,
    TERMINATING,
    exited_line,
    killed_line,
)
from pglife_conformance.hold.pin import Pin
from pglife_conformance.hold.startup_barrier import pin_startup_at_birth
from pglife_conformance.observation.control_file import ControlState
from pglife_conformance.observation.idle import IdleProbe
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_conformance.observation.processes import Child
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.signals.test_sent_by_the_postmaster import expect_told

REAPER = "postmaster.c: process_pm_child_exit()"
LAUNCH = "postmaster.c: LaunchMissingBackgroundProcesses()"
STANDBY = [Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.FULL_SQL, Need.STANDBY]
CRASH = [*STANDBY, Need.CRASH_INJECTION]
ARCHIVING = [*STANDBY, Need.ARCHIVER]
TARGETED = [*ARCHIVING, Need.WALSENDER, Need.SQL_FUNCTIONS]

pytestmark = pytest.mark.unmonitored("standbys are beyond the model")

KILL_QUIT = pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGQUIT], ids=lambda number: number.name
)


@pytest.fixture
def pair(make_cluster: MakeCluster) -> Pair:
    """A hot standby that streams."""
    return start_pair(make_cluster, wal_retrieve_retry_interval="10ms")


def another(cluster: Cluster, old: Child) -> Child:
    """Wait for the one that takes the place of this child."""
    return cluster.wait_for(
        f"another {old.kind} than {old.pid}",
        lambda: next((kid for kid in cluster.children(old.kind) if kid.key != old.key), None),
    )


def ended_line(cluster: Cluster, victim: Child, number: signal.Signals) -> str:
    """What the postmaster says of a child that was sent KILL or QUIT."""
    killed = number is signal.SIGKILL
    return killed_line(cluster, victim) if killed else exited_line(cluster, victim, 2)


SLOTSYNC_AGAIN_S = 9.0
"""So long after its birth no other slotsync worker comes: whole seconds are counted, up to ten."""


def age_s(child: Child) -> float:
    """How long ago it was born, whether it lives or not."""
    born = child.start_time / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - born


def kinds_of(cluster: Cluster) -> set[Kind]:
    """Who is there."""
    return {kid.kind for kid in cluster.children()}


# Ends.


@claim("RP-15", "SG-18", "PR-08", "RC-15", source=REAPER, needs=STANDBY)
def test_walreceiver_that_exits_1_is_replaced(pair: Pair) -> None:
    """A walreceiver that TERM ends with 1 is no crash; the startup process asks for another."""
    standby = pair.standby
    then = standby.since()
    victim = standby.signal_child(Kind.WALRECEIVER, signal.SIGTERM)
    standby.expect_death(victim)
    another(standby, victim)
    then.expect_postmaster_lines([])
    stop(standby)


@claim("RP-15", "SG-18", "CR-02", source=REAPER, needs=CRASH)
@KILL_QUIT
def test_walreceiver_that_dies_is_a_crash(pair: Pair, number: signal.Signals) -> None:
    """A walreceiver that a signal ended, or that exits 2, is a crash and is named."""
    standby = pair.standby
    then = standby.since()
    victim = standby.signal_child(Kind.WALRECEIVER, number)
    then.expect_log(f"^{READ_ONLY_LINE}$", within=deadlines.CRASH_RESTART_LIMIT)
    lines = [ended_line(standby, victim, number), TERMINATING, REINITIALIZING, READ_ONLY_LINE]
    then.expect_postmaster_lines(lines)
    stop(standby)


@claim("RP-20", "SG-19", "PR-10", source=REAPER, needs=STANDBY, since=17)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_slotsync_worker_may_end(make_cluster: MakeCluster, number: signal.Signals) -> None:
    """A slotsync worker that exits 0 (INT) or 1 (TERM) is no crash; none comes at once."""
    standby = start_pair(make_cluster, slotsync=True).standby
    victim = standby.child(Kind.SLOTSYNC_WORKER)
    then = standby.since()
    others = {kid.key for kid in standby.children()} - {victim.key}
    standby.signal_child(victim, number)
    standby.expect_death(victim)
    standby.signal_postmaster(signal.SIGUSR1)

    def as_wanted() -> bool:
        there = {kid.key for kid in standby.children()}
        # Looked at first: where that took so long another worker may have come in its time.
        return there == others or (age_s(victim) >= SLOTSYNC_AGAIN_S and there > others)

    standby.expect_still("nobody else ends, no slotsync worker comes", as_wanted, 0.3)
    then.expect_postmaster_lines([])
    stop(standby)


@claim("RP-20", "SG-19", "CR-02", source=REAPER, needs=CRASH, since=17)
@KILL_QUIT
def test_slotsync_worker_that_dies_is_a_crash(
    make_cluster: MakeCluster, number: signal.Signals
) -> None:
    """A slotsync worker that a signal ended, or that exits 2, is a crash and is named."""
    standby = start_pair(make_cluster, slotsync=True).standby
    then = standby.since()
    victim = standby.signal_child(Kind.SLOTSYNC_WORKER, number)
    then.expect_log(f"^{READ_ONLY_LINE}$", within=deadlines.CRASH_RESTART_LIMIT)
    lines = [ended_line(standby, victim, number), TERMINATING, REINITIALIZING, READ_ONLY_LINE]
    then.expect_postmaster_lines(lines)
    stop(standby)


# Who comes again.


@claim("SM-22", "RC-15", "PR-03", "PR-08", "PR-09", source=LAUNCH, needs=STANDBY)
def test_a_standbys_processes_come_again_while_a_smart_shutdown_waits(
    make_cluster: MakeCluster,
) -> None:
    """While a session holds a smart shutdown a hot standby goes on: whoever ends is replaced."""
    pair = start_pair(make_cluster, summarize=True, wal_retrieve_retry_interval="10ms")
    standby = pair.standby
    kinds = [Kind.BACKGROUND_WRITER, Kind.WALRECEIVER]
    if standby.target.version.major >= 17:
        kinds.append(Kind.WALSUMMARIZER)
    session = standby.session()
    then = standby.since()
    standby.request_shutdown(SMART)
    then.expect_line("received smart shutdown request")
    refusal = standby.refusal_of_new_client()
    assert (refusal.sqlstate, refusal.message) == (CANNOT_CONNECT_NOW, SHUTTING_DOWN)
    for kind in kinds:
        victim = standby.signal_child(standby.child(kind), signal.SIGTERM)
        standby.expect_death(victim)
        another(standby, victim)
    assert session.query("select 1") == [("1",)]
    then.expect_postmaster_lines(["received smart shutdown request"])
    session.close()
    standby.expect_exit(code=0)
    assert standby.controldata_state() is ControlState.SHUT_DOWN_IN_RECOVERY


@claim("SM-22", "PR-10", "SG-02", source=LAUNCH, needs=STANDBY, since=17)
def test_slotsync_worker_comes_while_a_smart_shutdown_waits(make_cluster: MakeCluster) -> None:
    """While a session holds a smart shutdown a reload is obeyed, and a slotsync worker comes that
    was not wanted before; it goes with the server."""
    standby = start_pair(make_cluster).standby
    session = standby.session()
    then = standby.since()
    standby.request_shutdown(SMART)
    then.expect_line("received smart shutdown request")
    assert standby.children(Kind.SLOTSYNC_WORKER) == []
    standby.reload(sync_replication_slots=True)
    worker = standby.child(Kind.SLOTSYNC_WORKER)
    assert session.query("select 1") == [("1",)]
    session.close()
    standby.expect_exit(code=0)
    then.expect_no_log(rf"[(]PID {worker.pid}[)] was terminated")
    assert standby.controldata_state() is ControlState.SHUT_DOWN_IN_RECOVERY


def _faults_of_reaped(cluster: Cluster) -> int:
    """The page faults of all children that the postmaster has reaped: more with each of them."""
    stat = Path(f"/proc/{cluster.pid}/stat").read_text(encoding="utf-8")
    return int(stat.rpartition(")")[2].split()[8])


@claim("PR-08", "RC-15", "PG-08", source=LAUNCH, needs=STANDBY)
def test_no_walreceiver_that_nobody_asked_for(make_cluster: MakeCluster) -> None:
    """Whoever wakes the postmaster, a walreceiver comes only when the startup process asks."""
    standby = start_pair(make_cluster, wal_retrieve_retry_interval="1h").standby
    rests = [IdleProbe(standby.child(Kind.STARTUP).pid), IdleProbe(standby.pid)]
    others = {Kind.STARTUP, Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER}
    ended = set()

    def all_reaped() -> bool:
        # One that has just been forked has no kind yet; one that has not been reaped is there.
        kids = standby.watcher.look().kids
        return {kid.kind for kid in kids} - {Kind.IO_WORKER} == others

    def is_without() -> bool:
        # The first that ends may be replaced at once, for nothing has failed within the hour.
        for victim in standby.children(Kind.WALRECEIVER):
            if victim.key not in ended:
                ended.add(victim.key)
                standby.signal_child(victim, signal.SIGTERM)
        # In this order: what the startup process has asked for, the postmaster has done when it
        # rests, too.
        return all_reaped() and all(rest.is_idle() for rest in rests) and all_reaped()

    standby.wait_for("a standby without a walreceiver", is_without)
    before = _faults_of_reaped(standby)
    for _ in range(3):
        standby.signal_postmaster(signal.SIGUSR1)
        standby.expect_no_child(Kind.WALRECEIVER, 0.1)
    # Not even one that was too short to be seen.
    assert _faults_of_reaped(standby) == before
    standby.reload(wal_retrieve_retry_interval="10ms")
    standby.child(Kind.WALRECEIVER, deadlines.START_LIMIT)
    stop(standby)


@claim("PR-07", "AR-06", "PR-10", "MM-24", source=LAUNCH, needs=ARCHIVING)
@pytest.mark.waits_long
def test_archiver_and_slotsync_worker_come_again_after_ten_seconds(
    make_cluster: MakeCluster,
) -> None:
    """In PM_RUN, PM_RECOVERY and PM_HOT_STANDBY, also while a smart shutdown waits, whoever may
    not come at once comes when something wakes the postmaster after ten seconds."""
    hot = start_pair(make_cluster, slotsync=True, **ARCHIVES_ALWAYS).standby
    cold = make_cluster(**ALONE, hot_standby="off", **ARCHIVES_ALWAYS)
    cold.write_file("standby.signal")
    cold.start(wait=False)
    primary = make_cluster(archive_mode="on", archive_command="true")
    primary.start()
    throttled = [(one, Kind.ARCHIVER) for one in (hot, cold, primary)]
    if hot.target.version.major >= 17:
        throttled.append((hot, Kind.SLOTSYNC_WORKER))
    with hot.session():
        gone = []
        for cluster, kind in throttled:
            number = signal.SIGUSR2 if kind is Kind.ARCHIVER else signal.SIGTERM
            child = cluster.child(kind, deadlines.START_LIMIT)
            gone.append((cluster, cluster.signal_child(child, number)))
        for cluster, child in gone:
            cluster.expect_death(child)
        then = hot.since()
        hot.request_shutdown(SMART)
        then.expect_line("received smart shutdown request")
        for cluster, child in gone:
            _wake_until_another_has_come(cluster, child)
    hot.expect_exit(code=0)
    stop(cold, primary)


def _wake_until_another_has_come(cluster: Cluster, old: Child) -> None:
    def come() -> bool:
        cluster.signal_postmaster(signal.SIGUSR1)
        return any(kid.key != old.key for kid in cluster.children(old.kind))

    cluster.wait_for(f"another {old.kind} in its time", come, 2 * deadlines.REACTION_LIMIT)


# Who is there in which state.


@claim("PR-07", "PR-09", "PR-10", "PR-04", "INV-42", "AR-01", source=LAUNCH, needs=ARCHIVING)
@settings(**ARCHIVES_ALWAYS, **ALONE)
def test_who_is_not_there_in_pm_startup(stopped_cluster: Cluster) -> None:
    """In PM_STARTUP of a standby there is neither archiver nor summarizer nor walreceiver."""
    cluster = stopped_cluster
    if cluster.target.version.major >= 17:
        cluster.configure(summarize_wal=True)
    cluster.write_file("standby.signal")
    early = {Kind.STARTUP, Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER}

    def as_wanted() -> bool:
        return kinds_of(cluster) - {Kind.IO_WORKER} == early

    with pin_startup_at_birth(cluster):
        cluster.wait_for("those of PM_STARTUP", as_wanted)
        cluster.signal_postmaster(signal.SIGUSR1)
        cluster.expect_still("nobody else", as_wanted, 0.2)
    cluster.expect_log(f"^{READ_ONLY_LINE}$", within=deadlines.START_LIMIT)
    wanted = early | {Kind.ARCHIVER}
    if cluster.target.version.major >= 17:
        wanted |= {Kind.WALSUMMARIZER}
    cluster.wait_for("those of a hot standby", lambda: kinds_of(cluster) >= wanted)
    stop(cluster)


@claim("PR-07", "PR-09", "INV-42", "RC-06", "AR-01", source=LAUNCH, needs=ARCHIVING)
@pytest.mark.parametrize("mode", ["on", "always"])
def test_who_is_there_in_pm_recovery(stopped_cluster: Cluster, mode: ShutdownMode) -> None:
    """In PM_RECOVERY there is no summarizer, and an archiver only with archive_mode = always."""
    cluster = stopped_cluster
    cluster.configure(**ALONE, hot_standby="off", archive_mode=mode, archive_command="true")
    if cluster.target.version.major >= 17:
        cluster.configure(summarize_wal=True, sync_replication_slots=True)
    cluster.write_file("standby.signal")
    cluster.start(wait=False)
    cluster.expect_pid_file(PidFileStatus.STANDBY, deadlines.START_LIMIT)
    wanted = {Kind.STARTUP, Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER}
    if mode == "always":
        wanted |= {Kind.ARCHIVER}

    def as_wanted() -> bool:
        return kinds_of(cluster) - {Kind.IO_WORKER} == wanted

    cluster.wait_for("those of PM_RECOVERY", as_wanted)
    cluster.signal_postmaster(signal.SIGUSR1)
    cluster.expect_still("nobody else", as_wanted, 0.2)
    then = cluster.since()
    victim = cluster.signal_child(Kind.BACKGROUND_WRITER, signal.SIGTERM)
    cluster.expect_death(victim)
    another(cluster, victim)
    then.expect_postmaster_lines([])
    stop(cluster)


@claim("WS-20", "PR-10", source=LAUNCH, needs=STANDBY, since=17)
@settings(**ALONE, wal_level="logical", hot_standby_feedback="on", sync_replication_slots="on")
def test_no_slotsync_worker_with_wrong_settings(stopped_cluster: Cluster) -> None:
    """Where a setting is missing no slotsync worker is started, and the log says why."""
    cluster = stopped_cluster
    cluster.write_file("standby.signal")
    cluster.start(wait=False)
    cluster.expect_log(f"^{READ_ONLY_LINE}$", within=deadlines.START_LIMIT)
    told = cluster.expect_log("^replication slot synchronization requires ")
    assert (told.level, told.pid) == ("LOG", cluster.pid)
    cluster.expect_no_child(Kind.SLOTSYNC_WORKER, 0.2)
    stop(cluster)


# The end of recovery by its target.


@claim("TR18-06", "TR17-06", "RC-09", "RC-10", "SG-02", "SH-03", source=REAPER, needs=TARGETED)
def test_shutdown_at_the_recovery_target(make_cluster: MakeCluster) -> None:
    """A startup process that exits 3 is a smart shutdown, but everybody is told TERM at once,
    archiver and walsender too; a reload is obeyed and a fast request is heard."""
    target: dict[str, Any] = {
        "recovery_target_name": "here",
        "recovery_target_action": "shutdown",
    }
    pair = start_pair(make_cluster, **target, **ARCHIVES_ALWAYS)
    standby = pair.standby
    held = [standby.session().child, walsender(standby).child]
    held += [standby.child(kind) for kind in (Kind.BACKGROUND_WRITER, Kind.ARCHIVER)]
    # Asleep: one stopped with a lock or a page in hand would hold recovery.
    rests = [IdleProbe(child.pid) for child in held]
    standby.wait_for("all of them to rest", lambda: all(rest.is_idle() for rest in rests))
    pins = [Pin(standby, child) for child in held]
    then = standby.since()
    with pair.primary.session() as session:
        session.query("select pg_create_restore_point('here')")
        session.query("create table something ()")
    then.expect_line("shutdown at recovery target", deadlines.START_LIMIT)
    expect_told(standby, {pin.child: {signal.SIGTERM} for pin in pins})
    assert [(r.level, r.message) for r in then.postmaster_records()] == [
        ("LOG", "shutdown at recovery target")
    ]
    assert standby.pid_file_status() is PidFileStatus.READY
    assert standby.refusal_of_new_client().message == SHUTTING_DOWN
    standby.request_shutdown(SMART)
    standby.reload()
    then.expect_line("received SIGHUP, reloading configuration files")
    standby.request_shutdown(FAST)
    then.expect_line("received fast shutdown request")
    assert then.postmaster_lines()[1:] == [
        "received SIGHUP, reloading configuration files",
        "received fast shutdown request",
    ]
    standby.release_everything()
    standby.expect_exit(code=0)
    assert then.postmaster_lines()[-1] == SHUT_DOWN
    assert standby.controldata_state() is ControlState.SHUT_DOWN_IN_RECOVERY
    assert (standby.data / "standby.signal").exists()
