"""Who is started, when a fork fails, and the clocks: the postmaster's decisions, as tables."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from pm_table import (
    CONFIG,
    FAMILY,
    NOW,
    Story,
    exited,
    postmaster,
    row_id,
    table,
)

from pglife_impl.base import kinds
from pglife_impl.base.kinds import Kind
from pglife_impl.base.pmsignal import PmSignal
from pglife_impl.base.words import PidStatus
from pglife_impl.postmaster.events import (
    Born,
    ConnectionArrived,
    ForkFailed,
    PmSignalsSeen,
    ReapingDone,
    TurnEnded,
    WritePidStatus,
)
from pglife_impl.postmaster.launch import sleep_time
from pglife_impl.postmaster.state import PM, Config, StartupStatus

# --- starting -------------------------------------------------------------------------------


def test_the_first_children_come_in_their_order() -> None:
    story = Story(postmaster("INIT")).tell(Born())
    assert story.forked() == ["io_worker"] * 3 + ["checkpointer", "bg_writer", "startup"]
    assert story.states() == ["STARTUP"]


def test_a_startup_process_that_succeeds_opens_the_server() -> None:
    before = postmaster("STARTUP", "io_worker*3 checkpointer bg_writer startup", fatal_error=True)
    story = Story(before).tell(exited(before, "startup", "0"), ReapingDone(NOW), TurnEnded(NOW))
    assert story.states() == ["RUN"]
    assert not story.pm.fatal_error
    assert story.forked() == ["wal_writer", "autovac_launcher", "bg_worker"]
    assert story.of(WritePidStatus) == [WritePidStatus(PidStatus.READY)]


STARTUP_FAILURES = table("""
    state     status    how  -> after     next
    STARTUP   RUNNING   1    -> CRASHED   WAIT_BACKENDS
    STARTUP   RUNNING   KILL -> CRASHED   WAIT_BACKENDS
    RECOVERY  RUNNING   1    -> CRASHED   WAIT_BACKENDS
    WAIT_BACKENDS SIGNALED 2 -> NOT_RUNNING -
""")


@pytest.mark.parametrize("row", STARTUP_FAILURES, ids=row_id)
def test_what_a_failing_startup_process_does(row: Any) -> None:
    before = postmaster(
        row.state,
        "io_worker checkpointer startup",
        startup_status=StartupStatus[row.status],
        fatal_error=row.state == "WAIT_BACKENDS",
    )
    story = Story(before).tell(exited(before, "startup", row.how))
    assert story.pm.startup_status is StartupStatus[row.after]
    assert story.states() == ([] if row.next == "-" else [row.next])


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
def test_what_a_childs_flag_does(row: Any) -> None:
    before = postmaster(
        row.state,
        "checkpointer io_worker backend",
        shutdown=row.shutdown,
        fatal_error=row.fatal == "yes",
    )
    reasons = frozenset({PmSignal[row.reason]})
    story = Story(before).tell(PmSignalsSeen(reasons, False, False, NOW))
    assert story.states() == ([] if row.next == "-" else [row.next])
    assert story.pm.fatal_error == (row.fatal_after == "yes")


def test_the_report_of_the_shutdown_checkpoint_moves_on_as_far_as_it_goes() -> None:
    before = postmaster("WAIT_XLOG_SHUTDOWN", "checkpointer io_worker", shutdown="FAST")
    reasons = frozenset({PmSignal.XLOG_IS_SHUTDOWN})
    story = Story(before).tell(PmSignalsSeen(reasons, False, False, NOW))
    assert story.states() == ["WAIT_XLOG_ARCHIVAL", "WAIT_IO_WORKERS"]


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
def test_who_is_started_when_missing(row: Any) -> None:
    before = postmaster(
        row.state, "dead_end_backend", shutdown=row.shutdown, fatal_error=row.fatal == "yes"
    )
    story = Story(before).tell(TurnEnded(NOW))
    assert story.forked() == [kind for group in row.forked.split(",") for kind in LAUNCHED[group]]


def test_a_logger_is_started_in_every_state() -> None:
    config = CONFIG.replace(logging_collector=True)
    for state in PM:
        story = Story(postmaster(state), config).tell(TurnEnded(NOW))
        assert "logger" in story.forked(), state


def test_a_background_worker_that_exits_1_waits_for_its_interval() -> None:
    before = postmaster("RUN", FAMILY)
    story = Story(before).tell(exited(before, "bg_worker", "1"), TurnEnded(NOW + 4.9))
    assert story.forked() == []
    assert 0 < sleep_time(story.pm, NOW + 4.9) < 0.2
    assert story.tell(TurnEnded(NOW + 5.0)).forked() == ["bg_worker"]


def test_one_io_worker_too_many_is_asked_to_go() -> None:
    before = postmaster("RUN", FAMILY)
    story = Story(before, CONFIG.replace(io_workers=2)).tell(TurnEnded(NOW))
    assert [(r.pid, r.signum) for r in story.requests if hasattr(r, "signum")] == [
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
def test_a_fork_that_fails_is_tried_once_a_turn(row: Any) -> None:
    story = Story(postmaster("INIT"), failing=row.failing).tell(Born())
    assert story.forked() == row.forked.split(",")
    failed = story.pm.startup_status is StartupStatus.CRASHED
    assert failed == (row.failing == "startup")
    slots = story.pm.free_slots[Kind[row.failing.upper()]]
    assert len(slots) == (kinds.MAX_IO_WORKERS if row.failing == "io_worker" else 1)


def test_a_client_that_cannot_be_served_leaves_no_trace() -> None:
    before = postmaster("RUN", FAMILY)
    story = Story(before, failing="backend").tell(ConnectionArrived())
    assert story.pm == before
    assert any(line.startswith("could not fork new process") for line in story.lines())


# --- clocks ---------------------------------------------------------------------------------

SIGKILL_TIMEOUT = table("""
    fatal  shutdown   armed  passed -> fired
    yes    NO         yes    4      -> no
    yes    NO         yes    5      -> yes
    no     IMMEDIATE  yes    5      -> yes
    no     FAST       yes    5      -> no
    yes    NO         no     60     -> no
""")


@pytest.mark.parametrize("row", SIGKILL_TIMEOUT, ids=row_id)
def test_when_children_are_killed(row: Any) -> None:
    before = postmaster(
        "WAIT_BACKENDS",
        "backend logger dead_end_backend",
        shutdown=row.shutdown,
        fatal_error=row.fatal == "yes",
        abort_start_time=int(NOW) if row.armed == "yes" else 0,
    )
    story = Story(before).tell(TurnEnded(NOW + int(row.passed)))
    fired = row.fired == "yes"
    assert story.told("KILL") == ({"backend", "dead_end_backend"} if fired else set())
    assert story.lines() == (["issuing SIGKILL to recalcitrant children"] if fired else [])
    assert (story.pm.abort_start_time == 0) == (fired or row.armed == "no")
    if fired:
        assert not Story(story.pm).tell(TurnEnded(NOW + 100)).told("KILL")


SLEEPS = table("""
    armed  needed  shutdown -> seconds
    no     no      NO       -> 60
    no     yes     NO       -> 0
    no     yes     FAST     -> 60
    yes    no      NO       -> 3
    yes    no      FAST     -> 3
""")


@pytest.mark.parametrize("row", SLEEPS, ids=row_id)
def test_how_long_the_loop_may_sleep(row: Any) -> None:
    pm = postmaster("RUN", shutdown=row.shutdown).replace(
        abort_start_time=int(NOW) - 2 if row.armed == "yes" else 0,
        start_worker_needed=row.needed == "yes",
    )
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
    assert Config() == CONFIG
    assert ForkFailed(Kind.STARTUP, 1, -1, "x", NOW).slot == 1
