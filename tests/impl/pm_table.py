"""Tables that read like the documentation, and a driver for decide() without processes."""

from __future__ import annotations

import signal
import socket
from itertools import count
from types import SimpleNamespace
from typing import Any

from pglife_impl.base.ids import Pid, WorkerNumber
from pglife_impl.base.kinds import Kind
from pglife_impl.base.pmsignal import SlotFlag
from pglife_impl.postmaster.decide import carry_out, decide
from pglife_impl.postmaster.events import ChildExited, Event
from pglife_impl.postmaster.requests import (
    Fork,
    ForkFailure,
    ForkOutcome,
    Log,
    Request,
    SignalChild,
)
from pglife_impl.postmaster.state import PM, Child, Config, PmState, Shutdown, StartupStatus

NOW = 1_000_000.0
CONFIG = Config()
CLIENT = socket.socket()  # never connected: decisions only pass it on
HELPERS = "io_worker*3 checkpointer bg_writer wal_writer autovac_launcher bg_worker"
ALL_KINDS = set(f"{HELPERS} backend dead_end_backend".replace("*3", "").split())


def table(text: str) -> list[Any]:
    """Rows of a table with a head line; `->` is only for the eye."""
    lines = [line.split() for line in text.strip().splitlines()]
    head = [word for word in lines[0] if word != "->"]
    rows = []
    for line in lines[1:]:
        words = [word for word in line if word != "->"]
        assert len(words) == len(head), line
        rows.append(SimpleNamespace(**dict(zip(head, words, strict=True))))
    return rows


def row_id(row: Any) -> str:
    """A test's name from its row."""
    return "-".join(vars(row).values())


def postmaster(
    state: PM | str,
    kinds: str = "",
    *,
    config: Config = CONFIG,
    shutdown: Shutdown | str = Shutdown.NO,
    **variables: Any,
) -> PmState:
    """A postmaster in that state with these children: "backend io_worker*3 logger"."""
    pm = PmState(config)
    pm.state = PM[state] if isinstance(state, str) else state
    pm.shutdown = Shutdown[shutdown] if isinstance(shutdown, str) else shutdown
    pm.start_worker_needed = False
    for name, value in variables.items():
        assert hasattr(pm, name), name
        setattr(pm, name, value)
    pids = count(101)
    for word in kinds.split():
        name, _, number = word.partition("*")
        for _ in range(int(number or 1)):
            add_child(pm, Kind[name.upper()], Pid(next(pids)))
    if pm.pid_of(Kind.STARTUP) and pm.startup_status is StartupStatus.NOT_RUNNING:
        pm.startup_status = StartupStatus.RUNNING
    return pm


def add_child(pm: PmState, kind: Kind, pid: Pid) -> None:
    """Record one more child, in a slot of its kind."""
    slot = pm.take_slot(kind)
    assert (slot is None) == (kind is Kind.DEAD_END_BACKEND), kind
    pm.add_child(Child(pid, kind, slot, WorkerNumber(0) if kind is Kind.BG_WORKER else None))


class Driver:
    """Drives decide() with events, answers its forks without a process, and keeps its requests.

    Args:
        failing: the kinds for which fork() fails, as "startup io_worker".
    """

    def __init__(self, pm: PmState, config: Config = CONFIG, failing: str = "") -> None:
        self.pm = pm
        self.config = config
        self.failing = {Kind[name.upper()] for name in failing.split()}
        self.requests: list[Request] = []
        self.pids = count(501)

    def handle(self, *events: Event, now: float = NOW) -> Driver:
        """Decide about these events, one after another."""
        for event in events:
            self.pm = carry_out(decide(self.pm, event, self.config, now), self.perform)
        return self

    def perform(self, request: Request) -> ForkOutcome | None:
        """Keep a request; answer a Fork."""
        self.requests.append(request)
        if not isinstance(request, Fork):
            return None
        if request.kind in self.failing:
            return ForkFailure("Resource temporarily unavailable")
        return Pid(next(self.pids))

    def of(self, kind: type[Any]) -> list[Any]:
        """The requests of one type, in order."""
        return [r for r in self.requests if isinstance(r, kind)]

    def signals(self) -> set[tuple[str, str]]:
        """The signals sent: (kind, signal)."""
        return {
            (r.kind.name.lower(), r.signum.name.removeprefix("SIG")) for r in self.of(SignalChild)
        }

    def sent(self, signum: str) -> set[str]:
        """The kinds that were sent that signal."""
        return {kind for kind, name in self.signals() if name == signum}

    def lines(self) -> list[str]:
        """The log lines, without those at DEBUG2 about signals that arrived."""
        return [r.message for r in self.of(Log) if "postmaster received" not in r.message]

    def states(self) -> list[str]:
        """The states entered, in order."""
        steps = [line for line in self.lines() if line.startswith("updating PMState")]
        return [line.rpartition(" PM_")[2] for line in steps]

    def forked(self) -> list[str]:
        """The kinds for which a fork was requested, in order."""
        return [r.kind.name.lower() for r in self.of(Fork)]


def status(text: str) -> int:
    """A wait status: "0", "1", "2" exit codes, "KILL" a signal."""
    return int(text) << 8 if text.isdigit() else int(signal.Signals[f"SIG{text}"])


def exited(pm: PmState, kind: str, how: str, *, detached: bool = True) -> ChildExited:
    """The exit of the first child of that kind."""
    child = next(c for c in pm.children.values() if c.kind is Kind[kind.upper()])
    return exit_of(child, status(how), detached=detached)


def exit_of(child: Child, wait_status: int, *, detached: bool = True) -> ChildExited:
    """The exit of a child that has detached from shared memory, or has not."""
    flag = SlotFlag.ASSIGNED if detached else SlotFlag.ACTIVE
    return ChildExited(child.pid, wait_status, flag if child.slot is not None else None)
