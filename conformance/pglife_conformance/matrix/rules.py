"""What an event does in a state: the rules of a postmaster, each in a line or two.

Begin with   Standing, then its events from top to bottom; finale() for how it ends.
Owns         expectations of the matrix: lines, steps, who is told what, who is born, the end.
Leaves out   time, clients' answers, everything that several deaths at once may do.
Source       rules TR18-01..35, TR15-04..26, SM-01..13, RP-10..29, PR-01..14.

This retells the rules a second time, apart from the model on purpose: if the two do not agree on
a server's behaviour, one of them is wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import IntEnum
from signal import SIGINT, SIGQUIT, SIGTERM, SIGUSR2, Signals, strsignal

from pglife_conformance.events import ShutdownMode
from pglife_conformance.expect.excerpt import step
from pglife_conformance.matrix.kinds import ALL, CLIENTS, HEARS_RELOAD, TARGETS
from pglife_conformance.observation.kinds import Kind

TERMINATING = "terminating any other active server processes"
EVERYBODY = ALL


class Level(IntEnum):
    """SV-01."""

    NO = 0
    SMART = 1
    FAST = 2
    IMMEDIATE = 3

    @property
    def mode(self) -> ShutdownMode:
        """The request that leads here."""
        return ShutdownMode[self.name]


OPEN = frozenset({"PM_RUN", "PM_HOT_STANDBY"})
STARTING = frozenset({"PM_STARTUP", "PM_RECOVERY"})
LATE = frozenset(
    {"PM_WAIT_XLOG_SHUTDOWN", "PM_WAIT_XLOG_ARCHIVAL", "PM_WAIT_IO_WORKERS", "PM_WAIT_CHECKPOINTER"}
)
BEFORE_IO_WORKERS_END = (
    OPEN | STARTING | {"PM_WAIT_BACKENDS", "PM_WAIT_XLOG_SHUTDOWN", "PM_WAIT_XLOG_ARCHIVAL"}
)


@dataclass
class Standing:
    """The postmaster's variables that matter, and who is there."""

    major: int
    pm: str
    level: Level
    fatal: bool
    crew: Counter[Kind]
    io_workers: int = 0
    doors_closed: bool = False
    startup_crashed: bool = False
    quits_in_crash_startup: bool = False
    """A repair that a target may declare: startup_shutdown_after_crash_quits."""
    lines: list[str] = field(default_factory=list)
    told: dict[Kind, set[Signals]] = field(default_factory=dict)
    born: Counter[Kind] = field(default_factory=Counter)

    def copy(self) -> Standing:
        """To play an event on."""
        return replace(
            self,
            crew=Counter(self.crew),
            lines=list(self.lines),
            told={kind: set(numbers) for kind, numbers in self.told.items()},
            born=Counter(self.born),
        )

    # What they all do.

    def _say(self, line: str) -> None:
        self.lines.append(line)

    def _to(self, pm: str) -> None:
        self._say(step(self.pm, pm))
        self.pm = pm

    def _tell(self, number: Signals, kinds: Iterable[Kind]) -> None:
        for kind in kinds:
            if self.crew[kind]:
                self.told.setdefault(kind, set()).add(number)

    def _any(self, kinds: Iterable[Kind]) -> bool:
        return any(self.crew[kind] for kind in kinds)

    @property
    def _is_dying(self) -> bool:
        return self.fatal or self.level is Level.IMMEDIATE

    # Events.

    def request(self, level: Level) -> None:
        """SH-01 to SH-09; TR18-14 to TR18-18."""
        if level <= self.level:
            return
        self.level = level
        self._say(f"received {level.mode} shutdown request")
        if level is Level.IMMEDIATE:
            # SM-23: the dead-end children only since 18.
            spared = set() if self.major >= 18 else {Kind.DEAD_END}
            self._tell(SIGQUIT, EVERYBODY - spared)
            self._to("PM_WAIT_BACKENDS")
        elif self.pm in STARTING and self.fatal and self.quits_in_crash_startup:
            self._tell(SIGQUIT, EVERYBODY)
            self._to("PM_WAIT_BACKENDS")
        elif self.pm in STARTING:
            self._to("PM_STOP_BACKENDS")
        elif self.pm in OPEN and level is Level.SMART:
            self.doors_closed = True
        elif self.pm in OPEN:
            self._say("aborting any active transactions")
            self._to("PM_STOP_BACKENDS")
        self._advance()

    def reload(self) -> None:
        """SG-02, MM-22."""
        if self.level > Level.SMART:
            return
        self._say("received SIGHUP, reloading configuration files")
        for kind, numbers in HEARS_RELOAD.items():
            for number in numbers:
                self._tell(number, [kind])

    def exits(self, kind: Kind, code: int) -> None:
        """A child ends by itself (RP-10..29)."""
        self.crew[kind] -= 1
        if kind is Kind.CHECKPOINTER and code == 0 and self.pm == "PM_WAIT_CHECKPOINTER":
            self._to("PM_WAIT_DEAD_END")
            self._tell(SIGTERM, EVERYBODY)
        elif kind is Kind.LOGICAL_REPLICATION_LAUNCHER and code == 1:
            self._say(f"{self._name(kind)} exited with exit code {code}")
        elif code not in kind.fine_exits:
            self._crash(kind, f"exited with exit code {code}")
        self._advance()
        self._launch()

    def killed(self, kind: Kind, number: Signals) -> None:
        """A child is ended by a deadly signal."""
        self.crew[kind] -= 1
        if kind is Kind.STARTUP:
            self.startup_crashed = True
        self._crash(kind, f"was terminated by signal {int(number)}: {strsignal(number)}")
        self._advance()
        self._launch()

    def wal_shut_down_unexpectedly(self) -> None:
        """TR18-25: the checkpointer reports a shutdown checkpoint nobody asked for."""
        self._say("WAL was shut down unexpectedly")
        self._fatal_error()
        self._advance()

    # How they are carried out.

    def _name(self, kind: Kind) -> str:
        return f"{kind.name_in_log(self.major)} ({kind})"

    def _crash(self, kind: Kind, how: str) -> None:
        """CR-02, CR-03, TR18-09 to TR18-13."""
        if self._is_dying:
            return
        self._say(f"{self._name(kind)} {how}")
        self._say(TERMINATING)
        self._fatal_error()

    def _fatal_error(self) -> None:
        self._tell(SIGQUIT, EVERYBODY)
        self.fatal = True
        if self.pm in LATE and self.major >= 18:
            self._to("PM_WAIT_DEAD_END")
        elif self.pm in OPEN | STARTING or self.pm == "PM_WAIT_XLOG_SHUTDOWN":
            self._to("PM_WAIT_BACKENDS")

    def _advance(self) -> None:
        """SM-01 to SM-09."""
        if self.pm in OPEN and self.doors_closed and not self._any(CLIENTS):
            self._to("PM_STOP_BACKENDS")
        if self.pm == "PM_STOP_BACKENDS":
            self._tell(SIGTERM, self._targets())
            self._to("PM_WAIT_BACKENDS")
        if self.pm == "PM_WAIT_BACKENDS" and not self._any(self._targets()):
            if self._is_dying:
                self._to("PM_WAIT_DEAD_END")
                if self.major >= 18:
                    self._tell(SIGQUIT, [Kind.DEAD_END])
            else:
                self._tell(SIGINT if self.major >= 18 else SIGUSR2, [Kind.CHECKPOINTER])
                self._to("PM_WAIT_XLOG_SHUTDOWN")
        if self.major < 18:
            self._advance_17()
            return
        if self.pm == "PM_WAIT_XLOG_ARCHIVAL" and not self._any([Kind.ARCHIVER]):
            self._to("PM_WAIT_IO_WORKERS")
            self._tell(SIGUSR2, [Kind.IO_WORKER])
        if self.pm == "PM_WAIT_IO_WORKERS" and not self._any([Kind.IO_WORKER]):
            self._to("PM_WAIT_CHECKPOINTER")
            self._tell(SIGUSR2, [Kind.CHECKPOINTER])
        if self.pm == "PM_WAIT_DEAD_END" and not self._any(EVERYBODY):
            self._to("PM_NO_CHILDREN")

    def _advance_17(self) -> None:
        if self.pm == "PM_WAIT_XLOG_ARCHIVAL" and not self._any([Kind.ARCHIVER]):
            self._to("PM_WAIT_DEAD_END")
        if self.pm == "PM_WAIT_DEAD_END" and not self._any(EVERYBODY - {Kind.CHECKPOINTER}):
            self._to("PM_NO_CHILDREN")

    def _targets(self) -> frozenset[Kind]:
        """SM-02, SM-03: what is waited for, and in 18 told too."""
        if not self._is_dying:
            return TARGETS
        if self.major >= 18:
            return TARGETS | {Kind.CHECKPOINTER, Kind.ARCHIVER, Kind.IO_WORKER}
        return TARGETS | {Kind.CHECKPOINTER}

    def _launch(self) -> None:
        """SL-03: who is missing and may be there (the archiver's throttle is ten seconds)."""
        if self.pm in OPEN | STARTING:
            self._fill(Kind.CHECKPOINTER)
            self._fill(Kind.BACKGROUND_WRITER)
        if self.pm == "PM_RUN":
            self._fill(Kind.WALWRITER)
            self._fill(Kind.AUTOVACUUM_LAUNCHER)
        if self.pm in BEFORE_IO_WORKERS_END and not self._is_dying:
            self._fill(Kind.IO_WORKER, self.io_workers)

    def _fill(self, kind: Kind, number: int = 1) -> None:
        missing = number - self.crew[kind]
        if missing > 0:
            self.crew[kind] += missing
            self.born[kind] += missing
