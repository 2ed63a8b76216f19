"""The postmaster's decisions, as tables."""

import re
from pathlib import Path
from typing import Any

import pytest
from pm_table import (
    ALL_KINDS,
    CLIENT,
    CONFIG,
    HELPERS,
    NOW,
    Driver,
    exited,
    postmaster,
    row_id,
    status,
    table,
)

from pglife_impl.base.cac import Cac
from pglife_impl.base.kinds import Kind
from pglife_impl.base.pmsignal import QuitReason
from pglife_impl.base.words import PidStatus
from pglife_impl.postmaster import state
from pglife_impl.postmaster.admit import can_accept_connections
from pglife_impl.postmaster.events import (
    ConnectionArrived,
    ReapingDone,
    ReloadRequested,
    ShutdownRequested,
)
from pglife_impl.postmaster.requests import (
    Exit,
    Fork,
    Listen,
    LogChildExit,
    Reinitialize,
    SetQuitReason,
    WritePidStatus,
)
from pglife_impl.postmaster.state import PM, Shutdown, StartupStatus

# --- what an exit means ----------------------------------------------------------

EXITS = table("""
    kind              how   -> meaning
    bg_writer         0     -> forgotten
    bg_writer         1     -> crash
    bg_writer         KILL  -> crash
    wal_writer        0     -> forgotten
    wal_writer        1     -> crash
    autovac_launcher  0     -> forgotten
    autovac_launcher  1     -> crash
    checkpointer      0     -> crash
    checkpointer      1     -> crash
    checkpointer      KILL  -> crash
    io_worker         0     -> replaced
    io_worker         1     -> replaced
    io_worker         2     -> crash
    bg_worker         0     -> forgotten
    bg_worker         1     -> forgotten
    bg_worker         2     -> crash
    backend           0     -> forgotten
    backend           1     -> forgotten
    backend           2     -> crash
    backend           SEGV  -> crash
    dead_end_backend  0     -> forgotten
    dead_end_backend  1     -> forgotten
    dead_end_backend  KILL  -> crash
    logger            0     -> replaced
    logger            1     -> replaced
    logger            KILL  -> replaced
""")


@pytest.mark.parametrize("row", EXITS, ids=row_id)
def test_an_exit_is_forgotten_replaced_or_a_crash(row: Any) -> None:
    config = CONFIG.replace(logging_collector=True)
    before = postmaster("RUN", f"{HELPERS} backend dead_end_backend logger")
    driver = Driver(before, config).handle(exited(before, row.kind, row.how))
    crashed = "terminating any other active server processes" in driver.lines()
    assert crashed == (row.meaning == "crash")
    assert (driver.forked() == [row.kind]) == (row.meaning == "replaced")
    assert driver.pm.fatal_error == crashed


@pytest.mark.parametrize("how", ["0", "1"])
@pytest.mark.parametrize("kind", ["backend", "bg_worker"])
def test_an_exit_without_clean_up_is_a_crash(kind: str, how: str) -> None:
    before = postmaster("RUN", f"{HELPERS} backend")
    driver = Driver(before).handle(exited(before, kind, how, detached=False))
    assert driver.pm.fatal_error
    assert [r.status for r in driver.of(LogChildExit)] == [status(how)]


def test_the_slot_of_a_reaped_child_is_free_again() -> None:
    before = postmaster("RUN", "backend")
    free = len(before.free_slots[Kind.BACKEND])
    driver = Driver(before).handle(exited(before, "backend", "0"))
    assert len(driver.pm.free_slots[Kind.BACKEND]) == free + 1
    assert not driver.pm.children


# --- crashes --------------------------------------------------------------------------------

CRASHES = table("""
    state               -> next
    STARTUP             -> WAIT_BACKENDS
    RECOVERY            -> WAIT_BACKENDS
    RUN                 -> WAIT_BACKENDS
    WAIT_BACKENDS       -> -
    WAIT_XLOG_SHUTDOWN  -> WAIT_DEAD_END
    WAIT_XLOG_ARCHIVAL  -> WAIT_DEAD_END
    WAIT_IO_WORKERS     -> WAIT_DEAD_END
    WAIT_CHECKPOINTER   -> WAIT_DEAD_END
    WAIT_DEAD_END       -> -
""")


@pytest.mark.parametrize("row", CRASHES, ids=row_id)
def test_a_crash_advances_to_the_state_that_waits_for_the_others(row: Any) -> None:
    later = PM[row.state] > PM.RUN
    shutdown = Shutdown.FAST if later else Shutdown.NO
    before = postmaster(row.state, f"{HELPERS} backend*2 dead_end_backend", shutdown=shutdown)
    driver = Driver(before).handle(exited(before, "backend", "KILL"))
    assert driver.states() == ([] if row.next == "-" else [row.next])
    assert driver.sent("QUIT") == ALL_KINDS
    assert driver.of(SetQuitReason) == [SetQuitReason(QuitReason.FOR_CRASH)]
    assert driver.pm.abort_start_time == int(NOW)
    assert driver.pm.listening == (row.next != "WAIT_DEAD_END")


def test_later_exits_of_a_crash_are_not_logged() -> None:
    before = postmaster("RUN", f"{HELPERS} backend")
    driver = Driver(before).handle(
        exited(before, "wal_writer", "KILL"), exited(before, "backend", "2")
    )
    assert len(driver.of(LogChildExit)) == 1
    assert driver.lines().count("terminating any other active server processes") == 1


def test_send_abort_for_crash_sends_sigabrt() -> None:
    before = postmaster("RUN", HELPERS)
    config = CONFIG.replace(send_abort_for_crash=True)
    driver = Driver(before, config).handle(exited(before, "wal_writer", "KILL"))
    assert driver.sent("ABRT") == ALL_KINDS - {"wal_writer", "backend", "dead_end_backend"}
    assert not driver.sent("QUIT")


AFTER_THE_LAST_CHILD = table("""
    state          shutdown   fatal  -> next            kids
    WAIT_BACKENDS  FAST       no     -> WAIT_XLOG_SHUTDOWN  checkpointer
    WAIT_BACKENDS  SMART      no     -> WAIT_XLOG_SHUTDOWN  checkpointer
    WAIT_BACKENDS  IMMEDIATE  no     -> WAIT_DEAD_END       dead_end_backend
    WAIT_BACKENDS  NO         yes    -> WAIT_DEAD_END       dead_end_backend
    WAIT_BACKENDS  FAST       yes    -> WAIT_DEAD_END       dead_end_backend
    WAIT_BACKENDS  NO         yes    -> -                   io_worker
    WAIT_BACKENDS  NO         yes    -> -                   checkpointer
    WAIT_BACKENDS  FAST       no     -> -                   backend
    WAIT_BACKENDS  FAST       no     -> -                   startup
    WAIT_XLOG_ARCHIVAL  FAST  no     -> WAIT_IO_WORKERS     io_worker
    WAIT_IO_WORKERS     FAST  no     -> WAIT_CHECKPOINTER   checkpointer
    WAIT_IO_WORKERS     FAST  no     -> -                   io_worker
    WAIT_CHECKPOINTER   FAST  no     -> -                   checkpointer
    WAIT_DEAD_END       FAST  no     -> -                   dead_end_backend
""")


@pytest.mark.parametrize("row", AFTER_THE_LAST_CHILD, ids=row_id)
def test_the_last_exit_advances_the_state(row: Any) -> None:
    before = postmaster(row.state, row.kids, shutdown=row.shutdown, fatal_error=row.fatal == "yes")
    driver = Driver(before).handle(ReapingDone())
    assert driver.states() == ([] if row.next == "-" else [row.next])


SIGNALS_ON_THE_WAY = table("""
    state               kids           -> signal  target
    WAIT_BACKENDS       checkpointer   -> INT     checkpointer
    WAIT_XLOG_ARCHIVAL  io_worker      -> USR2    io_worker
    WAIT_IO_WORKERS     checkpointer   -> USR2    checkpointer
""")


@pytest.mark.parametrize("row", SIGNALS_ON_THE_WAY, ids=row_id)
def test_each_state_of_a_shutdown_signals_the_next_children(row: Any) -> None:
    before = postmaster(row.state, row.kids, shutdown="FAST")
    driver = Driver(before).handle(ReapingDone())
    assert driver.signals() == {(row.target, row.signal)}


ENDS = table("""
    shutdown   fatal  startup      restart -> code line
    FAST       no     NOT_RUNNING  on      -> NORMAL    -
    IMMEDIATE  no     SIGNALED     on      -> NORMAL    -
    FAST       yes    NOT_RUNNING  on      -> ABNORMAL  ABNORMAL
    NO         yes    CRASHED      on      -> ABNORMAL  STARTUP_FAILURE
    NO         yes    NOT_RUNNING  off     -> ABNORMAL  NO_RESTART
""")

LAST_LINES = {
    "-": [],
    "ABNORMAL": ["abnormal database system shutdown"],
    "STARTUP_FAILURE": ["shutting down due to startup process failure"],
    "NO_RESTART": ['shutting down because "restart_after_crash" is off'],
}


@pytest.mark.parametrize("row", ENDS, ids=row_id)
def test_the_postmaster_exits_with_code_and_last_line(row: Any) -> None:
    config = CONFIG.replace(restart_after_crash=row.restart == "on")
    before = postmaster(
        "WAIT_DEAD_END",
        "logger",
        shutdown=row.shutdown,
        fatal_error=row.fatal == "yes",
        startup_status=StartupStatus[row.startup],
    )
    driver = Driver(before, config).handle(ReapingDone())
    assert [r.code.name for r in driver.of(Exit)] == [row.code]
    other = [line for line in driver.lines() if "PMState" not in line]
    assert other == LAST_LINES[row.line]


def test_a_crash_restart_reinitializes_and_launches() -> None:
    before = postmaster(
        "WAIT_DEAD_END", "logger", fatal_error=True, abort_start_time=7, listening=False
    )
    driver = Driver(before).handle(ReapingDone())
    assert driver.forked() == ["io_worker"] * 3 + ["startup"]
    assert len(driver.of(Reinitialize)) == 1
    assert driver.states() == ["NO_CHILDREN", "STARTUP"]
    assert driver.of(Listen) == [Listen(True)]
    after = driver.pm
    assert (after.fatal_error, after.abort_start_time) == (True, None)
    assert after.startup_status is StartupStatus.RUNNING
    assert driver.of(WritePidStatus) == []  # SH-41


# --- requests -------------------------------------------------------------------------------

REQUESTS = table("""
    state               mode       kids     -> states                       term
    RUN                 SMART      backend  -> -                            no
    RUN                 SMART      -        -> STOP_BACKENDS,WAIT_BACKENDS  yes
    RUN                 FAST       backend  -> STOP_BACKENDS,WAIT_BACKENDS  yes
    STARTUP             SMART      startup  -> STOP_BACKENDS,WAIT_BACKENDS  yes
    STARTUP             FAST       startup  -> STOP_BACKENDS,WAIT_BACKENDS  yes
    RECOVERY            SMART      startup  -> STOP_BACKENDS,WAIT_BACKENDS  yes
    WAIT_XLOG_SHUTDOWN  FAST       -        -> -                            no
    WAIT_XLOG_ARCHIVAL  IMMEDIATE  -        -> WAIT_BACKENDS                no
    RUN                 IMMEDIATE  backend  -> WAIT_BACKENDS                no
    STARTUP             IMMEDIATE  startup  -> WAIT_BACKENDS                no
""")


@pytest.mark.parametrize("row", REQUESTS, ids=row_id)
def test_a_shutdown_request_advances_and_signals(row: Any) -> None:
    extra = "" if row.kids == "-" else row.kids
    earlier = Shutdown.SMART if PM[row.state] > PM.STOP_BACKENDS else Shutdown.NO
    before = postmaster(row.state, f"{HELPERS} {extra}", shutdown=earlier)
    driver = Driver(before).handle(ShutdownRequested(Shutdown[row.mode]))
    expected = [] if row.states == "-" else row.states.split(",")
    assert driver.states() == expected
    targets = {"bg_writer", "wal_writer", "autovac_launcher", "bg_worker", *extra.split()}
    assert driver.sent("TERM") == (targets if row.term == "yes" else set())
    assert f"received {row.mode.lower()} shutdown request" in driver.lines()
    assert driver.of(WritePidStatus) == [WritePidStatus(PidStatus.STOPPING)]


@pytest.mark.parametrize("earlier", [Shutdown.SMART, Shutdown.FAST, Shutdown.IMMEDIATE])
@pytest.mark.parametrize("mode", [Shutdown.SMART, Shutdown.FAST, Shutdown.IMMEDIATE])
def test_a_request_that_is_not_stronger_changes_nothing(earlier: Shutdown, mode: Shutdown) -> None:
    before = postmaster("WAIT_BACKENDS", f"{HELPERS} backend", shutdown=earlier)
    driver = Driver(before).handle(ShutdownRequested(mode))
    if mode > earlier:
        assert driver.pm.shutdown is mode
    else:
        assert driver.pm == before
        assert driver.lines() == []
        assert driver.signals() == set()


def test_an_immediate_request_sends_sigquit_and_starts_the_timeout() -> None:
    before = postmaster("RUN", f"{HELPERS} backend dead_end_backend logger")
    driver = Driver(before).handle(ShutdownRequested(Shutdown.IMMEDIATE))
    assert driver.sent("QUIT") == ALL_KINDS
    assert driver.pm.abort_start_time == int(NOW)
    assert driver.of(SetQuitReason) == [SetQuitReason(QuitReason.FOR_STOP)]


RELOADS = table("""
    shutdown   -> served
    NO         -> yes
    SMART      -> yes
    FAST       -> no
    IMMEDIATE  -> no
""")


@pytest.mark.parametrize("row", RELOADS, ids=row_id)
def test_a_reload_is_served_before_a_fast_shutdown_only(row: Any) -> None:
    before = postmaster("WAIT_BACKENDS", f"{HELPERS} dead_end_backend logger backend")
    before.shutdown = Shutdown[row.shutdown]
    driver = Driver(before).handle(ReloadRequested())
    targets = (ALL_KINDS | {"logger"}) - {"dead_end_backend"}
    assert driver.sent("HUP") == (targets if row.served == "yes" else set())


# --- admission ------------------------------------------------------------------

ADMISSION = table("""
    state           shutdown  fatal  conns -> answer
    RUN             NO        no     yes   -> OK
    HOT_STANDBY     NO        no     yes   -> OK
    RUN             SMART     no     no    -> SHUTDOWN
    STARTUP         NO        no     yes   -> STARTUP
    STARTUP         NO        yes    yes   -> RECOVERY
    RECOVERY        NO        no     yes   -> NOT_HOT_STANDBY
    WAIT_BACKENDS   NO        yes    yes   -> RECOVERY
    WAIT_BACKENDS   FAST      no     yes   -> SHUTDOWN
    WAIT_BACKENDS   FAST      yes    yes   -> SHUTDOWN
    WAIT_IO_WORKERS SMART     no     no    -> SHUTDOWN
""")


@pytest.mark.parametrize("row", ADMISSION, ids=row_id)
def test_a_new_connection_gets_a_session_or_a_refusal(row: Any) -> None:
    pm = postmaster(
        row.state,
        shutdown=row.shutdown,
        fatal_error=row.fatal == "yes",
        conns_allowed=row.conns == "yes",
    )
    assert can_accept_connections(pm) is Cac[row.answer]
    driver = Driver(pm).handle(ConnectionArrived(CLIENT))
    expected = "backend" if row.answer == "OK" else "dead_end_backend"
    assert [(r.kind.name.lower(), r.cac) for r in driver.of(Fork)] == [(expected, Cac[row.answer])]


def test_one_client_too_many_gets_a_dead_end_child() -> None:
    config = CONFIG.replace(max_connections=1, max_wal_senders=0)
    before = postmaster("RUN", "backend*2", config=config)
    driver = Driver(before, config).handle(ConnectionArrived(CLIENT))
    assert [(r.kind, r.cac) for r in driver.of(Fork)] == [(Kind.DEAD_END_BACKEND, Cac.TOO_MANY)]


def test_only_advance_to_assigns_the_state() -> None:
    folder = Path(state.__file__).parent
    assigned = {
        path.name: len(re.findall(r"\.state = ", path.read_text(encoding="utf-8")))
        for path in folder.glob("*.py")
    }
    assert {name: count for name, count in assigned.items() if count} == {
        "state.py": 1,  # a new postmaster
        "step.py": 1,
    }
