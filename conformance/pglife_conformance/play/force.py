"""How each step of the environment and of a child is brought about while the postmaster is stopped.

Begin with force(), then the table at the end.

Source: the signals of each process's main function; postmaster/startup.c, checkpointer.c.
"""

import signal
from collections.abc import Callable, Sequence

from pglife_conformance.base import deadlines
from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.events import LimitForks, ShutdownMode
from pglife_conformance.monitor.binding import SHOWN_KIND
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.signals import pending_signals
from pglife_conformance.play.held import HeldServer
from pglife_spec import Action, Life, actions, outside
from pglife_spec import Kind as ModelKind

Force = Callable[[HeldServer, Action], None]

_MODES = {outside.shutdown_request(mode).name: mode for mode in ShutdownMode}
_REDO_BEGINS = "^(redo starts at|redo is not required|redo done)"


def force(server: HeldServer, action: Action) -> None:
    """Bring a step about; returns when it has happened.

    Raises:
        Inconclusive: if it cannot be brought about now.
    """
    _FORCES[action.name](server, action)


# The environment.


def _request(server: HeldServer, action: Action) -> None:
    server.cluster.request_shutdown(_MODES[action.name])


def _reload(server: HeldServer, _action: Action) -> None:
    server.cluster.reload()


def _crash(server: HeldServer, action: Action) -> None:
    kind = SHOWN_KIND[_kind(action)]
    found = server.cluster.children(kind)
    if kind is Kind.LOGGER and server.has_exited():
        server.cluster.wait_for(
            "the exit of the logger by itself", lambda: not server.cluster.children(Kind.LOGGER)
        )
        return
    if not found:
        raise Inconclusive(f"a {kind} to kill", "no such child")
    server.cluster.crash(found[-1])


def _crash_one(server: HeldServer, action: Action) -> None:
    life = outside.life_of(action)
    assert life is not None
    server.cluster.crash(server.child_with(_kind(action), outside.orders(_kind(action), life)))


def _send(kind: ModelKind | None, number: signal.Signals) -> Force:
    """Stop the child while it is idle, and signal it."""

    def send(server: HeldServer, action: Action) -> None:
        child = server.child_with(kind or _kind(action))
        server.stop(child)
        server.cluster.signal_child(child, number)

    return send


def _limit(room: int | None) -> Force:
    def limit(server: HeldServer, _action: Action) -> None:
        cluster = server.cluster
        user, pid = cluster.target.user, cluster.pid
        cluster.watcher.stimulus(LimitForks(room))
        if not user.limit_processes(pid, room):
            raise Inconclusive("a limit of processes for the postmaster", "it could not be set")

    return limit


def _client_leaves(server: HeldServer, _action: Action) -> None:
    """The client sends Terminate; its backend may have been stopped."""
    if not server.sessions:
        raise Inconclusive("a session that closes", "no session")
    session = server.sessions.pop()
    child = session.child
    server.continue_child(child)
    session.close()
    server.cluster.expect_death(child)


def _refused_client(server: HeldServer, _action: Action) -> None:
    """The silent client sends its startup packet and receives the reason of its refusal."""
    child = server.child_with(ModelKind.DEAD_END_BACKEND)
    session = server.refused.pop(child.key, None)
    if session is None:
        raise Inconclusive(f"the client of {child}", "it is not known which it is")
    server.continue_child(child)
    session.send_startup_packet({"user": "postgres", "database": "postgres"})
    server.cluster.expect_death(child)


# The startup process.


def _begin_redo(server: HeldServer, _action: Action) -> None:
    """It blocks again at the checkpoint that ends recovery, as the checkpointer is stopped."""
    server.stop_kinds({ModelKind.CHECKPOINTER})
    _continue_startup(server)
    server.cluster.expect_log(_REDO_BEGINS, within=deadlines.START_LIMIT)


def _end_recovery(server: HeldServer, _action: Action) -> None:
    startup = server.cluster.child(Kind.STARTUP)
    for child in server.cluster.children(Kind.CHECKPOINTER):
        if signal.SIGQUIT not in pending_signals(child):
            server.continue_child(child)
    _continue_startup(server)
    server.cluster.expect_death(startup, deadlines.START_LIMIT)


def _terminate_startup(server: HeldServer, _action: Action) -> None:
    startup = server.cluster.child(Kind.STARTUP)
    server.stop_kinds({ModelKind.CHECKPOINTER})
    _continue_startup(server)
    server.cluster.expect_death(startup, deadlines.START_LIMIT)


def _continue_startup(server: HeldServer) -> None:
    server.unblock_startup()
    for child in server.cluster.children(Kind.STARTUP):
        server.continue_child(child)


# Children that obey an order.


def _write_shutdown_checkpoint(server: HeldServer, _action: Action) -> None:
    """18: until the checkpointer has reported it; up to 17: until the checkpointer has exited."""
    child = server.cluster.child(Kind.CHECKPOINTER)
    server.continue_child(child)
    if server.cluster.target.version.major >= 18:
        server.cluster.wait_for(
            "the checkpointer's report of the shutdown checkpoint",
            server.has_message,
            deadlines.SHUTDOWN_LIMIT,
        )
        server.stop(child)
    else:
        server.cluster.expect_death(child, deadlines.SHUTDOWN_LIMIT)


def _checkpointer_exits(server: HeldServer, _action: Action) -> None:
    server.expect_exit(server.cluster.child(Kind.CHECKPOINTER))


def _obey(life: Life) -> Force:
    """A child that an order has brought into this state exits."""

    def obey(server: HeldServer, action: Action) -> None:
        kind = _kind(action)
        server.expect_exit(server.child_with(kind, outside.orders(kind, life)))

    return obey


def _nothing(_server: HeldServer, _action: Action) -> None:
    """The step comes with the one before or after it."""


def _kind(action: Action) -> ModelKind:
    kind = outside.kind_of(action)
    assert kind is not None, f"{action.name} is about no kind"
    return kind


_TABLE: tuple[tuple[Sequence[Action], Force], ...] = (
    (actions.operator_requests_shutdown, _request),
    (actions.operator_requests_reload, _reload),
    (actions.child_crashes, _crash),
    (actions.counted_child_crashes, _crash_one),
    (actions.operator_terminates_background_process, _send(None, signal.SIGTERM)),
    (actions.operator_terminates_session, _send(ModelKind.BACKEND, signal.SIGTERM)),
    (actions.operator_stops_io_worker, _send(ModelKind.IO_WORKER, signal.SIGUSR2)),
    (actions.operator_sends_sigusr2_to_checkpointer, _send(ModelKind.CHECKPOINTER, signal.SIGUSR2)),
    (actions.operator_sends_sigint_to_checkpointer, _send(ModelKind.CHECKPOINTER, signal.SIGINT)),
    (actions.fork_begins_to_fail, _limit(0)),
    (actions.fork_works_again, _limit(None)),
    (actions.client_disconnects, _client_leaves),
    (actions.dead_end_child_exits, _refused_client),
    (actions.startup_writes_control_file, _nothing),
    (actions.startup_begins_redo, _begin_redo),
    (actions.startup_finishes_recovery, _end_recovery),
    (actions.startup_exits, _nothing),
    (actions.startup_exits_at_sigterm, _terminate_startup),
    (actions.checkpointer_begins_shutdown_checkpoint, _write_shutdown_checkpoint),
    (actions.checkpointer_finishes_shutdown_checkpoint, _write_shutdown_checkpoint),
    (actions.checkpointer_exits_at_sigusr2, _checkpointer_exits),
    (actions.background_process_exits_at_sigterm, _obey(Life.TERMINATING)),
    (actions.signaled_child_exits, _obey(Life.TERMINATING)),
    (actions.child_exits_at_sigquit, _obey(Life.QUITTING)),
)
_FORCES = {action.name: how for cases, how in _TABLE for action in cases}
"""For each step that is not the postmaster's; an admission is part of an iteration."""
