"""A standby's processes: in which state each starts, which exits are crashes, which are replaced.

Source: rules PR-02 to PR-10, RP-14 to RP-20, SG-19, RC-06, RC-10, RC-15, TR18-06, SM-22,
WS-20, WS-21, INV-42; postmaster.c: LaunchMissingBackgroundProcesses(),
process_pm_child_exit().
"""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from pglife_conformance.base import deadlines
from pglife_conformance.base.needs import Need
from pglife_conformance.base.refusals import SHUTTING_DOWN
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
from pglife_conformance.expect.lines import REINITIALIZING, SHUT_DOWN, TERMINATING, death_line
from pglife_conformance.hold.pin import Pin
from pglife_conformance.hold.startup_barrier import pin_startup_at_birth
from pglife_conformance.observation.control_file import ControlState
from pglife_conformance.observation.idle import IdleProbe
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_conformance.observation.processes import Child
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.signals.test_sent_by_the_postmaster import expect_each_pending
from pglife_conformance.scenarios.support.signals import KILL_QUIT, each_signal

REAPER = "postmaster.c: process_pm_child_exit()"
LAUNCH = "postmaster.c: LaunchMissingBackgroundProcesses()"
STANDBY = [Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.FULL_SQL, Need.STANDBY]
CRASH = [*STANDBY, Need.CRASH_INJECTION]
ARCHIVING = [*STANDBY, Need.ARCHIVER]
TARGETED = [*ARCHIVING, Need.WALSENDER, Need.SQL_FUNCTIONS]


@pytest.fixture
def pair(make_cluster: MakeCluster) -> Pair:
    """A hot standby that streams."""
    return start_pair(make_cluster, wal_retrieve_retry_interval="10ms")


SLOTSYNC_AGAIN_S = 9.0
"""No other slotsync worker is launched so soon after a launch: ten seconds, less rounding."""


def age_s(child: Child) -> float:
    """How long ago this child was forked, whether it still runs or not."""
    born = child.start_time / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - born


def kinds_of(cluster: Cluster) -> set[Kind]:
    """The kinds of the living children."""
    return {kid.kind for kid in cluster.children()}


# Ends.


@claim("RP-15 SG-18 PR-08 RC-15", source=REAPER, needs=STANDBY)
def test_walreceiver_that_exits_1_is_replaced(pair: Pair) -> None:
    """A walreceiver that exits 1 at TERM is no crash; the startup process requests another."""
    standby = pair.standby
    then = standby.since()
    victim = standby.end_child(Kind.WALRECEIVER, signal.SIGTERM)
    standby.child(victim.kind, other_than=victim)
    then.expect_postmaster_lines([])
    stop(standby)


@claim("RP-15 SG-18 CR-02", source=REAPER, needs=CRASH)
@KILL_QUIT
def test_walreceiver_that_dies_is_a_crash(pair: Pair, number: signal.Signals) -> None:
    """A walreceiver that is killed, or exits 2, is a crash and is named in the log."""
    standby = pair.standby
    then = standby.since()
    victim = standby.signal_child(Kind.WALRECEIVER, number)
    then.expect_log(f"^{READ_ONLY_LINE}$", within=deadlines.CRASH_RESTART_LIMIT)
    lines = [death_line(standby, victim, number), TERMINATING, REINITIALIZING, READ_ONLY_LINE]
    then.expect_postmaster_lines(lines)
    stop(standby)


@claim("RP-20 SG-19 PR-10", source=REAPER, needs=STANDBY, since=17)
@each_signal(signal.SIGINT, signal.SIGTERM)
def test_slotsync_worker_may_end(make_cluster: MakeCluster, number: signal.Signals) -> None:
    """A slotsync worker that exits 0 (INT) or 1 (TERM) is no crash; it is not replaced at once."""
    standby = start_pair(make_cluster, slotsync=True).standby
    victim = standby.child(Kind.SLOTSYNC_WORKER)
    then = standby.since()
    others = {kid.key for kid in standby.children()} - {victim.key}
    standby.end_child(victim, number)
    standby.signal_postmaster(signal.SIGUSR1)

    def as_wanted() -> bool:
        there = {kid.key for kid in standby.children()}
        # Read before the age: after a slow look another worker may have been launched in time.
        return there == others or (age_s(victim) >= SLOTSYNC_AGAIN_S and there > others)

    standby.expect_still("no other child exits, no slotsync worker starts", as_wanted, 0.3)
    then.expect_postmaster_lines([])
    stop(standby)


@claim("RP-20 SG-19 CR-02", source=REAPER, needs=CRASH, since=17)
@KILL_QUIT
def test_slotsync_worker_that_dies_is_a_crash(
    make_cluster: MakeCluster, number: signal.Signals
) -> None:
    """A slotsync worker that is killed, or exits 2, is a crash and is named in the log."""
    standby = start_pair(make_cluster, slotsync=True).standby
    then = standby.since()
    victim = standby.signal_child(Kind.SLOTSYNC_WORKER, number)
    then.expect_log(f"^{READ_ONLY_LINE}$", within=deadlines.CRASH_RESTART_LIMIT)
    lines = [death_line(standby, victim, number), TERMINATING, REINITIALIZING, READ_ONLY_LINE]
    then.expect_postmaster_lines(lines)
    stop(standby)


# Replacements.


@claim("SM-22 RC-15 PR-03 PR-08 PR-09", source=LAUNCH, needs=STANDBY)
def test_processes_of_a_standby_are_replaced_while_a_smart_shutdown_waits(
    make_cluster: MakeCluster,
) -> None:
    """While a smart shutdown waits for a session a hot standby replaces children that exit."""
    pair = start_pair(make_cluster, summarize=True, wal_retrieve_retry_interval="10ms")
    standby = pair.standby
    kinds = [Kind.BACKGROUND_WRITER, Kind.WALRECEIVER]
    if standby.major >= 17:
        kinds.append(Kind.WALSUMMARIZER)
    session = standby.session()
    then = standby.since()
    standby.request_shutdown(SMART, logged=True)
    standby.expect_refusal(SHUTTING_DOWN)
    for kind in kinds:
        victim = standby.end_child(standby.child(kind), signal.SIGTERM)
        standby.child(victim.kind, other_than=victim)
    assert session.query("select 1") == [("1",)]
    then.expect_postmaster_lines(["received smart shutdown request"])
    session.close()
    standby.expect_exit(code=0)
    assert standby.controldata_state() is ControlState.SHUT_DOWN_IN_RECOVERY


@claim("SM-22 PR-10 SG-02", source=LAUNCH, needs=STANDBY, since=17)
def test_slotsync_worker_starts_while_a_smart_shutdown_waits(make_cluster: MakeCluster) -> None:
    """While a smart shutdown waits for a session, a reload that enables slot synchronization starts
    a slotsync worker; it exits with the server."""
    standby = start_pair(make_cluster).standby
    session = standby.session()
    then = standby.since()
    standby.request_shutdown(SMART, logged=True)
    assert standby.children(Kind.SLOTSYNC_WORKER) == []
    standby.reload(sync_replication_slots=True)
    worker = standby.child(Kind.SLOTSYNC_WORKER)
    assert session.query("select 1") == [("1",)]
    session.close()
    standby.expect_exit(code=0)
    then.expect_no_log(rf"[(]PID {worker.pid}[)] was terminated")
    assert standby.controldata_state() is ControlState.SHUT_DOWN_IN_RECOVERY


def _faults_of_reaped(cluster: Cluster) -> int:
    """The page faults of all reaped children of the postmaster: each adds some."""
    stat = Path(f"/proc/{cluster.pid}/stat").read_text(encoding="utf-8")
    return int(stat.rpartition(")")[2].split()[8])


@claim("PR-08 RC-15 PG-08", source=LAUNCH, needs=STANDBY)
def test_no_walreceiver_starts_without_a_request(make_cluster: MakeCluster) -> None:
    """A walreceiver starts only when the startup process requests one, not at any SIGUSR1."""
    standby = start_pair(make_cluster, wal_retrieve_retry_interval="1h").standby
    rests = [IdleProbe(standby.child(Kind.STARTUP).pid), IdleProbe(standby.pid)]
    others = {Kind.STARTUP, Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER}
    ended = set()

    def all_reaped() -> bool:
        # A child just forked has no kind yet; a zombie is still listed.
        kids = standby.watcher.look().kids
        return {kid.kind for kid in kids} - {Kind.IO_WORKER} == others

    def is_without() -> bool:
        # The first that exits may be replaced at once, because none has failed within the hour.
        for victim in standby.children(Kind.WALRECEIVER):
            if victim.key not in ended:
                ended.add(victim.key)
                standby.signal_child(victim, signal.SIGTERM)
        # In this order: when the postmaster is idle after the startup process, it has done what
        # that requested.
        return all_reaped() and all(rest.is_idle() for rest in rests) and all_reaped()

    standby.wait_for("a standby without a walreceiver", is_without)
    before = _faults_of_reaped(standby)
    for _ in range(3):
        standby.signal_postmaster(signal.SIGUSR1)
        standby.expect_no_child(Kind.WALRECEIVER, 0.1)
    # Not even one that exited before a look.
    assert _faults_of_reaped(standby) == before
    standby.reload(wal_retrieve_retry_interval="10ms")
    standby.child(Kind.WALRECEIVER, deadlines.START_LIMIT)
    stop(standby)


@claim("PR-07 AR-06 PR-10 MM-24", source=LAUNCH, needs=ARCHIVING)
@pytest.mark.waits_long
def test_archiver_and_slotsync_worker_are_replaced_after_ten_seconds(
    make_cluster: MakeCluster,
) -> None:
    """Archiver and slotsync worker are replaced when a signal wakes the postmaster ten seconds
    after their start: in PM_RUN, PM_RECOVERY, PM_HOT_STANDBY, also while a smart shutdown waits."""
    hot = start_pair(make_cluster, slotsync=True, **ARCHIVES_ALWAYS).standby
    cold = make_cluster(**ALONE, hot_standby="off", **ARCHIVES_ALWAYS)
    cold.write_file("standby.signal")
    cold.start(wait=False)
    primary = make_cluster(archive_mode="on", archive_command="true")
    primary.start()
    throttled = [(one, Kind.ARCHIVER) for one in (hot, cold, primary)]
    if hot.major >= 17:
        throttled.append((hot, Kind.SLOTSYNC_WORKER))
    with hot.session():
        gone = []
        for cluster, kind in throttled:
            number = signal.SIGUSR2 if kind is Kind.ARCHIVER else signal.SIGTERM
            child = cluster.child(kind, deadlines.START_LIMIT)
            gone.append((cluster, cluster.signal_child(child, number)))
        for cluster, child in gone:
            cluster.expect_death(child)
        hot.request_shutdown(SMART, logged=True)
        for cluster, child in gone:
            _signal_until_replaced(cluster, child)
    hot.expect_exit(code=0)
    stop(cold, primary)


def _signal_until_replaced(cluster: Cluster, old: Child) -> None:
    def is_replaced() -> bool:
        cluster.signal_postmaster(signal.SIGUSR1)
        return any(kid.key != old.key for kid in cluster.children(old.kind))

    cluster.wait_for(
        f"another {old.kind} after ten seconds", is_replaced, 2 * deadlines.REACTION_LIMIT
    )


# Processes by state.


@claim("PR-07 PR-09 PR-10 PR-04 INV-42 AR-01", source=LAUNCH, needs=ARCHIVING)
@settings(**ARCHIVES_ALWAYS, **ALONE)
def test_processes_missing_in_pm_startup(stopped_cluster: Cluster) -> None:
    """In PM_STARTUP a standby runs neither archiver nor summarizer nor walreceiver."""
    cluster = stopped_cluster
    if cluster.major >= 17:
        cluster.configure(summarize_wal=True)
    cluster.write_file("standby.signal")
    early = {Kind.STARTUP, Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER}

    def as_wanted() -> bool:
        return kinds_of(cluster) - {Kind.IO_WORKER} == early

    with pin_startup_at_birth(cluster):
        cluster.wait_for("the children of PM_STARTUP", as_wanted)
        cluster.signal_postmaster(signal.SIGUSR1)
        cluster.expect_still("no other child", as_wanted, 0.2)
    cluster.expect_log(f"^{READ_ONLY_LINE}$", within=deadlines.START_LIMIT)
    wanted = early | {Kind.ARCHIVER}
    if cluster.major >= 17:
        wanted |= {Kind.WALSUMMARIZER}
    cluster.wait_for("the children of a hot standby", lambda: kinds_of(cluster) >= wanted)
    stop(cluster)


@claim("PR-07 PR-09 INV-42 RC-06 AR-01", source=LAUNCH, needs=ARCHIVING)
@pytest.mark.parametrize("mode", ["on", "always"])
def test_processes_of_pm_recovery(stopped_cluster: Cluster, mode: ShutdownMode) -> None:
    """In PM_RECOVERY no summarizer runs, and an archiver only with archive_mode = always."""
    cluster = stopped_cluster
    cluster.configure(**ALONE, hot_standby="off", archive_mode=mode, archive_command="true")
    if cluster.major >= 17:
        cluster.configure(summarize_wal=True, sync_replication_slots=True)
    cluster.write_file("standby.signal")
    cluster.start(wait=False)
    cluster.expect_pid_file(PidFileStatus.STANDBY, deadlines.START_LIMIT)
    wanted = {Kind.STARTUP, Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER}
    if mode == "always":
        wanted |= {Kind.ARCHIVER}

    def as_wanted() -> bool:
        return kinds_of(cluster) - {Kind.IO_WORKER} == wanted

    cluster.wait_for("the children of PM_RECOVERY", as_wanted)
    cluster.signal_postmaster(signal.SIGUSR1)
    cluster.expect_still("no other child", as_wanted, 0.2)
    then = cluster.since()
    victim = cluster.end_child(Kind.BACKGROUND_WRITER, signal.SIGTERM)
    cluster.child(victim.kind, other_than=victim)
    then.expect_postmaster_lines([])
    stop(cluster)


@claim("WS-20 PR-10", source=LAUNCH, needs=STANDBY, since=17)
@settings(**ALONE, wal_level="logical", hot_standby_feedback="on", sync_replication_slots="on")
def test_no_slotsync_worker_with_wrong_settings(stopped_cluster: Cluster) -> None:
    """If a required setting is missing no slotsync worker starts, and the log names it."""
    cluster = stopped_cluster
    cluster.write_file("standby.signal")
    cluster.start(wait=False)
    cluster.expect_log(f"^{READ_ONLY_LINE}$", within=deadlines.START_LIMIT)
    record = cluster.expect_log("^replication slot synchronization requires ")
    assert (record.level, record.pid) == ("LOG", cluster.pid)
    cluster.expect_no_child(Kind.SLOTSYNC_WORKER, 0.2)
    stop(cluster)


# The end of recovery by its target.


@claim("TR18-06 TR17-06 RC-09 RC-10 SG-02 SH-03", source=REAPER, needs=TARGETED)
def test_shutdown_at_the_recovery_target(make_cluster: MakeCluster) -> None:
    """When the startup process exits 3 the postmaster sends TERM to all children at once, also to
    archiver and walsender. It obeys a reload and a fast request after that, and no smart one."""
    target: dict[str, Any] = {"recovery_target_name": "here", "recovery_target_action": "shutdown"}
    pair = start_pair(make_cluster, **target, **ARCHIVES_ALWAYS)
    standby = pair.standby
    held = [standby.session().child, walsender(standby).child]
    held += [standby.child(kind) for kind in (Kind.BACKGROUND_WRITER, Kind.ARCHIVER)]
    # Idle: a child stopped while it holds a lock or a page would block recovery.
    rests = [IdleProbe(child.pid) for child in held]
    standby.wait_for("all of them to be idle", lambda: all(rest.is_idle() for rest in rests))
    pins = [Pin(standby, child) for child in held]
    then = standby.since()
    with pair.primary.session() as session:
        session.query("select pg_create_restore_point('here')")
        session.query("create table something ()")
    then.expect_line("shutdown at recovery target", deadlines.START_LIMIT)
    expect_each_pending(standby, {pin.child: {signal.SIGTERM} for pin in pins})
    assert [(r.level, r.message) for r in then.postmaster_records()] == [
        ("LOG", "shutdown at recovery target")
    ]
    assert standby.pid_file_status() is PidFileStatus.READY
    standby.expect_refusal(SHUTTING_DOWN)
    standby.request_shutdown(SMART)
    standby.reload_and_wait()
    standby.request_shutdown(FAST, logged=True)
    assert then.postmaster_lines()[1:] == [
        "received SIGHUP, reloading configuration files",
        "received fast shutdown request",
    ]
    standby.release_everything()
    standby.expect_exit(code=0)
    assert then.postmaster_lines()[-1] == SHUT_DOWN
    assert standby.controldata_state() is ControlState.SHUT_DOWN_IN_RECOVERY
    assert (standby.data / "standby.signal").exists()
