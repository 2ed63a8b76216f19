"""Crashes: restart, no restart, who survives, the clock of five seconds.

Source       rules CR-01 to CR-25, SL-05; postmaster.c: HandleChildCrash().
"""

from __future__ import annotations

import time

from pglife_conformance.claims import claim, settings
from pglife_conformance.cluster import Cluster
from pglife_conformance.deadlines import SIGKILL_CLOCK
from pglife_conformance.needs import Need
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_conformance.pins import pin_startup, pin_wait_backends_after_crash
from pglife_conformance.refusals import (
    CANNOT_CONNECT_NOW,
    CRASH_SHUTDOWN,
    IN_RECOVERY_MODE,
    TERMINATED_BY_CRASH,
)

SOURCE = "postmaster.c: HandleChildCrash()"
CRASH = [Need.OS_SIGNALS, Need.CRASH_INJECTION]


@claim("CR-02", "CR-20", "CR-25", "SE-24", source=SOURCE, needs=CRASH)
def test_crash_of_a_child_restarts_everybody(cluster: Cluster) -> None:
    """A killed child takes all others with it, and all come again under new pids."""
    session = cluster.session()
    before = cluster.children()
    mark = cluster.mark()
    victim = cluster.crash(Kind.WALWRITER)
    told = session.expect_farewell()
    if told is not None:
        assert (told.severity, told.sqlstate) == ("WARNING", CRASH_SHUTDOWN)
        assert told.message == TERMINATED_BY_CRASH
    cluster.expect_ready(since=mark)
    lines = [record.message for record in cluster.log(mark) if record.level == "LOG"]
    died = f"WAL writer process (PID {victim.pid}) was terminated by signal 9: Killed"
    assert lines[:2] == [died, "terminating any other active server processes"]
    assert "all server processes terminated; reinitializing" in lines
    assert not {kid.key for kid in before} & {kid.key for kid in cluster.children()}


@claim("CR-22", source="postmaster.c: PostmasterStateMachine()", needs=CRASH)
@settings(restart_after_crash="off")
def test_no_restart_after_crash_if_told_so(cluster: Cluster) -> None:
    """With restart_after_crash off the postmaster exits 1 when all children are gone."""
    mark = cluster.mark()
    cluster.crash(Kind.WALWRITER)
    cluster.expect_exit(code=1)
    cluster.expect_log('^shutting down because "?restart_after_crash"? is off$', since=mark)
    assert cluster.children() == []


@claim("LG-02", "CR-25", source="syslogger.c: SysLogger_Start()", needs=[*CRASH, Need.LOGGER])
@settings(logging_collector="on")
def test_logger_survives_a_crash_restart(cluster: Cluster) -> None:
    """The logger keeps its pid over a crash restart."""
    logger = cluster.child(Kind.LOGGER)
    mark = cluster.mark()
    cluster.crash(Kind.WALWRITER)
    cluster.expect_ready(since=mark)
    assert [kid.key for kid in cluster.children(Kind.LOGGER)] == [logger.key]


@claim("CR-44", source="postmaster.c: process_pm_child_exit()", needs=[*CRASH, Need.LOGGER])
@settings(logging_collector="on")
def test_death_of_the_logger_is_no_crash(cluster: Cluster) -> None:
    """A killed logger is replaced; everybody else stays."""
    others = [kid.key for kid in cluster.children() if kid.kind is not Kind.LOGGER]
    victim = cluster.crash(Kind.LOGGER)
    cluster.wait_for(
        "a new logger",
        lambda: any(kid.key != victim.key for kid in cluster.children(Kind.LOGGER)),
    )
    assert [kid.key for kid in cluster.children() if kid.kind is not Kind.LOGGER] == others


@claim("CR-07", "SL-05", source="postmaster.c: ServerLoop()", needs=CRASH)
def test_children_that_survive_sigquit_are_killed(cluster: Cluster) -> None:
    """Five seconds after a crash whoever is left is killed, and the cluster comes back."""
    mark = cluster.mark()
    with pin_wait_backends_after_crash(cluster) as pin:
        began = time.monotonic()
        refusal = cluster.refusal_of_new_client()
        assert (refusal.sqlstate, refusal.message) == (CANNOT_CONNECT_NOW, IN_RECOVERY_MODE)
        assert cluster.pid_file_status() is PidFileStatus.READY
        cluster.expect_log("^issuing SIGKILL to recalcitrant children$", since=mark)
        assert time.monotonic() - began >= SIGKILL_CLOCK - 1.5
        cluster.expect_death(pin.child)
    cluster.expect_ready(since=mark)


@claim("CR-04", "SH-41", "MM-01", source="postmaster.c: canAcceptConnections()", needs=CRASH)
def test_clients_hear_of_recovery_while_a_crashed_server_starts(cluster: Cluster) -> None:
    """In PM_STARTUP after a crash clients hear `in recovery mode`; the pid file says `ready`."""
    mark = cluster.mark()
    with pin_startup(cluster):
        refusal = cluster.refusal_of_new_client()
        assert (refusal.sqlstate, refusal.message) == (CANNOT_CONNECT_NOW, IN_RECOVERY_MODE)
        assert cluster.pid_file_status() is PidFileStatus.READY
    cluster.expect_ready(since=mark)
