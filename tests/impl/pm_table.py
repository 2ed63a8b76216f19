"""Tables that read like the documentation, and a performer that only pretends."""

from __future__ import annotations

import signal
from itertools import count
from types import SimpleNamespace
from typing import Any

from pglife_impl.base.kinds import Kind
from pglife_impl.postmaster.decide import decide
from pglife_impl.postmaster.events import (
    ChildExited,
    Event,
    Fork,
    Forked,
    ForkFailed,
    Log,
    Request,
    SignalChild,
)
from pglife_impl.postmaster.state import (
    PM,
    Child,
    Config,
    PmState,
    Shutdown,
    StartupStatus,
    newborn,
)

NOW = 1_000_000.0
CONFIG = Config()
FAMILY = "io_worker*3 checkpointer bg_writer wal_writer autovac_launcher bg_worker"
EVERYBODY = set(f"{FAMILY} backend dead_end_backend".replace("*3", "").split())


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
    pm = newborn(config).replace(
        state=PM[state] if isinstance(state, str) else state,
        shutdown=Shutdown[shutdown] if isinstance(shutdown, str) else shutdown,
        start_worker_needed=False,
        **variables,
    )
    pids = count(101)
    for word in kinds.split():
        name, _, number = word.partition("*")
        for _ in range(int(number or 1)):
            pm = with_child(pm, Kind[name.upper()], next(pids))
    if pm.pid_of(Kind.STARTUP) and pm.startup_status is StartupStatus.NOT_RUNNING:
        pm = pm.replace(startup_status=StartupStatus.RUNNING)
    return pm


def with_child(pm: PmState, kind: Kind, pid: int) -> PmState:
    """One more child, recorded as the postmaster would."""
    slot = 0
    if kind is not Kind.DEAD_END_BACKEND:
        pm, slot = pm.take_slot(kind)
        assert slot, kind
    worker = 0 if kind is Kind.BG_WORKER else -1
    pm = pm.with_child(Child(pid, kind, slot, worker))
    if kind is Kind.IO_WORKER:
        pids = list(pm.io_worker_children)
        pids[pids.index(0)] = pid
        pm = pm.replace(io_worker_children=tuple(pids))
    if kind is Kind.BG_WORKER:
        workers = (pm.workers[0].replace(pid=pid), *pm.workers[1:])
        pm = pm.replace(workers=workers)
    return pm


class Story:
    """Events into decide(), forks carried out in imagination, everything kept."""

    def __init__(self, pm: PmState, config: Config = CONFIG, failing: str = "") -> None:
        self.pm = pm
        self.config = config
        self.failing = {Kind[name.upper()] for name in failing.split()}
        self.requests: list[Request] = []
        self.pids = count(501)

    def tell(self, *events: Event) -> Story:
        """Let these happen, with all that follows from them."""
        for event in events:
            queue = [event]
            while queue:
                self.pm, requests = decide(self.pm, queue.pop(0), self.config)
                self.requests += requests
                queue += [self.outcome(r) for r in requests if isinstance(r, Fork)]
        return self

    def outcome(self, request: Fork) -> Event:
        """What the fork came to."""
        if request.kind in self.failing:
            error = "Resource temporarily unavailable"
            return ForkFailed(request.kind, request.slot, request.worker, error, NOW)
        return Forked(request.kind, next(self.pids), request.slot, request.worker, NOW)

    def of(self, kind: type[Any]) -> list[Any]:
        """The requests of one type, in order."""
        return [r for r in self.requests if isinstance(r, kind)]

    def signals(self) -> set[tuple[str, str]]:
        """Who was sent what: (kind, signal)."""
        return {
            (r.kind.name.lower(), signal.Signals(r.signum).name.removeprefix("SIG"))
            for r in self.of(SignalChild)
        }

    def told(self, signum: str) -> set[str]:
        """The kinds that were sent that signal."""
        return {kind for kind, name in self.signals() if name == signum}

    def lines(self) -> list[str]:
        """The log lines, without the DEBUG2 ones about signals that came."""
        return [r.message for r in self.of(Log) if "postmaster received" not in r.message]

    def states(self) -> list[str]:
        """The states entered, in order."""
        steps = [line for line in self.lines() if line.startswith("updating PMState")]
        return [line.rpartition(" PM_")[2] for line in steps]

    def forked(self) -> list[str]:
        """The kinds forked, in order."""
        return [r.kind.name.lower() for r in self.of(Fork)]


def status(text: str) -> int:
    """A wait status: "0", "1", "2" exit codes, "KILL" a signal."""
    return int(text) << 8 if text.isdigit() else int(signal.Signals[f"SIG{text}"])


def exited(pm: PmState, kind: str, how: str, *, clean: bool = True) -> ChildExited:
    """The death of the first child of that kind."""
    pid = next(c.pid for c in pm.children.values() if c.kind is Kind[kind.upper()])
    return ChildExited(pid, status(how), clean, NOW)
