"""The monitor judges hand-made observations: explained, impossible, open, too many candidates."""

import signal

import pytest

from pglife_conformance.events import (
    FAST,
    IMMEDIATE,
    SMART,
    CancelQuery,
    LetOthersConnect,
    LimitForks,
    ReloadRequest,
    RunPgCtl,
    ShutdownRequest,
    SignalChild,
    SignalPostmaster,
    Stimulus,
    Terminate,
    WriteFile,
)
from pglife_conformance.monitor import search
from pglife_conformance.monitor.judge import Impossible
from pglife_conformance.observation.kinds import Kind

from .paper import CRASHED, KILL, READY, RUNNING, SHUT_DOWN, PaperServer, admitted, died, to

ORDERLY = to(
    "STOP_BACKENDS",
    "WAIT_BACKENDS",
    "WAIT_XLOG_SHUTDOWN",
    "WAIT_XLOG_ARCHIVAL",
    "WAIT_IO_WORKERS",
    "WAIT_CHECKPOINTER",
    "WAIT_DEAD_END",
    "NO_CHILDREN",
)
FAST_LINES = ["received fast shutdown request", "aborting any active transactions"]
RESTART = [
    *to("RUN", "WAIT_BACKENDS", "WAIT_DEAD_END", "NO_CHILDREN"),
    "all server processes terminated; reinitializing",
    *to("NO_CHILDREN", "STARTUP"),
]


@pytest.fixture
def server() -> PaperServer:
    """An idle server of version 18."""
    made = PaperServer()
    made.run()
    return made


# Explained.


def test_start_is_explained(server: PaperServer) -> None:
    assert server.judge() is None
    assert server.monitor.looks == 1


def test_start_is_explained_line_by_line() -> None:
    """A look may fall between any two lines of one step."""
    server = PaperServer()
    server.start()
    server.look(*to("INIT", "STARTUP"))
    server.has(Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER, Kind.STARTUP)
    server.look()
    server.has(Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER)
    server.look(*to("STARTUP", "RUN"))
    server.look(READY)
    server.has(*RUNNING)
    server.look()
    assert server.judge() is None


def test_start_of_17_and_before_is_explained() -> None:
    """Up to 17 the log has no states, and helpers are forked before the ready line."""
    server = PaperServer(version=15)
    server.run()
    assert server.judge() is None


def test_fast_shutdown_is_explained(server: PaperServer) -> None:
    server.do(ShutdownRequest(FAST))
    server.look(*FAST_LINES, *to("RUN", "STOP_BACKENDS"), *ORDERLY, SHUT_DOWN, exit_code=0)
    assert server.judge() is None


def test_crash_restart_is_explained(server: PaperServer) -> None:
    """The child that was killed is named; then the server starts again."""
    walwriter = next(kid for kid in server.kids.values() if kid.kind is Kind.WALWRITER)
    server.do(SignalChild(walwriter, KILL))
    server.has()
    server.look(died("WAL writer process"), CRASHED, *RESTART[:1])
    server.look(*RESTART[1:])
    server.has(*RUNNING)
    server.look(*to("STARTUP", "RUN"), READY)
    assert server.judge() is None


def test_judging_goes_on_where_it_stopped(server: PaperServer) -> None:
    assert server.judge() is None
    server.do(ShutdownRequest(SMART))
    server.look("received smart shutdown request")
    assert server.judge() is None
    assert server.monitor.looks == 2


def test_a_look_may_fall_between_the_reaping_of_an_io_worker_and_its_successors_fork() -> None:
    server = PaperServer(io_method="worker", io_workers="2")
    server.start()
    server.has(*RUNNING, Kind.IO_WORKER, Kind.IO_WORKER)
    server.look(*to("INIT", "STARTUP", "RUN"), READY)
    *_, worker = server.kids.values()
    server.do(SignalChild(worker, signal.SIGUSR2))
    server.has(*RUNNING, Kind.IO_WORKER)
    server.look()
    server.has(*RUNNING, Kind.IO_WORKER, Kind.IO_WORKER)
    server.look()
    assert server.judge() is None


@pytest.mark.parametrize(
    ("signaled", "left"),
    [(False, (*RUNNING, Kind.IO_WORKER)), (True, (*RUNNING[:-1], Kind.IO_WORKER))],
    ids=["it was not signaled", "the walwriter is gone too"],
)
def test_a_child_is_not_gone_without_a_cause(signaled: bool, left: tuple[Kind, ...]) -> None:
    server = PaperServer(io_method="worker", io_workers="2")
    server.start()
    server.has(*RUNNING, Kind.IO_WORKER, Kind.IO_WORKER)
    server.look(*to("INIT", "STARTUP", "RUN"), READY)
    *_, worker = server.kids.values()
    if signaled:
        server.do(SignalChild(worker, signal.SIGUSR2))
    server.has(*left)
    server.look()
    with pytest.raises(Impossible):
        server.judge()


@pytest.mark.parametrize("first", ["smart", "immediate"])
def test_a_request_may_meet_an_earlier_one_that_is_being_handled(
    server: PaperServer, first: str
) -> None:
    """The earlier one's line is read after the later one was sent; or both are pending at once."""
    server.do(ShutdownRequest(SMART))
    server.do(ShutdownRequest(IMMEDIATE))
    server.look(f"received {first} shutdown request")
    server.look()
    assert server.judge() is None


def test_a_request_does_not_come_before_it_was_made(server: PaperServer) -> None:
    server.do(ShutdownRequest(SMART))
    server.look("received smart shutdown request")
    server.look("received immediate shutdown request")
    with pytest.raises(Impossible):
        server.judge()


def test_second_start_begins_afresh(server: PaperServer) -> None:
    server.do(ShutdownRequest(IMMEDIATE))
    states = to("RUN", "WAIT_BACKENDS", "WAIT_DEAD_END", "NO_CHILDREN")
    server.look("received immediate shutdown request", *states, SHUT_DOWN, exit_code=0)
    server.run()
    assert server.judge() is None


def test_explanations_are_the_states_that_agree(server: PaperServer) -> None:
    server.judge()
    program, states = server.monitor.explanations()
    assert states
    assert {str(program.unpack(state)["pmState"]) for state in states} == {"PM.PM_RUN"}


# Impossible.


@pytest.mark.parametrize(
    "messages",
    [[READY], to("RUN", "NO_CHILDREN"), [CRASHED], [SHUT_DOWN], ["received fast shutdown request"]],
    ids=["ready twice", "a jump", "a crash without a death", "no request", "another request"],
)
def test_lines_of_no_step_are_impossible(server: PaperServer, messages: list[str]) -> None:
    server.do(ShutdownRequest(SMART))
    server.look(*messages)
    with pytest.raises(Impossible, match="does not explain what was seen"):
        server.judge()


def test_lines_in_another_order_are_impossible(server: PaperServer) -> None:
    server.do(ShutdownRequest(FAST))
    server.look(*reversed(FAST_LINES))
    with pytest.raises(Impossible):
        server.judge()


def test_lines_of_a_step_stay_together(server: PaperServer) -> None:
    """After the first line of a step no other line may come than its second."""
    server.do(ShutdownRequest(FAST))
    server.look(FAST_LINES[0])
    server.judge()
    server.look(*to("RUN", "STOP_BACKENDS"))
    with pytest.raises(Impossible, match="next lines must be"):
        server.judge()


def test_verdict_shows_candidates_sight_and_guards(server: PaperServer) -> None:
    server.look("received fast shutdown request")
    with pytest.raises(Impossible) as caught:
        server.judge()
    text = str(caught.value)
    assert "pmState=PM_RUN" in text
    assert "then seen: log received fast shutdown request" in text
    assert "child " in text
    assert "process_shutdown_request(fastshutdown)" in text


def test_repair_decides_what_is_possible() -> None:
    """In PM_STARTUP after a crash only a repaired server handles a shutdown request by SIGQUIT."""
    for repairs in ((), ("startup_shutdown_after_crash_quits",)):
        server = PaperServer(repairs=repairs)
        server.run()
        walwriter = next(kid for kid in server.kids.values() if kid.kind is Kind.WALWRITER)
        server.do(SignalChild(walwriter, KILL))
        server.has(Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER, Kind.STARTUP)
        server.look(died("WAL writer process"), CRASHED, *RESTART)
        server.do(ShutdownRequest(FAST))
        server.look("received fast shutdown request", *to("STARTUP", "WAIT_BACKENDS"))
        if repairs:
            assert server.judge() is None
        else:
            with pytest.raises(Impossible):
                server.judge()


# Open.


@pytest.mark.parametrize(
    ("stimulus", "reason"),
    [
        (WriteFile("global/x"), "a change of global/x"),
        (WriteFile("standby.signal"), "a standby"),
        (LetOthersConnect(), "clients that are not the suite's"),
        (RunPgCtl(("promote",)), "pg_ctl promote"),
        (ReloadRequest({"io_workers": "5"}), "a reload that changes io_workers"),
        (SignalPostmaster(KILL), "SIGKILL to the postmaster"),
        (LimitForks(3), "a limit of 3 children"),
        (LimitForks(3, since_start=True), "a limit of processes before the first fork"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_stimulus_out_of_scope_opens_the_verdict(
    server: PaperServer, stimulus: Stimulus, reason: str
) -> None:
    """What comes after it is not judged."""
    server.do(stimulus)
    server.look("all is lost", READY)
    assert server.judge() == reason


@pytest.mark.parametrize(
    ("version", "settings", "reason"),
    [
        (16, {}, "versions 15 and 18, not 16"),
        (18, {"wal_level": "minimal"}, "wal_level = minimal"),
        (18, {"log_min_messages": "warning"}, "log_min_messages = warning"),
        (18, {"restore_command": "false"}, "archive recovery"),
    ],
)
def test_server_out_of_scope_opens_the_verdict(
    version: int, settings: dict[str, str], reason: str
) -> None:
    server = PaperServer(version, **settings)
    server.run()
    assert reason in str(server.judge())


def test_child_out_of_scope_opens_the_verdict(server: PaperServer) -> None:
    server.has(*RUNNING, Kind.AUTOPREWARM_LEADER)
    server.look()
    assert server.judge() == "a autoprewarm leader"


def test_signal_to_a_child_out_of_scope_opens_the_verdict(server: PaperServer) -> None:
    (leader,) = server.has(Kind.AUTOPREWARM_LEADER)
    server.do(SignalChild(leader, signal.SIGTERM))
    assert server.judge() == "a signal to a autoprewarm leader"


def test_death_out_of_scope_opens_the_verdict(server: PaperServer) -> None:
    server.look(died("untracked child process"))
    assert server.judge() == "the model has no child that the log calls untracked child process"


def test_exit_out_of_scope_opens_the_verdict(server: PaperServer) -> None:
    server.look(exit_code=-9)
    assert server.judge() == "a postmaster that exited with -9"


def test_postmaster_without_children_opens_the_verdict() -> None:
    """A postmaster that fails before its first fork is not in the model."""
    server = PaperServer()
    server.start()
    server.look(SHUT_DOWN, exit_code=1)
    assert server.judge() == "a postmaster that exited before its first child"


def test_observations_before_the_first_start_are_ignored() -> None:
    server = PaperServer()
    server.do(ShutdownRequest(FAST))
    server.look(READY)
    assert server.judge() is None
    assert server.monitor.looks == 0


def test_too_many_candidates_open_the_verdict(
    server: PaperServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "LIMIT", 3)
    assert server.judge() == "too many candidates to follow"


# Stimuli without an effect of their own.


@pytest.mark.parametrize(
    "stimulus",
    [
        ReloadRequest({}),
        CancelQuery(0, None),
        Terminate(0),
        RunPgCtl(("status",)),
        RunPgCtl(("reload",)),
        SignalPostmaster(signal.SIGUSR1),
        LimitForks(0),
        LimitForks(None),
    ],
    ids=repr,
)
def test_stimulus_may_have_no_visible_effect(server: PaperServer, stimulus: Stimulus) -> None:
    server.do(stimulus)
    server.connect(1)
    server.has(*RUNNING, Kind.CLIENT_BACKEND)
    if stimulus != LimitForks(0):
        server.look(answer=admitted(1))
    assert server.judge() is None


@pytest.mark.parametrize(
    ("args", "mode"),
    [((), "fast"), (("-m", "smart"), "smart"), (("-m", "i"), "immediate"), (("-W",), "fast")],
    ids=repr,
)
def test_pg_ctl_stop_sends_its_mode(server: PaperServer, args: tuple[str, ...], mode: str) -> None:
    server.do(RunPgCtl(("stop", *args)))
    server.look(f"received {mode} shutdown request")
    assert server.judge() is None


def test_pg_ctl_stop_sends_no_other_mode(server: PaperServer) -> None:
    server.do(RunPgCtl(("stop", "-m", "smart")))
    server.look("received immediate shutdown request")
    with pytest.raises(Impossible):
        server.judge()
