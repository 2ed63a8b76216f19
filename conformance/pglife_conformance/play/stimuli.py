"""The player's deeds: how each step of the environment and of a child is brought about.

Begin with   do(), then the table DEEDS.
Owns         for each family of actions what is done to the server, and the evidence that it has
             happened.
Leaves out   which deed comes when (plan.py), what the postmaster makes of it (evidence.py).
Source       table 3.3; SG-10 ff; OB-01 to OB-13.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping

from pglife_conformance.base import deadlines
from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.events import LimitForks, ShutdownMode
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.signals import pending_signals
from pglife_conformance.play.plan import Deed
from pglife_conformance.play.stage import Stage, kind_of
from pglife_spec.lang.machine import Action

Choices = Mapping[str, str]

_TERM = frozenset({signal.SIGTERM})
_QUIT = frozenset({signal.SIGQUIT})
_LAST = frozenset({signal.SIGUSR2, signal.SIGINT})
_BEGUN = "^(redo starts at|redo is not required|redo done)"


def do(stage: Stage, deed: Deed, action: Action) -> None:
    """Bring a step about while the postmaster is held; returns when it has happened.

    Raises:
        Inconclusive: if it cannot be brought about now.
    """
    DEEDS[action.family](stage, action.choices)


# The environment.


def _request(stage: Stage, choices: Choices) -> None:
    stage.cluster.request_shutdown(ShutdownMode(choices["mode"].removesuffix("shutdown")))


def _reload(stage: Stage, _choices: Choices) -> None:
    stage.cluster.reload()


def _crash(stage: Stage, choices: Choices) -> None:
    found = stage.cluster.children(_kind(choices))
    if _kind(choices) is Kind.LOGGER and stage.is_over():
        stage.cluster.wait_for(
            "the end of the logger, by itself", lambda: not stage.cluster.children(Kind.LOGGER)
        )
        return
    if not found:
        raise Inconclusive(f"a {_kind(choices)} to kill", "there is none")
    stage.cluster.crash(found[-1])


def _crash_one(stage: Stage, choices: Choices) -> None:
    told = {"running": frozenset[signal.Signals](), "quitting": _QUIT}
    orders = told.get(choices["life"], _LAST if _kind(choices) is Kind.IO_WORKER else _TERM)
    stage.cluster.crash(stage.one(choices["kind"], orders))


def _terminate(stage: Stage, choices: Choices) -> None:
    child = stage.one(choices["kind"])
    stage.hold(child)
    stage.cluster.signal_child(child, signal.SIGTERM)


def _terminate_session(stage: Stage, _choices: Choices) -> None:
    child = stage.one("backend")
    stage.hold(child)
    stage.cluster.signal_child(child, signal.SIGTERM)


def _send(name: str, number: signal.Signals) -> Callable[[Stage, Choices], None]:
    def send(stage: Stage, _choices: Choices) -> None:
        child = stage.one(name)
        stage.hold(child)
        stage.cluster.signal_child(child, number)

    return send


def _limit(room: int | None) -> Callable[[Stage, Choices], None]:
    def limit(stage: Stage, _choices: Choices) -> None:
        cluster = stage.cluster
        user, pid = cluster.target.user, cluster.pid
        cluster.watcher.stimulus(LimitForks(room))
        if not user.limit_processes(pid, room):
            raise Inconclusive("a limit of processes for the postmaster", "it could not be set")

    return limit


def _client_leaves(stage: Stage, _choices: Choices) -> None:
    """The session says goodbye, even if its backend was held."""
    if not stage.sessions:
        raise Inconclusive("a session that leaves", "there is none")
    session = stage.sessions.pop()
    child = session.child
    stage.let_go(child)
    session.close()
    stage.cluster.expect_death(child)


def _refused_goes(stage: Stage, _choices: Choices) -> None:
    """The silent client says who it is, and is told why it is refused."""
    child = stage.one("dead_end_backend")
    session = stage.refused.pop(child.key, None)
    if session is None:
        raise Inconclusive(f"the client of {child}", "it is not known which it is")
    stage.let_go(child)
    session.send_startup_packet({"user": "postgres", "database": "postgres"})
    stage.cluster.expect_death(child)


# The startup process.


def _begin_redo(stage: Stage, _choices: Choices) -> None:
    """Pass the barrier; the checkpoint that ends recovery, which no process writes, holds it."""
    stage.hold_kinds(frozenset({"checkpointer"}))
    _pass_gate(stage)
    stage.cluster.expect_log(_BEGUN, within=deadlines.START_LIMIT)


def _end_recovery(stage: Stage, _choices: Choices) -> None:
    startup = stage.cluster.child(Kind.STARTUP)
    for child in stage.cluster.children(Kind.CHECKPOINTER):
        if signal.SIGQUIT not in pending_signals(child):
            stage.let_go(child)
    _pass_gate(stage)
    stage.cluster.expect_death(startup, deadlines.START_LIMIT)


def _startup_told(stage: Stage, _choices: Choices) -> None:
    startup = stage.cluster.child(Kind.STARTUP)
    stage.hold_kinds(frozenset({"checkpointer"}))
    _pass_gate(stage)
    stage.cluster.expect_death(startup, deadlines.START_LIMIT)


def _pass_gate(stage: Stage) -> None:
    stage.open_gate()
    for child in stage.cluster.children(Kind.STARTUP):
        stage.let_go(child)


# Children that do what they were told.


def _write_last_checkpoint(stage: Stage, _choices: Choices) -> None:
    """18: until it has reported; up to 17: until it has ended."""
    child = stage.cluster.child(Kind.CHECKPOINTER)
    stage.let_go(child)
    if stage.cluster.target.version.major >= 18:
        stage.cluster.wait_for(
            "the checkpointer's report of the shutdown checkpoint",
            stage.has_message,
            deadlines.SHUTDOWN_LIMIT,
        )
        stage.hold(child)
    else:
        stage.cluster.expect_death(child, deadlines.SHUTDOWN_LIMIT)


def _checkpointer_ends(stage: Stage, _choices: Choices) -> None:
    stage.end(stage.cluster.child(Kind.CHECKPOINTER))


def _ends_when_told(stage: Stage, choices: Choices) -> None:
    orders = _LAST if choices["kind"] == "io_worker" else _TERM
    stage.end(stage.one(choices["kind"], orders))


def _quits(stage: Stage, choices: Choices) -> None:
    stage.end(stage.one(choices["kind"], _QUIT))


def _nothing(stage: Stage, _choices: Choices) -> None:
    """Comes with the step before it."""


def _kind(choices: Choices) -> Kind:
    return kind_of(choices["kind"])


DEEDS: dict[str, Callable[[Stage, Choices], None]] = {
    "operator_requests_shutdown": _request,
    "operator_requests_reload": _reload,
    "child_crashes": _crash,
    "one_of_many_crashes": _crash_one,
    "background_process_is_terminated": _terminate,
    "session_is_terminated": _terminate_session,
    "io_worker_is_terminated": _send("io_worker", signal.SIGUSR2),
    "checkpointer_gets_stray_sigusr2": _send("checkpointer", signal.SIGUSR2),
    "checkpointer_gets_stray_sigint": _send("checkpointer", signal.SIGINT),
    "fork_begins_to_fail": _limit(0),
    "fork_works_again": _limit(None),
    "client_leaves": _client_leaves,
    "refused_client_goes": _refused_goes,
    "startup_begins_redo": _begin_redo,
    "recovery_ends": _end_recovery,
    "startup_finishes": _nothing,
    "startup_ends_when_told": _startup_told,
    "shutdown_checkpoint_begins": _write_last_checkpoint,
    "shutdown_checkpoint_ends": _write_last_checkpoint,
    "checkpointer_ends_when_told": _checkpointer_ends,
    "background_process_ends_when_told": _ends_when_told,
    "told_child_ends": _ends_when_told,
    "child_quits": _quits,
}
"""Every family of steps that is not the postmaster's; clients' admissions are turns of it."""
