"""What an event changes in a state: the rules of a postmaster, each in a line or two.

Begin with ExpectedPostmaster, then its events from top to bottom; finale.py says how it goes on.

Source: TR18-01 to TR18-35, TR15-04 to TR15-26, SM-01 to SM-13, RP-10 to RP-29, PR-01 to PR-14.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from signal import SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR2, Signals, strsignal

from pglife_conformance.events import ShutdownMode
from pglife_conformance.expect.excerpt import step
from pglife_conformance.matrix.kinds import ALL, CLIENTS, RELOAD_TARGETS, TARGETS
from pglife_conformance.observation.kinds import Kind
from pglife_spec import PM

TERMINATING = "terminating any other active server processes"


class ShutdownLevel(IntEnum):
    """The strongest request so far (SV-01)."""

    NONE = 0
    SMART = 1
    FAST = 2
    IMMEDIATE = 3

    @property
    def mode(self) -> ShutdownMode:
        """The request for it."""
        return ShutdownMode[self.name]


def pm_step(before: PM, after: PM) -> str:
    """A step of pmState as an excerpt shows it."""
    return step(before.name, after.name)


OPEN = frozenset({PM.PM_RUN, PM.PM_HOT_STANDBY})
STARTING = frozenset({PM.PM_STARTUP, PM.PM_RECOVERY})
LATE = frozenset(
    {
        PM.PM_WAIT_XLOG_SHUTDOWN,
        PM.PM_WAIT_XLOG_ARCHIVAL,
        PM.PM_WAIT_IO_WORKERS,
        PM.PM_WAIT_CHECKPOINTER,
    }
)
BEFORE_IO_WORKERS_END = (
    OPEN | STARTING | {PM.PM_WAIT_BACKENDS, PM.PM_WAIT_XLOG_SHUTDOWN, PM.PM_WAIT_XLOG_ARCHIVAL}
)


@dataclass
class ExpectedPostmaster:
    """A postmaster's variables and children, and what an event must make it do.

    Args:
        major: the major version.
        pm: pmState; 18's names stand for those of 15.
        shutdown: the strongest request so far.
        fatal: FatalError.
        children: how many children of each kind exist.
        io_workers: the setting of this name; 0 before 18.
        refuses_clients: a smart shutdown waits for sessions.
        startup_crashed: the startup process was killed.
        quits_in_crash_startup: the target has the repair startup_shutdown_after_crash_quits.
        lines: the lines that it writes.
        signals: the signals that each kind is sent.
        forked: how many children of each kind it forks.
    """

    major: int
    pm: PM
    shutdown: ShutdownLevel
    fatal: bool
    children: Counter[Kind]
    io_workers: int = 0
    refuses_clients: bool = False
    startup_crashed: bool = False
    quits_in_crash_startup: bool = False
    lines: list[str] = field(default_factory=list)
    signals: dict[Kind, set[Signals]] = field(default_factory=dict)
    forked: Counter[Kind] = field(default_factory=Counter)

    # Effects.

    def _log(self, line: str) -> None:
        self.lines.append(line)

    def _advance_to(self, pm: PM) -> None:
        self._log(pm_step(self.pm, pm))
        self.pm = pm

    def _signal(self, number: Signals, kinds: Iterable[Kind]) -> None:
        for kind in kinds:
            if self.children[kind]:
                self.signals.setdefault(kind, set()).add(number)

    def _any(self, kinds: Iterable[Kind]) -> bool:
        return any(self.children[kind] for kind in kinds)

    @property
    def _is_dying(self) -> bool:
        return self.fatal or self.shutdown is ShutdownLevel.IMMEDIATE

    @property
    def is_orderly_shutdown(self) -> bool:
        """Whether a smart or a fast shutdown was requested."""
        return ShutdownLevel.NONE < self.shutdown < ShutdownLevel.IMMEDIATE

    # Events.

    def request(self, shutdown: ShutdownLevel) -> None:
        """SH-01 to SH-09; TR18-14 to TR18-18."""
        if shutdown <= self.shutdown:
            return
        self.shutdown = shutdown
        self._log(f"received {shutdown.mode} shutdown request")
        if shutdown is ShutdownLevel.IMMEDIATE:
            # SM-23: the dead-end children only since 18.
            spared = set() if self.major >= 18 else {Kind.DEAD_END}
            self._signal(SIGQUIT, ALL - spared)
            self._advance_to(PM.PM_WAIT_BACKENDS)
        elif self.pm in STARTING and self.fatal and self.quits_in_crash_startup:
            self._signal(SIGQUIT, ALL)
            self._advance_to(PM.PM_WAIT_BACKENDS)
        elif self.pm in STARTING:
            self._advance_to(PM.PM_STOP_BACKENDS)
        elif self.pm in OPEN and shutdown is ShutdownLevel.SMART:
            self.refuses_clients = True
        elif self.pm in OPEN:
            self._log("aborting any active transactions")
            self._advance_to(PM.PM_STOP_BACKENDS)
        self._advance()

    def reload(self) -> None:
        """SG-02, MM-22."""
        if self.shutdown > ShutdownLevel.SMART:
            return
        self._log("received SIGHUP, reloading configuration files")
        self._signal(SIGHUP, RELOAD_TARGETS)

    def exits(self, kind: Kind, code: int) -> None:
        """A child exits (RP-10 to RP-29)."""
        self.children[kind] -= 1
        if kind is Kind.CHECKPOINTER and code == 0 and self.pm is PM.PM_WAIT_CHECKPOINTER:
            self._advance_to(PM.PM_WAIT_DEAD_END)
            self._signal(SIGTERM, ALL)
        elif kind is Kind.LOGICAL_REPLICATION_LAUNCHER and code == 1:
            self._log(f"{self._name(kind)} exited with exit code {code}")
        elif code not in kind.fine_exits:
            self._crash(kind, f"exited with exit code {code}")
        self._advance()
        self._launch()

    def killed(self, kind: Kind, number: Signals) -> None:
        """A child is killed by a signal."""
        self.children[kind] -= 1
        if kind is Kind.STARTUP:
            self.startup_crashed = True
        self._crash(kind, f"was terminated by signal {int(number)}: {strsignal(number)}")
        self._advance()
        self._launch()

    def wal_shut_down_unexpectedly(self) -> None:
        """TR18-25: the checkpointer reports a shutdown checkpoint without an order."""
        self._log("WAL was shut down unexpectedly")
        self._fatal_error()
        self._advance()

    # How the postmaster carries them out.

    def _name(self, kind: Kind) -> str:
        return f"{kind.name_in_log(self.major)} ({kind})"

    def _crash(self, kind: Kind, how: str) -> None:
        """CR-02, CR-03, TR18-09 to TR18-13."""
        if self._is_dying:
            return
        self._log(f"{self._name(kind)} {how}")
        self._log(TERMINATING)
        self._fatal_error()

    def _fatal_error(self) -> None:
        self._signal(SIGQUIT, ALL)
        self.fatal = True
        if self.pm in LATE and self.major >= 18:
            self._advance_to(PM.PM_WAIT_DEAD_END)
        elif self.pm in OPEN | STARTING or self.pm is PM.PM_WAIT_XLOG_SHUTDOWN:
            self._advance_to(PM.PM_WAIT_BACKENDS)

    def _advance(self) -> None:
        """SM-01 to SM-09."""
        if self.pm in OPEN and self.refuses_clients and not self._any(CLIENTS):
            self._advance_to(PM.PM_STOP_BACKENDS)
        if self.pm is PM.PM_STOP_BACKENDS:
            self._signal(SIGTERM, self._targets())
            self._advance_to(PM.PM_WAIT_BACKENDS)
        if self.pm is PM.PM_WAIT_BACKENDS and not self._any(self._targets()):
            if self._is_dying:
                self._advance_to(PM.PM_WAIT_DEAD_END)
                if self.major >= 18:
                    self._signal(SIGQUIT, [Kind.DEAD_END])
            else:
                self._signal(SIGINT if self.major >= 18 else SIGUSR2, [Kind.CHECKPOINTER])
                self._advance_to(PM.PM_WAIT_XLOG_SHUTDOWN)
        if self.major < 18:
            self._advance_17()
            return
        if self.pm is PM.PM_WAIT_XLOG_ARCHIVAL and not self._any([Kind.ARCHIVER]):
            self._advance_to(PM.PM_WAIT_IO_WORKERS)
            self._signal(SIGUSR2, [Kind.IO_WORKER])
        if self.pm is PM.PM_WAIT_IO_WORKERS and not self._any([Kind.IO_WORKER]):
            self._advance_to(PM.PM_WAIT_CHECKPOINTER)
            self._signal(SIGUSR2, [Kind.CHECKPOINTER])
        if self.pm is PM.PM_WAIT_DEAD_END and not self._any(ALL):
            self._advance_to(PM.PM_NO_CHILDREN)

    def _advance_17(self) -> None:
        if self.pm is PM.PM_WAIT_XLOG_ARCHIVAL and not self._any([Kind.ARCHIVER]):
            self._advance_to(PM.PM_WAIT_DEAD_END)
        if self.pm is PM.PM_WAIT_DEAD_END and not self._any(ALL - {Kind.CHECKPOINTER}):
            self._advance_to(PM.PM_NO_CHILDREN)

    def _targets(self) -> frozenset[Kind]:
        """SM-02, SM-03: the kinds that it waits for, and since 18 signals too."""
        if not self._is_dying:
            return TARGETS
        if self.major >= 18:
            return TARGETS | {Kind.CHECKPOINTER, Kind.ARCHIVER, Kind.IO_WORKER}
        return TARGETS | {Kind.CHECKPOINTER}

    def _launch(self) -> None:
        """SL-03: fork each missing child (the archiver's restart may take ten seconds)."""
        if self.pm in OPEN | STARTING:
            self._fill(Kind.CHECKPOINTER)
            self._fill(Kind.BACKGROUND_WRITER)
        if self.pm is PM.PM_RUN:
            self._fill(Kind.WALWRITER)
            self._fill(Kind.AUTOVACUUM_LAUNCHER)
        if self.pm in BEFORE_IO_WORKERS_END and not self._is_dying:
            self._fill(Kind.IO_WORKER, self.io_workers)

    def _fill(self, kind: Kind, number: int = 1) -> None:
        missing = number - self.children[kind]
        if missing > 0:
            self.children[kind] += missing
            self.forked[kind] += missing
