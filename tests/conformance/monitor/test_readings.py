"""What the monitor reads of a look: log lines, children, exit status and answers."""

import signal
from dataclasses import replace

import pytest

from pglife_conformance.events import (
    FAST,
    SMART,
    Answer,
    AnswerKind,
    LimitForks,
    ShutdownRequest,
    SignalChild,
)
from pglife_conformance.monitor.binding import MODEL_KIND, SHOWN_KIND, Binding
from pglife_conformance.monitor.judge import Impossible
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_conformance.observation.processes import Child, RunState
from pglife_spec import Kind as ModelKind

from .paper import (
    CRASHED,
    KILL,
    READY,
    RUNNING,
    SHUT_DOWN,
    PaperServer,
    admitted,
    died,
    refused,
    to,
)

SHUTTING_DOWN = "the database system is shutting down"
STARTING_UP = "the database system is starting up"
TOO_MANY = "sorry, too many clients already"


@pytest.fixture
def server() -> PaperServer:
    """An idle server of version 18."""
    made = PaperServer()
    made.run()
    return made


def child_of(server: PaperServer, kind: Kind) -> Child:
    return next(kid for kid in server.kids.values() if kid.kind is kind)


def expect_impossible(server: PaperServer) -> None:
    with pytest.raises(Impossible):
        server.judge()


# Log lines.


def test_lines_of_children_and_unknown_lines_are_ignored(server: PaperServer) -> None:
    server.look("checkpoint starting: time", "a line that no step writes")
    assert server.judge() is None


@pytest.mark.parametrize("name", ["client backend", "server process"])
def test_name_of_a_dead_session_depends_on_the_release(name: str) -> None:
    """Up to 17 the log calls sessions and dead-end children server processes."""
    server = PaperServer(18 if name == "client backend" else 15)
    server.run()
    server.connect(0)
    server.has(*RUNNING, Kind.CLIENT_BACKEND)
    server.look(answer=admitted(0))
    server.do(SignalChild(child_of(server, Kind.CLIENT_BACKEND), KILL))
    server.has(*RUNNING)
    server.look(died(name), CRASHED)
    assert server.judge() is None


def test_death_of_another_kind_is_impossible(server: PaperServer) -> None:
    server.do(SignalChild(child_of(server, Kind.WALWRITER), KILL))
    server.look(died("checkpointer process"), CRASHED)
    expect_impossible(server)


def test_orderly_exit_of_the_launcher_is_no_crash() -> None:
    server = PaperServer(max_logical_replication_workers="4")
    server.run()
    server.has(*RUNNING, Kind.LOGICAL_REPLICATION_LAUNCHER)
    server.look()
    launcher = child_of(server, Kind.LOGICAL_REPLICATION_LAUNCHER)
    server.do(SignalChild(launcher, signal.SIGTERM))
    server.has(*RUNNING)
    name = 'background worker "logical replication launcher"'
    server.look(died(name, "exited with exit code 1"))
    assert server.judge() is None


# Children.


def test_missing_child_is_impossible(server: PaperServer) -> None:
    """A checkpointer that was not reaped must be seen."""
    server.has(Kind.BACKGROUND_WRITER, Kind.WALWRITER)
    server.look()
    expect_impossible(server)


def test_missing_child_may_have_been_signalled(server: PaperServer) -> None:
    server.do(SignalChild(child_of(server, Kind.WALWRITER), signal.SIGTERM))
    server.has(Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER)
    server.look()
    server.has(*RUNNING)
    server.look()
    assert server.judge() is None


def test_signal_explains_one_exit_only(server: PaperServer) -> None:
    server.do(SignalChild(child_of(server, Kind.WALWRITER), signal.SIGTERM))
    server.has(Kind.CHECKPOINTER)
    server.look()
    expect_impossible(server)


def test_ignored_signal_explains_nothing(server: PaperServer) -> None:
    """The checkpointer ignores SIGTERM."""
    server.do(SignalChild(child_of(server, Kind.CHECKPOINTER), signal.SIGTERM))
    server.has(Kind.BACKGROUND_WRITER, Kind.WALWRITER)
    server.look()
    expect_impossible(server)


def test_second_child_of_a_kind_is_impossible(server: PaperServer) -> None:
    server.has(*RUNNING, Kind.WALWRITER)
    server.look()
    expect_impossible(server)


def test_session_without_a_client_is_impossible(server: PaperServer) -> None:
    server.has(*RUNNING, Kind.CLIENT_BACKEND)
    server.look()
    expect_impossible(server)


def test_untitled_child_may_be_of_any_kind(server: PaperServer) -> None:
    """A child that has not set its title yet may be the walwriter."""
    server.has(Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER, Kind.UNKNOWN)
    server.look()
    assert server.judge() is None


def test_zombie_is_a_child(server: PaperServer) -> None:
    server.do(SignalChild(child_of(server, Kind.WALWRITER), KILL))
    server.kids = {
        kid.pid: replace(kid, state=RunState.ZOMBIE if kid.kind is Kind.WALWRITER else kid.state)
        for kid in server.kids.values()
    }
    server.look()
    assert server.judge() is None


def test_bystanders_are_ignored(server: PaperServer) -> None:
    server.has(*RUNNING, Kind.AUTOVACUUM_WORKER, Kind.PARALLEL_WORKER)
    server.look()
    assert server.judge() is None


def test_launch_may_follow_its_line(server: PaperServer) -> None:
    """A look may fall between the lines of a step and the fork of its child."""
    server = PaperServer()
    server.start()
    server.look(*to("INIT", "STARTUP"))
    server.has(Kind.CHECKPOINTER)
    server.look()
    assert server.judge() is None


def test_logging_collector_delays_lines() -> None:
    """With a logger, lines are read later than what they report: children prove nothing then."""
    server = PaperServer(logging_collector="on")
    server.start()
    server.has(*RUNNING, Kind.LOGGER)
    server.look(*to("INIT", "STARTUP"))
    server.has(Kind.CHECKPOINTER)
    server.look(*to("STARTUP", "RUN"), READY)
    assert server.judge() is None


def test_limit_of_forks_explains_a_missing_child(server: PaperServer) -> None:
    server.do(LimitForks(0))
    server.do(SignalChild(child_of(server, Kind.WALWRITER), signal.SIGTERM))
    server.has(Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER)
    for _ in range(2):
        server.look()
    assert server.judge() is None


# Exit status.


@pytest.mark.parametrize("code", [0, 1])
def test_exit_status_follows_the_last_lines(server: PaperServer, code: int) -> None:
    """After an immediate shutdown only 0 is possible, after a failed startup process only 1."""
    server = PaperServer()
    server.start()
    server.has(Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER, Kind.STARTUP)
    server.look(*to("INIT", "STARTUP"))
    server.do(SignalChild(child_of(server, Kind.STARTUP), KILL))
    server.look(
        died("startup process"),
        CRASHED,
        *to("STARTUP", "WAIT_BACKENDS", "WAIT_DEAD_END", "NO_CHILDREN"),
        "shutting down due to startup process failure",
        SHUT_DOWN,
        exit_code=code,
    )
    if code == 1:
        assert server.judge() is None
    else:
        expect_impossible(server)


def test_exit_without_its_lines_is_impossible(server: PaperServer) -> None:
    server.do(ShutdownRequest(FAST))
    server.look(exit_code=0)
    expect_impossible(server)


# Answers.


def answered(server: PaperServer, answer: Answer, *kinds: Kind) -> PaperServer:
    server.connect(0)
    server.has(*RUNNING, *kinds)
    server.look(answer=answer)
    return server


def test_client_of_an_open_server_is_admitted(server: PaperServer) -> None:
    assert answered(server, admitted(0), Kind.CLIENT_BACKEND).judge() is None


def test_error_after_admission_is_allowed(server: PaperServer) -> None:
    """A failed authentication, for instance, is the answer of a client that has a slot."""
    error = refused(0, 'role "nobody" does not exist', "28000")
    assert answered(server, error, Kind.UNKNOWN).judge() is None


@pytest.mark.parametrize("message", [SHUTTING_DOWN, STARTING_UP, "the weather is bad"])
def test_refusal_by_an_open_server_is_impossible(server: PaperServer, message: str) -> None:
    expect_impossible(answered(server, refused(0, message), Kind.UNKNOWN))


@pytest.mark.parametrize("is_right", [True, False])
def test_refusal_has_the_words_of_the_state(server: PaperServer, is_right: bool) -> None:
    """After a smart shutdown request a new client is refused, in these words only."""
    answered(server, admitted(0), Kind.CLIENT_BACKEND)
    server.do(ShutdownRequest(SMART))
    server.look("received smart shutdown request")
    server.connect(1)
    server.has(*RUNNING, Kind.CLIENT_BACKEND, Kind.UNKNOWN)
    server.look(answer=refused(1, SHUTTING_DOWN if is_right else STARTING_UP))
    if is_right:
        assert server.judge() is None
    else:
        expect_impossible(server)


def test_admission_after_a_smart_request_is_impossible(server: PaperServer) -> None:
    answered(server, admitted(0), Kind.CLIENT_BACKEND)
    server.do(ShutdownRequest(SMART))
    server.look("received smart shutdown request")
    server.connect(1)
    server.has(*RUNNING, Kind.CLIENT_BACKEND, Kind.CLIENT_BACKEND)
    server.look(answer=admitted(1))
    expect_impossible(server)


def test_too_many_clients_may_be_said_with_a_slot(server: PaperServer) -> None:
    """Reserved connections are refused by the backend itself, after its admission."""
    answer = refused(0, TOO_MANY, "53300")
    assert answered(server, answer, Kind.UNKNOWN).judge() is None


def test_only_the_first_answer_is_compared(server: PaperServer) -> None:
    answered(server, admitted(0), Kind.CLIENT_BACKEND)
    server.look(answer=refused(0, SHUTTING_DOWN))
    assert server.judge() is None


@pytest.mark.parametrize("kind", [AnswerKind.ONE_BYTE, AnswerKind.WARNING, AnswerKind.RESET])
def test_other_answers_decide_nothing(server: PaperServer, kind: AnswerKind) -> None:
    assert answered(server, Answer(0, kind), Kind.UNKNOWN).judge() is None


# The pid file is shown, and not compared.


@pytest.mark.parametrize("status", PidFileStatus)
def test_pid_file_is_part_of_the_verdict_text(server: PaperServer, status: PidFileStatus) -> None:
    server.look(pid_file=status)
    assert server.judge() is None
    server.look(READY, pid_file=status)
    with pytest.raises(Impossible, match=f"pid file {status}"):
        server.judge()


# The binding.


def test_each_kind_of_the_model_is_shown_as_one_kind() -> None:
    assert set(SHOWN_KIND) == set(ModelKind)
    assert {MODEL_KIND[kind] for kind in MODEL_KIND} == set(ModelKind) - {
        ModelKind.DEAD_END_BACKEND,
        ModelKind.AUTOVAC_WORKER,
        ModelKind.STATIC_WORKER,
    }


def test_settings_become_parameters() -> None:
    settings = {"restart_after_crash": "off", "io_workers": "2", "max_connections": "1"}
    params = Binding.of(18, settings, ["sigkill_reaches_dead_end"]).config.params
    assert params["restart_after_crash"] is False
    assert params["io_workers"] == 2
    assert params["repair.sigkill_reaches_dead_end"] is True
    assert params["repair.no_accept_after_wait_dead_end"] is False
    assert Binding.of(15, settings).config.params["io_workers"] == 0
