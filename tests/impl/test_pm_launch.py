"""Launching children, failed forks and timers: the postmaster's decisions, as tables."""

import signal
from typing import Any

import pytest
from pm_table import CLIENT, CONFIG, HELPERS, NOW, Driver, exited, postmaster, row_id, table

from pglife_impl.base import kinds
from pglife_impl.base.kinds import Kind
from pglife_impl.base.pmsignal import PmSignal
from pglife_impl.base.words import PidStatus
from pglife_impl.config.guc import Gucs
from pglife_impl.postmaster.events import (
    ConnectionArrived,
    Initialized,
    IterationEnded,
    PmSignalsSeen,
    ReapingDone,
)
from pglife_impl.postmaster.launch import sleep_time
from pglife_impl.postmaster.requests import WritePidStatus
from pglife_impl.postmaster.settings import config_of
from pglife_impl.postmaster.state import PM, Config, StartupStatus

# --- starting -------------------------------------------------------------------------------


def test_the_first_children_are_forked_in_order() -> None:
    driver = Driver(postmaster("INIT")).handle(Initialized())
    assert driver.forked() == ["io_worker"] * 3 + ["checkpointer", "bg_writer", "startup"]
    assert driver.states() == ["STARTUP"]


def test_a_startup_process_that_succeeds_opens_the_server() -> None:
    before = postmaster("STARTUP", "io_worker*3 checkpointer bg_writer startup", fatal_error=True)
    driver = Driver(before).handle(exited(before, "startup", "0"), ReapingDone(), IterationEnded())
    assert driver.states() == ["RUN"]
    assert not driver.pm.fatal_error
    assert driver.forked() == ["wal_writer", "autovac_launcher", "bg_worker"]
    assert driver.of(WritePidStatus) == [WritePidStatus(PidStatus.READY)]


STARTUP_FAILURES = table("""
    state     status    how  -> after     next
    STARTUP   RUNNING   1    -> CRASHED   WAIT_BACKENDS
    STARTUP   RUNNING   KILL -> CRASHED   WAIT_BACKENDS
    RECOVERY  RUNNING   1    -> CRASHED   WAIT_BACKENDS
    WAIT_BACKENDS SIGNALED 2 -> NOT_RUNNING -
""")


@pytest.mark.parametrize("row", STARTUP_FAILURES, ids=row_id)
def test_a_failing_startup_process_is_a_crash_unless_signaled(row: Any) -> None:
    before = postmaster(
        row.state,
        "io_worker checkpointer startup",
        startup_status=StartupStatus[row.status],
        fatal_error=row.state == "WAIT_BACKENDS",
    )
    driver = Driver(before).handle(exited(before, "startup", row.how))
    assert driver.pm.startup_status is StartupStatus[row.after]
    assert driver.states() == ([] if row.next == "-" else [row.next])


PMSIGNALS = table("""
    state               reason            shutdown fatal -> next           fatal_after
    STARTUP             RECOVERY_STARTED  NO       yes   -> RECOVERY       no
    STARTUP             RECOVERY_STARTED  NO       no    -> RECOVERY       no
    RUN                 RECOVERY_STARTED  NO       no    -> -              no
    WAIT_BACKENDS       RECOVERY_STARTED  FAST     no    -> -              no
    RECOVERY            BEGIN_HOT_STANDBY NO       no    -> HOT_STANDBY    no
    RUN                 XLOG_IS_SHUTDOWN  NO       no    -> WAIT_BACKENDS  yes
    WAIT_DEAD_END       XLOG_IS_SHUTDOWN  FAST     yes   -> -              yes
""")


@pytest.mark.parametrize("row", PMSIGNALS, ids=row_id)
def test_a_pmsignal_advances_the_state_or_is_lost(row: Any) -> None:
    before = postmaster(
        row.state,
        "checkpointer io_worker backend",
        shutdown=row.shutdown,
        fatal_error=row.fatal == "yes",
    )
    reasons = frozenset({PmSignal[row.reason]})
    driver = Driver(before).handle(PmSignalsSeen(reasons, False, False))
    assert driver.states() == ([] if row.next == "-" else [row.next])
    assert driver.pm.fatal_error == (row.fatal_after == "yes")


def test_xlog_is_shutdown_advances_as_far_as_the_children_allow() -> None:
    before = postmaster("WAIT_XLOG_SHUTDOWN", "checkpointer io_worker", shutdown="FAST")
    reasons = frozenset({PmSignal.XLOG_IS_SHUTDOWN})
    driver = Driver(before).handle(PmSignalsSeen(reasons, False, False))
    assert driver.states() == ["WAIT_XLOG_ARCHIVAL", "WAIT_IO_WORKERS"]


LAUNCHES = table("""
    state              shutdown  fatal -> forked
    STARTUP            NO        yes   -> io,always
    RECOVERY           NO        no    -> io,always
    RUN                SMART     no    -> io,always,running
    WAIT_BACKENDS      FAST      no    -> io
    WAIT_BACKENDS      NO        yes   -> -
    WAIT_BACKENDS      IMMEDIATE no    -> -
    WAIT_XLOG_SHUTDOWN FAST      no    -> io
    WAIT_IO_WORKERS    FAST      no    -> -
    WAIT_DEAD_END      FAST      no    -> -
""")
LAUNCHED = {
    "-": [],
    "io": ["io_worker"] * 3,
    "always": ["checkpointer", "bg_writer"],
    "running": ["wal_writer", "autovac_launcher"],
}


@pytest.mark.parametrize("row", LAUNCHES, ids=row_id)
def test_missing_children_are_launched_by_state(row: Any) -> None:
    before = postmaster(
        row.state, "dead_end_backend", shutdown=row.shutdown, fatal_error=row.fatal == "yes"
    )
    driver = Driver(before).handle(IterationEnded())
    assert driver.forked() == [kind for group in row.forked.split(",") for kind in LAUNCHED[group]]


def test_a_logger_is_launched_in_every_state() -> None:
    config = CONFIG.replace(logging_collector=True)
    for state in PM:
        driver = Driver(postmaster(state), config).handle(IterationEnded())
        assert "logger" in driver.forked(), state


def test_a_background_worker_that_exits_1_restarts_after_its_interval() -> None:
    before = postmaster("RUN", HELPERS)
    driver = Driver(before).handle(exited(before, "bg_worker", "1"))
    driver.handle(IterationEnded(), now=NOW + 4.9)
    assert driver.forked() == []
    assert 0 < sleep_time(driver.pm, NOW + 4.9) < 0.2
    assert driver.handle(IterationEnded(), now=NOW + 5.0).forked() == ["bg_worker"]


def test_one_io_worker_too_many_is_asked_to_exit() -> None:
    before = postmaster("RUN", HELPERS)
    driver = Driver(before, CONFIG.replace(io_workers=2)).handle(IterationEnded())
    assert [(r.pid, r.signum) for r in driver.requests if hasattr(r, "signum")] == [
        (before.io_worker_children[2], signal.SIGUSR2)
    ]


# --- forks that fail ------------------------------------------------------------------------

FORK_FAILURES = table("""
    failing       -> forked
    io_worker     -> io_worker,checkpointer,bg_writer,startup
    checkpointer  -> io_worker,io_worker,io_worker,checkpointer,bg_writer,startup
    startup       -> io_worker,io_worker,io_worker,checkpointer,bg_writer,startup
""")


@pytest.mark.parametrize("row", FORK_FAILURES, ids=row_id)
def test_a_fork_that_fails_is_tried_once_an_iteration(row: Any) -> None:
    driver = Driver(postmaster("INIT"), failing=row.failing).handle(Initialized())
    assert driver.forked() == row.forked.split(",")
    failed = driver.pm.startup_status is StartupStatus.CRASHED
    assert failed == (row.failing == "startup")
    slots = driver.pm.free_slots[Kind[row.failing.upper()]]
    assert len(slots) == (kinds.MAX_IO_WORKERS if row.failing == "io_worker" else 1)


def test_a_failed_fork_for_a_client_changes_nothing() -> None:
    before = postmaster("RUN", HELPERS)
    driver = Driver(before, failing="backend").handle(ConnectionArrived(CLIENT))
    assert driver.pm == before
    assert any(line.startswith("could not fork new process") for line in driver.lines())


# --- timers ---------------------------------------------------------------------------------

SIGKILL_TIMEOUT = table("""
    fatal  shutdown   armed  passed -> fired
    yes    NO         yes    4      -> no
    yes    NO         yes    5      -> yes
    no     IMMEDIATE  yes    5      -> yes
    no     FAST       yes    5      -> no
    yes    NO         no     60     -> no
""")


@pytest.mark.parametrize("row", SIGKILL_TIMEOUT, ids=row_id)
def test_the_sigkill_timeout_fires_once(row: Any) -> None:
    before = postmaster(
        "WAIT_BACKENDS",
        "backend logger dead_end_backend",
        shutdown=row.shutdown,
        fatal_error=row.fatal == "yes",
        abort_start_time=int(NOW) if row.armed == "yes" else None,
    )
    driver = Driver(before).handle(IterationEnded(), now=NOW + int(row.passed))
    fired = row.fired == "yes"
    assert driver.sent("KILL") == ({"backend", "dead_end_backend"} if fired else set())
    assert driver.lines() == (["issuing SIGKILL to recalcitrant children"] if fired else [])
    assert (driver.pm.abort_start_time is None) == (fired or row.armed == "no")
    if fired:
        assert not Driver(driver.pm).handle(IterationEnded(), now=NOW + 100).sent("KILL")


SLEEPS = table("""
    armed  needed  shutdown -> seconds
    no     no      NO       -> 60
    no     yes     NO       -> 0
    no     yes     FAST     -> 60
    yes    no      NO       -> 3
    yes    no      FAST     -> 3
""")


@pytest.mark.parametrize("row", SLEEPS, ids=row_id)
def test_the_loop_sleeps_until_the_next_timer(row: Any) -> None:
    pm = postmaster("RUN", shutdown=row.shutdown)
    pm.abort_start_time = int(NOW) - 2 if row.armed == "yes" else None
    pm.start_worker_needed = row.needed == "yes"
    assert sleep_time(pm, NOW) == float(row.seconds)


# --- the sets -------------------------------------------------------------------------------


def test_the_sets_of_a_shutdown_cover_every_kind_once() -> None:
    sets = [
        kinds.STOPPED_FIRST,
        kinds.STOPPED_FIRST_ONLY_IN_A_CRASH,
        kinds.STOPPED_LATER,
        kinds.NEVER_STOPPED,
    ]
    assert sum(len(s) for s in sets) == len(Kind)
    assert frozenset().union(*sets) == frozenset(Kind)
    assert set(kinds.KINDS) == set(Kind)


def test_config_default_is_postgresqls() -> None:
    assert config_of(Gucs()) == Config() == CONFIG
