"""The repaired defects: each of these hangs or goes wrong on PostgreSQL 18.6, and ends here."""

import pytest
from pm_server import run
from pm_table import CONFIG, NOW, Driver, exit_of, postmaster

from pglife_impl.base.kinds import Kind
from pglife_impl.base.pmsignal import PmSignal
from pglife_impl.base.repairs import REPAIRS
from pglife_impl.postmaster.events import (
    Initialized,
    IterationEnded,
    PmSignalsSeen,
    ReapingDone,
    ShutdownRequested,
)
from pglife_impl.postmaster.requests import Exit, Reinitialize
from pglife_impl.postmaster.state import PM, Child, PmState, Shutdown, StartupStatus

STARTING = "io_worker*3 checkpointer bg_writer startup"
EXIT_0, EXIT_1, EXIT_2, EXIT_3, KILLED = 0, 1 << 8, 2 << 8, 3 << 8, 9


def after_a_crash() -> PmState:
    """PM_STARTUP with FatalError left over from the previous generation (MM-01)."""
    return postmaster("STARTUP", STARTING, fatal_error=True)


def child_of(pm: PmState, kind: Kind) -> Child:
    return next(child for child in pm.children.values() if child.kind is kind)


def all_children_quit(driver: Driver) -> Driver:
    """Every child exits with code 2, then the state machine runs."""
    for child in list(driver.pm.children.values()):
        driver.handle(exit_of(child, EXIT_2))
    return driver.handle(ReapingDone())


@pytest.mark.parametrize("level", [Shutdown.SMART, Shutdown.FAST])
def test_startup_shutdown_after_crash_quits(level: Shutdown) -> None:
    driver = Driver(after_a_crash()).handle(ShutdownRequested(level))
    assert driver.sent("QUIT") == {"io_worker", "checkpointer", "bg_writer", "startup"}
    assert driver.sent("TERM") == set()
    assert driver.pm.state is PM.WAIT_BACKENDS
    assert driver.pm.abort_start_time == int(NOW)
    all_children_quit(driver)
    assert [r.code.value for r in driver.of(Exit)] == [1]
    assert "abnormal database system shutdown" in driver.lines()


@pytest.mark.parametrize("kind", [Kind.IO_WORKER, Kind.CHECKPOINTER, Kind.BG_WRITER])
def test_crash_during_fatal_error_in_startup_restarts(kind: Kind) -> None:
    before = after_a_crash()
    driver = Driver(before).handle(exit_of(child_of(before, kind), KILLED), ReapingDone())
    assert "terminating any other active server processes" in driver.lines()
    assert driver.pm.state is PM.WAIT_BACKENDS
    assert driver.pm.startup_status is StartupStatus.SIGNALED
    all_children_quit(driver)
    assert len(driver.of(Reinitialize)) == 1
    assert driver.pm.state is PM.STARTUP


def test_recovery_target_reached_while_fatal_error_is_left_over_is_an_orderly_shutdown() -> None:
    """The message that redo has begun was overtaken; the checkpointer writes its checkpoint."""
    before = after_a_crash()
    driver = Driver(before).handle(exit_of(child_of(before, Kind.STARTUP), EXIT_3))
    assert "shutdown at recovery target" in driver.lines()
    driver.handle(exit_of(child_of(driver.pm, Kind.BG_WRITER), EXIT_0), ReapingDone())
    assert driver.pm.state is PM.WAIT_XLOG_SHUTDOWN
    assert driver.sent("INT") == {"checkpointer"}
    assert driver.sent("QUIT") == set()


@pytest.mark.parametrize("status", [EXIT_1, KILLED])
def test_crash_during_fatal_error_in_startup_of_startup_itself_ends(status: int) -> None:
    before = after_a_crash()
    driver = Driver(before).handle(exit_of(child_of(before, Kind.STARTUP), status), ReapingDone())
    assert driver.sent("QUIT") == {"io_worker", "checkpointer", "bg_writer"}
    all_children_quit(driver)
    assert [r.code.value for r in driver.of(Exit)] == [1]
    assert "shutting down due to startup process failure" in driver.lines()


def test_checkpointer_fork_failure_advances() -> None:
    config = CONFIG.replace(io_method="sync")
    before = postmaster("WAIT_BACKENDS", config=config, shutdown="FAST")
    driver = Driver(before, config, failing="checkpointer").handle(ReapingDone())
    assert driver.states() == ["WAIT_DEAD_END", "NO_CHILDREN"]
    assert [r.code.value for r in driver.of(Exit)] == [1]


def test_checkpointer_fork_success_goes_on_to_the_shutdown_checkpoint() -> None:
    before = postmaster("WAIT_BACKENDS", "io_worker", shutdown="FAST")
    driver = Driver(before).handle(ReapingDone())
    assert driver.forked() == ["checkpointer"]
    assert driver.signals() == {("checkpointer", "INT")}
    assert driver.states() == ["WAIT_XLOG_SHUTDOWN"]


def test_startup_exit_in_crash_not_run() -> None:
    before = postmaster("STARTUP", STARTING)
    driver = Driver(before).handle(
        exit_of(child_of(before, Kind.BG_WRITER), KILLED),
        exit_of(child_of(before, Kind.STARTUP), EXIT_0),
        ReapingDone(),
    )
    assert driver.pm.state is PM.WAIT_BACKENDS
    assert driver.pm.fatal_error
    assert driver.pm.startup_status is StartupStatus.NOT_RUNNING
    all_children_quit(driver)
    assert len(driver.of(Reinitialize)) == 1


def test_startup_exit_signals_others() -> None:
    before = postmaster(
        "HOT_STANDBY",
        "startup checkpointer bg_writer backend",
        shutdown="SMART",
        conns_allowed=False,
    )
    driver = Driver(before).handle(exit_of(child_of(before, Kind.STARTUP), EXIT_0), ReapingDone())
    assert driver.sent("TERM") == {"bg_writer", "backend"}
    assert driver.states() == ["STOP_BACKENDS", "WAIT_BACKENDS"]


def test_sigkill_reaches_dead_end() -> None:
    """A dead-end child forked after the only SIGKILL round gets a timeout too."""
    before = postmaster(
        "WAIT_BACKENDS", "backend dead_end_backend", fatal_error=True, abort_start_time=None
    )
    driver = Driver(before).handle(exit_of(child_of(before, Kind.BACKEND), KILLED), ReapingDone())
    assert driver.pm.state is PM.WAIT_DEAD_END
    driver.handle(IterationEnded(), now=NOW + 5)
    assert driver.sent("KILL") == {"dead_end_backend"}


def test_startup_fork_failure_is_crash() -> None:
    """The children that have been forked get SIGQUIT, and are waited for."""
    driver = Driver(postmaster("INIT"), failing="startup").handle(Initialized())
    assert driver.sent("QUIT") == {"io_worker", "checkpointer", "bg_writer"}
    assert driver.of(Exit) == []
    all_children_quit(driver)
    assert [r.code.value for r in driver.of(Exit)] == [1]
    assert "shutting down due to startup process failure" in driver.lines()


def test_startup_fork_failure_without_children_exits() -> None:
    driver = Driver(postmaster("INIT"), failing="io_worker checkpointer bg_writer startup")
    assert [r.code.value for r in driver.handle(Initialized()).of(Exit)] == [1]


def test_xlog_shutdown_in_crash_startup_is_crash() -> None:
    flags = frozenset({PmSignal.XLOG_IS_SHUTDOWN})
    driver = Driver(after_a_crash()).handle(PmSignalsSeen(flags, False, False))
    assert "WAL was shut down unexpectedly" in driver.lines()
    assert driver.sent("QUIT") == {"io_worker", "checkpointer", "bg_writer", "startup"}
    all_children_quit(driver)
    assert driver.pm.state is PM.STARTUP


def test_the_repairs_are_data() -> None:
    shown = run("postgres", "--repairs")
    assert shown.returncode == 0
    assert shown.stdout.split() == list(REPAIRS)
