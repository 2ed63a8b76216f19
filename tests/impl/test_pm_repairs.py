"""The repaired defects: each story hangs or goes wrong on PostgreSQL 18.6, and ends here."""

from __future__ import annotations

import pytest
from pm_server import run
from pm_table import CONFIG, NOW, Story, postmaster

from pglife_impl.base.kinds import Kind
from pglife_impl.base.pmsignal import PmSignal
from pglife_impl.base.repairs import REPAIRS
from pglife_impl.postmaster.events import (
    Born,
    ChildExited,
    Exit,
    PmSignalsSeen,
    ReapingDone,
    Reinitialize,
    ShutdownRequested,
    TurnEnded,
)
from pglife_impl.postmaster.state import PM, PmState, Shutdown, StartupStatus

STARTING = "io_worker*3 checkpointer bg_writer startup"
EXIT_0, EXIT_1, EXIT_2, KILLED = 0, 1 << 8, 2 << 8, 9


def after_a_crash() -> PmState:
    """PM_STARTUP with FatalError left over from the previous generation (MM-01)."""
    return postmaster("STARTUP", STARTING, fatal_error=True)


def pid_of(pm: PmState, kind: Kind) -> int:
    return next(c.pid for c in pm.children.values() if c.kind is kind)


def everybody_quits(story: Story) -> Story:
    """All children that were told to quit do so, then the machine runs."""
    for pid in list(story.pm.children):
        story.tell(ChildExited(pid, EXIT_2, True, NOW))
    return story.tell(ReapingDone(NOW))


@pytest.mark.parametrize("level", [Shutdown.SMART, Shutdown.FAST])
def test_startup_shutdown_after_crash_quits(level: Shutdown) -> None:
    story = Story(after_a_crash()).tell(ShutdownRequested(level, NOW))
    assert story.told("QUIT") == {"io_worker", "checkpointer", "bg_writer", "startup"}
    assert story.told("TERM") == set()
    assert story.pm.state is PM.WAIT_BACKENDS
    assert story.pm.abort_start_time == int(NOW)
    everybody_quits(story)
    assert [r.code.value for r in story.of(Exit)] == [1]
    assert "abnormal database system shutdown" in story.lines()


@pytest.mark.parametrize("kind", [Kind.IO_WORKER, Kind.CHECKPOINTER, Kind.BG_WRITER])
def test_crash_during_fatal_error_in_startup_restarts(kind: Kind) -> None:
    before = after_a_crash()
    story = Story(before).tell(
        ChildExited(pid_of(before, kind), KILLED, True, NOW), ReapingDone(NOW)
    )
    assert "terminating any other active server processes" in story.lines()
    assert story.pm.state is PM.WAIT_BACKENDS
    assert story.pm.startup_status is StartupStatus.SIGNALED
    everybody_quits(story)
    assert len(story.of(Reinitialize)) == 1
    assert story.pm.state is PM.STARTUP


@pytest.mark.parametrize("status", [EXIT_1, KILLED])
def test_crash_during_fatal_error_in_startup_of_startup_itself_ends(status: int) -> None:
    before = after_a_crash()
    story = Story(before).tell(
        ChildExited(pid_of(before, Kind.STARTUP), status, True, NOW), ReapingDone(NOW)
    )
    assert story.told("QUIT") == {"io_worker", "checkpointer", "bg_writer"}
    everybody_quits(story)
    assert [r.code.value for r in story.of(Exit)] == [1]
    assert "shutting down due to startup process failure" in story.lines()


def test_checkpointer_fork_failure_advances() -> None:
    config = CONFIG.replace(io_method="sync")
    before = postmaster("WAIT_BACKENDS", config=config, shutdown="FAST")
    story = Story(before, config, failing="checkpointer").tell(ReapingDone(NOW))
    assert story.states() == ["WAIT_DEAD_END", "NO_CHILDREN"]
    assert [r.code.value for r in story.of(Exit)] == [1]


def test_checkpointer_fork_success_goes_on_to_the_shutdown_checkpoint() -> None:
    before = postmaster("WAIT_BACKENDS", "io_worker", shutdown="FAST")
    story = Story(before).tell(ReapingDone(NOW))
    assert story.forked() == ["checkpointer"]
    assert story.signals() == {("checkpointer", "INT")}
    assert story.states() == ["WAIT_XLOG_SHUTDOWN"]


def test_startup_exit_in_crash_not_run() -> None:
    before = postmaster("STARTUP", STARTING)
    story = Story(before).tell(
        ChildExited(pid_of(before, Kind.BG_WRITER), KILLED, True, NOW),
        ChildExited(pid_of(before, Kind.STARTUP), EXIT_0, True, NOW),
        ReapingDone(NOW),
    )
    assert story.pm.state is PM.WAIT_BACKENDS
    assert story.pm.fatal_error
    assert story.pm.startup_status is StartupStatus.NOT_RUNNING
    everybody_quits(story)
    assert len(story.of(Reinitialize)) == 1


def test_startup_exit_signals_others() -> None:
    before = postmaster(
        "HOT_STANDBY",
        "startup checkpointer bg_writer backend",
        shutdown="SMART",
        conns_allowed=False,
    )
    story = Story(before).tell(
        ChildExited(pid_of(before, Kind.STARTUP), EXIT_0, True, NOW), ReapingDone(NOW)
    )
    assert story.told("TERM") == {"bg_writer", "backend"}
    assert story.states() == ["STOP_BACKENDS", "WAIT_BACKENDS"]


def test_sigkill_reaches_dead_end() -> None:
    """A client refused after the only round: its child has a clock too."""
    before = postmaster(
        "WAIT_BACKENDS", "backend dead_end_backend", fatal_error=True, abort_start_time=0
    )
    story = Story(before).tell(
        ChildExited(pid_of(before, Kind.BACKEND), KILLED, True, NOW), ReapingDone(NOW)
    )
    assert story.pm.state is PM.WAIT_DEAD_END
    story.tell(TurnEnded(NOW + 5))
    assert story.told("KILL") == {"dead_end_backend"}


def test_startup_fork_failure_is_crash() -> None:
    """Whoever has been forked before is told, and waited for."""
    story = Story(postmaster("INIT"), failing="startup").tell(Born())
    assert story.told("QUIT") == {"io_worker", "checkpointer", "bg_writer"}
    assert story.of(Exit) == []
    everybody_quits(story)
    assert [r.code.value for r in story.of(Exit)] == [1]
    assert "shutting down due to startup process failure" in story.lines()


def test_startup_fork_failure_is_crash_only_if_somebody_is_there() -> None:
    story = Story(postmaster("INIT"), failing="io_worker checkpointer bg_writer startup")
    assert [r.code.value for r in story.tell(Born()).of(Exit)] == [1]


def test_xlog_shutdown_in_crash_startup_is_crash() -> None:
    flags = frozenset({PmSignal.XLOG_IS_SHUTDOWN})
    story = Story(after_a_crash()).tell(PmSignalsSeen(flags, False, False, NOW))
    assert "WAL was shut down unexpectedly" in story.lines()
    assert story.told("QUIT") == {"io_worker", "checkpointer", "bg_writer", "startup"}
    everybody_quits(story)
    assert story.pm.state is PM.STARTUP


def test_the_repairs_are_data() -> None:
    shown = run("postgres", "--repairs")
    assert shown.returncode == 0
    assert shown.stdout.split() == list(REPAIRS)
