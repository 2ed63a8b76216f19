"""The postmaster's decisions, as tables."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import Any

import pytest
from pm_table import CONFIG, NOW, Story, postmaster, row_id, table

from pglife_impl import kinds
from pglife_impl.kinds import Kind
from pglife_impl.pm_admit import can_accept_connections
from pglife_impl.pm_events import (
    Born,
    ChildExited,
    ConnectionArrived,
    Exit,
    Fork,
    ForkFailed,
    Listen,
    LogChildExit,
    PmSignal,
    PmSignalsSeen,
    ReapingDone,
    Reinitialize,
    ReloadRequested,
    SetQuitReason,
    ShutdownRequested,
    TurnEnded,
    WritePidStatus,
)
from pglife_impl.pm_launch import sleep_time
from pglife_impl.pm_state import (
    PM,
    Cac,
    Config,
    PidStatus,
    PmState,
    QuitReason,
    Shutdown,
    StartupStatus,
)

FAMILY = "io_worker*3 checkpointer bg_writer wal_writer autovac_launcher bg_worker"
EVERYBODY = set(f"{FAMILY} backend dead_end_backend".replace("*3", "").split())


def status(text: str) -> int:
    """A wait status: "0", "1", "2" exit codes, "KILL" a signal."""
    return int(text) << 8 if text.isdigit() else int(signal.Signals[f"SIG{text}"])


def exited(pm: PmState, kind: str, how: str, *, clean: bool = True) -> ChildExited:
    """The death of the first child of that kind."""
    pid = next(c.pid for c in pm.children.values() if c.kind is Kind[kind.upper()])
    return ChildExited(pid, status(how), clean, NOW)


# --- table 3.4: what a death means ----------------------------------------------------------

DEATHS = table("""
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


@pytest.mark.parametrize("row", DEATHS, ids=row_id)
def test_what_a_death_means(row: Any) -> None:
    config = replace(CONFIG, logging_collector=True)
    before = postmaster("RUN", f"{FAMILY} backend dead_end_backend logger")
    story = Story(before, config).tell(exited(before, row.kind, row.how))
    crashed = "terminating any other active server processes" in story.lines()
    assert crashed == (row.meaning == "crash")
    assert (story.forked() == [row.kind]) == (row.meaning == "replaced")
    assert story.pm.fatal_error == crashed


@pytest.mark.parametrize("how", ["0", "1"])
@pytest.mark.parametrize("kind", ["backend", "bg_worker"])
def test_an_exit_without_clean_up_is_a_crash(kind: str, how: str) -> None:
    before = postmaster("RUN", f"{FAMILY} backend")
    story = Story(before).tell(exited(before, kind, how, clean=False))
    assert story.pm.fatal_error
    assert [r.status for r in story.of(LogChildExit)] == [status(how)]


def test_the_slot_of_a_dead_child_is_free_again() -> None:
    before = postmaster("RUN", "backend")
    free = len(before.free_slots[Kind.BACKEND])
    story = Story(before).tell(exited(before, "backend", "0"))
    assert len(story.pm.free_slots[Kind.BACKEND]) == free + 1
    assert not story.pm.children


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
def test_where_a_crash_leads(row: Any) -> None:
    later = PM[row.state] > PM.RUN
    shutdown = Shutdown.FAST if later else Shutdown.NO
    before = postmaster(row.state, f"{FAMILY} backend*2 dead_end_backend", shutdown=shutdown)
    story = Story(before).tell(exited(before, "backend", "KILL"))
    assert story.states() == ([] if row.next == "-" else [row.next])
    assert story.told("QUIT") == EVERYBODY
    assert story.of(SetQuitReason) == [SetQuitReason(QuitReason.FOR_CRASH)]
    assert story.pm.abort_start_time == int(NOW)
    assert story.pm.listening == (row.next != "WAIT_DEAD_END")


def test_later_deaths_of_a_crash_are_silent() -> None:
    before = postmaster("RUN", f"{FAMILY} backend")
    story = Story(before).tell(exited(before, "wal_writer", "KILL"), exited(before, "backend", "2"))
    assert len(story.of(LogChildExit)) == 1
    assert story.lines().count("terminating any other active server processes") == 1


def test_abort_is_sent_if_asked_for() -> None:
    before = postmaster("RUN", FAMILY)
    config = replace(CONFIG, send_abort_for_crash=True)
    story = Story(before, config).tell(exited(before, "wal_writer", "KILL"))
    assert story.told("ABRT") == EVERYBODY - {"wal_writer", "backend", "dead_end_backend"}
    assert not story.told("QUIT")


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
def test_where_the_last_exit_leads(row: Any) -> None:
    before = postmaster(row.state, row.kids, shutdown=row.shutdown, fatal_error=row.fatal == "yes")
    story = Story(before).tell(ReapingDone(NOW))
    assert story.states() == ([] if row.next == "-" else [row.next])


SIGNALS_ON_THE_WAY = table("""
    state               kids           -> signal  told
    WAIT_BACKENDS       checkpointer   -> INT     checkpointer
    WAIT_XLOG_ARCHIVAL  io_worker      -> USR2    io_worker
    WAIT_IO_WORKERS     checkpointer   -> USR2    checkpointer
""")


@pytest.mark.parametrize("row", SIGNALS_ON_THE_WAY, ids=row_id)
def test_who_is_told_on_the_way_down(row: Any) -> None:
    before = postmaster(row.state, row.kids, shutdown="FAST")
    story = Story(before).tell(ReapingDone(NOW))
    assert story.signals() == {(row.told, row.signal)}


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
def test_how_the_postmaster_ends(row: Any) -> None:
    config = replace(CONFIG, restart_after_crash=row.restart == "on")
    before = postmaster(
        "WAIT_DEAD_END",
        "logger",
        shutdown=row.shutdown,
        fatal_error=row.fatal == "yes",
        startup_status=StartupStatus[row.startup],
    )
    story = Story(before, config).tell(ReapingDone(NOW))
    assert [r.code.name for r in story.of(Exit)] == [row.code]
    said = [line for line in story.lines() if "PMState" not in line]
    assert said == LAST_LINES[row.line]


def test_a_crash_restart_makes_everything_new() -> None:
    before = postmaster(
        "WAIT_DEAD_END", "logger", fatal_error=True, abort_start_time=7, listening=False
    )
    story = Story(before).tell(ReapingDone(NOW))
    assert story.forked() == ["io_worker"] * 3 + ["startup"]
    assert len(story.of(Reinitialize)) == 1
    assert story.states() == ["NO_CHILDREN", "STARTUP"]
    assert story.of(Listen) == [Listen(True)]
    after = story.pm
    assert (after.fatal_error, after.abort_start_time) == (True, 0)
    assert after.startup_status is StartupStatus.RUNNING
    assert story.of(WritePidStatus) == []  # SH-41


# --- requests -------------------------------------------------------------------------------

REQUESTS = table("""
    state               level      kids     -> states                       term
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
def test_what_a_shutdown_request_does(row: Any) -> None:
    extra = "" if row.kids == "-" else row.kids
    earlier = Shutdown.SMART if PM[row.state] > PM.STOP_BACKENDS else Shutdown.NO
    before = postmaster(row.state, f"{FAMILY} {extra}", shutdown=earlier)
    story = Story(before).tell(ShutdownRequested(Shutdown[row.level], NOW))
    expected = [] if row.states == "-" else row.states.split(",")
    assert story.states() == expected
    told = {"bg_writer", "wal_writer", "autovac_launcher", "bg_worker", *extra.split()}
    assert story.told("TERM") == (told if row.term == "yes" else set())
    assert f"received {row.level.lower()} shutdown request" in story.lines()
    assert story.of(WritePidStatus) == [WritePidStatus(PidStatus.STOPPING)]


@pytest.mark.parametrize("earlier", [Shutdown.SMART, Shutdown.FAST, Shutdown.IMMEDIATE])
@pytest.mark.parametrize("level", [Shutdown.SMART, Shutdown.FAST, Shutdown.IMMEDIATE])
def test_a_request_that_is_not_stronger_changes_nothing(earlier: Shutdown, level: Shutdown) -> None:
    before = postmaster("WAIT_BACKENDS", f"{FAMILY} backend", shutdown=earlier)
    story = Story(before).tell(ShutdownRequested(level, NOW))
    if level > earlier:
        assert story.pm.shutdown is level
    else:
        assert story.pm == before
        assert story.lines() == []
        assert story.signals() == set()


def test_an_immediate_request_quits_everybody_and_starts_the_clock() -> None:
    before = postmaster("RUN", f"{FAMILY} backend dead_end_backend logger")
    story = Story(before).tell(ShutdownRequested(Shutdown.IMMEDIATE, NOW))
    assert story.told("QUIT") == EVERYBODY
    assert story.pm.abort_start_time == int(NOW)
    assert story.of(SetQuitReason) == [SetQuitReason(QuitReason.FOR_STOP)]


RELOADS = table("""
    shutdown   -> heard
    NO         -> yes
    SMART      -> yes
    FAST       -> no
    IMMEDIATE  -> no
""")


@pytest.mark.parametrize("row", RELOADS, ids=row_id)
def test_when_a_reload_is_heard(row: Any) -> None:
    before = postmaster("WAIT_BACKENDS", f"{FAMILY} dead_end_backend logger backend")
    before = replace(before, shutdown=Shutdown[row.shutdown])
    story = Story(before).tell(ReloadRequested())
    everybody = (EVERYBODY | {"logger"}) - {"dead_end_backend"}
    assert story.told("HUP") == (everybody if row.heard == "yes" else set())


# --- who may connect (2.4) ------------------------------------------------------------------

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
def test_who_may_connect(row: Any) -> None:
    pm = postmaster(
        row.state,
        shutdown=row.shutdown,
        fatal_error=row.fatal == "yes",
        conns_allowed=row.conns == "yes",
    )
    assert can_accept_connections(pm) is Cac[row.answer]
    story = Story(pm).tell(ConnectionArrived())
    expected = "backend" if row.answer == "OK" else "dead_end_backend"
    assert [(r.kind.name.lower(), r.cac) for r in story.of(Fork)] == [(expected, Cac[row.answer])]


def test_one_client_too_many_gets_a_dead_end_child() -> None:
    config = replace(CONFIG, max_connections=1, max_wal_senders=0)
    before = postmaster("RUN", "backend*2", config=config)
    story = Story(before, config).tell(ConnectionArrived())
    assert [(r.kind, r.cac) for r in story.of(Fork)] == [(Kind.DEAD_END_BACKEND, Cac.TOO_MANY)]


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
    config = replace(CONFIG, logging_collector=True)
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
    story = Story(before, replace(CONFIG, io_workers=2)).tell(TurnEnded(NOW))
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
    ended = bool(story.of(Exit))
    assert ended == (row.failing == "startup")  # ST-07
    slots = story.pm.free_slots[Kind[row.failing.upper()]]
    assert len(slots) == (kinds.MAX_IO_WORKERS if row.failing == "io_worker" else 1)


def test_a_client_that_cannot_be_served_leaves_no_trace() -> None:
    before = postmaster("RUN", FAMILY)
    story = Story(before, failing="backend").tell(ConnectionArrived())
    assert story.pm == before
    assert any(line.startswith("could not fork new process") for line in story.lines())


# --- clocks ---------------------------------------------------------------------------------

SIGKILL_CLOCK = table("""
    fatal  shutdown   armed  passed -> fired
    yes    NO         yes    4      -> no
    yes    NO         yes    5      -> yes
    no     IMMEDIATE  yes    5      -> yes
    no     FAST       yes    5      -> no
    yes    NO         no     60     -> no
""")


@pytest.mark.parametrize("row", SIGKILL_CLOCK, ids=row_id)
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
    pm = replace(
        postmaster("RUN", shutdown=row.shutdown),
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
