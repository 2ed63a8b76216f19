"""The pictures of PostgreSQL's model: the postmaster, the life of each kind of child, the signals.

Begin with `views`.
"""

from collections.abc import Iterator
from dataclasses import replace

import networkx as nx

from pglife_spec.graphs import LifeView, signal_graph
from pglife_spec.lang.expr import Value, any_of, in_
from pglife_spec.lang.machine import Config, Machine
from pglife_spec.postgres import declared
from pglife_spec.postgres.actions.admission import Refusal
from pglife_spec.postgres.declared import case_of
from pglife_spec.postgres.state.children import COUNT, LIFE
from pglife_spec.postgres.state.postmaster import CRASH_OR_IMMEDIATE, EXIT, STATE
from pglife_spec.postgres.words import ArchiveMode, Kind, Life, Shutdown
from pglife_spec.postgres.words.kinds import COUNTED
from pglife_spec.postgres.words.workers import WorkerStart

STOP = case_of(declared.operator_requests_shutdown, mode=Shutdown.FastShutdown).name
"""A normal life ends by a fast shutdown."""
MODES = {m.name.lower(): m.name.removesuffix("Shutdown").lower() for m in Shutdown}
CLIENT_LIFE = {
    Kind.BACKEND: [declared.admit_client[0].name, declared.client_disconnects[0].name],
    Kind.DEAD_END_BACKEND: [
        declared.admit_client[0].name,
        case_of(declared.refuse_client, why=Refusal.CAC_TOOMANY).name,
    ],
    Kind.AUTOVAC_WORKER: [declared.launcher_asks_for_worker[0].name],
    Kind.WAL_SENDER: [declared.admit_client[0].name, declared.backend_becomes_walsender[0].name],
}
"""What happens to a client in a normal life, before the shutdown."""


def views(version: int) -> dict[str, LifeView]:
    """The pictures by name: `postmaster`, then one for each kind of child."""
    made = {
        "postmaster": LifeView(
            STATE,
            f"The postmaster of PostgreSQL {version}, a primary",
            passed="pmstate",
            left=EXIT,
            troubled=CRASH_OR_IMMEDIATE,
            stimuli=(STOP,),
            words=MODES,
        )
    }
    for kind in Kind:
        name = "startup process" if kind is Kind.STARTUP else kind.value
        title = f"The life of one {name}, PostgreSQL {version}"
        if kind in COUNTED:
            lives = {life.name: var for (k, life), var in COUNT.items() if k is kind}
            bad = [lives[life.name] >= 1 for life in (Life.QUITTING, Life.CRASHED)]
            view = LifeView(lives, title, troubled=any_of(*bad))
        else:
            view = LifeView(
                LIFE[kind], title, troubled=in_(LIFE[kind], Life.QUITTING, Life.CRASHED)
            )
        stimuli = (*CLIENT_LIFE.get(kind, ()), STOP)
        words = MODES | {kind.name.lower(): ""}
        made[kind.name.lower()] = replace(view, stimuli=stimuli, words=words)
    return made


def drawn(config: Config, view: str) -> Config:
    """A configuration small enough to draw from: the kind that is drawn, and no needless others.

    The pictures stay the same: their ways do not depend on how many clients there are, nor on
    children that the postmaster treats alike.
    """
    params = dict(config.params)
    needs: dict[Kind, tuple[str, Value, Value]] = {
        Kind.LOGGER: ("logging_collector", False, True),
        Kind.AUTOVAC_LAUNCHER: ("autovacuum", False, True),
        Kind.BG_WORKER: ("logical_launcher", False, True),
        Kind.ARCHIVER: ("archive_mode", ArchiveMode.OFF, ArchiveMode.ALWAYS),
        Kind.WAL_SENDER: ("wal_senders", False, True),
        Kind.WAL_SUMMARIZER: ("summarize_wal", False, True),
        Kind.AUTOVAC_WORKER: ("autovacuum", False, True),
        Kind.STATIC_WORKER: ("worker_start", WorkerStart.NEVER, WorkerStart.POSTMASTER_START),
    }
    params |= {param: off for param, off, _ in needs.values()}
    for kind, (param, _, on) in needs.items():
        if view == kind.name.lower():
            params[param] = on
    params["autovac_workers"] = int(view == Kind.AUTOVAC_WORKER.name.lower())
    bounds = dict(config.bounds)
    clients = (Kind.BACKEND.name.lower(), Kind.DEAD_END_BACKEND.name.lower())
    sender = Kind.WAL_SENDER.name.lower()
    bounds["backend"] = int(view in ("postmaster", sender, *clients))
    bounds["walsender"] = int(view == sender)
    bounds["dead_end"] = int(view == clients[1])
    if view not in ("postmaster", Kind.IO_WORKER.name.lower()):
        params["io_workers"] = bounds["io_worker"] = 0
    return replace(config, name=f"{config.name}, to draw", params=params, bounds=bounds)


def signals(machine: Machine) -> nx.MultiDiGraph:
    """Who signals whom among PostgreSQL's processes, with the messages kept as flags."""
    return signal_graph(machine, sent=_sent())


_REQUESTS = {
    Shutdown.SmartShutdown: "SIGTERM",
    Shutdown.FastShutdown: "SIGINT",
    Shutdown.ImmediateShutdown: "SIGQUIT",
}
_MESSAGES = (
    (Kind.STARTUP, "PMSIGNAL_RECOVERY_STARTED", declared.startup_begins_redo),
    (Kind.STARTUP, "PMSIGNAL_BEGIN_HOT_STANDBY", declared.startup_reaches_consistency),
    (Kind.STARTUP, "PMSIGNAL_START_WALRECEIVER", declared.startup_requests_walreceiver),
    (
        Kind.CHECKPOINTER,
        "PMSIGNAL_XLOG_IS_SHUTDOWN",
        declared.checkpointer_finishes_shutdown_checkpoint,
    ),
    (
        Kind.WAL_SENDER,
        "PMSIGNAL_ADVANCE_STATE_MACHINE",
        declared.backend_becomes_walsender,
    ),
    (
        Kind.AUTOVAC_LAUNCHER,
        "PMSIGNAL_START_AUTOVAC_WORKER",
        (
            *declared.launcher_asks_for_worker,
            *declared.launcher_asks_again,
            *declared.emergency_launcher_exits,
        ),
    ),
)


def _sent() -> Iterator[tuple[str, str, str, str]]:
    """Signals to the postmaster: the operator's requests, and messages of children."""
    for mode, signal in _REQUESTS.items():
        name = case_of(declared.operator_requests_shutdown, mode=mode).name
        yield "operator", signal, "postmaster", name
    yield "operator", "SIGHUP", "postmaster", declared.operator_requests_reload[0].name
    yield "operator", "SIGUSR1", "postmaster", declared.operator_promotes[0].name
    for kind, message, actions in _MESSAGES:
        for action in actions:
            yield kind.name, message, "postmaster", action.name
