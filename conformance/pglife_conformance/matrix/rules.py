"""What the rules expect of a standby, which the model does not have.

Begin with expectation(). The other cells are by_model.py's.

Source: TR18-14 to TR18-35, TR15-04 to TR15-26, SM-02, SM-03, RP-10 to RP-29, PR-01 to PR-14.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from signal import SIGHUP, SIGQUIT, SIGTERM, Signals

from pglife_conformance.base.refusals import IN_RECOVERY_MODE, SHUTTING_DOWN
from pglife_conformance.expect.excerpt import Line
from pglife_conformance.expect.lines import (
    ABNORMAL,
    REINITIALIZING,
    SHUT_DOWN,
    STARTUP_FAILED,
    TERMINATING,
)
from pglife_conformance.matrix.events import Event, ExitsOn, Kill, Reload, Request, death_by
from pglife_conformance.matrix.expected import OPEN, Expected, Finale, pm_step
from pglife_conformance.matrix.states import ShutdownLevel, State
from pglife_conformance.observation.control_file import ControlState
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_spec import PM

NOT_ACCEPTING = "the database system is not accepting connections"
_CLIENTS = frozenset({Kind.CLIENT_BACKEND, Kind.UNAUTHENTICATED})
_TARGETS = _CLIENTS | {Kind.BACKGROUND_WRITER, Kind.STARTUP}
"""SM-02: sent SIGTERM in PM_STOP_BACKENDS and waited for in PM_WAIT_BACKENDS."""
_ALL = _TARGETS | {Kind.CHECKPOINTER, Kind.IO_WORKER, Kind.DEAD_END}
_NORMAL_END = (
    PM.PM_STOP_BACKENDS,
    PM.PM_WAIT_BACKENDS,
    PM.PM_WAIT_XLOG_SHUTDOWN,
    PM.PM_WAIT_XLOG_ARCHIVAL,
    PM.PM_WAIT_IO_WORKERS,
    PM.PM_WAIT_CHECKPOINTER,
    PM.PM_WAIT_DEAD_END,
    PM.PM_NO_CHILDREN,
)
_SHORT_END = (PM.PM_WAIT_BACKENDS, PM.PM_WAIT_DEAD_END, PM.PM_NO_CHILDREN)


def expectation(state: State, event: Event, major: int) -> Expected:
    """What must be seen when this event happens in this state."""
    children = state.children_on_entry(major)
    ruled = _Postmaster(major, state.pm, state.shutdown, children, Expected(state.pm, children))
    match event:
        case Request(shutdown):
            ruled.request(shutdown)
        case Reload():
            ruled.reload()
        case ExitsOn(kind, code=code) if code in kind.fine_exits:
            ruled.exits(kind)
        case ExitsOn() | Kill() if (death := death_by(event)) is not None:
            ruled.crashes(*death)
    return ruled.expected(state)


@dataclass
class _Postmaster:
    """A postmaster's variables and children, and what an event must make it do."""

    major: int
    pm: PM
    shutdown: ShutdownLevel
    children: Counter[Kind]
    seen: Expected
    fatal: bool = False
    startup_crashed: bool = False

    # Effects.

    def _advance_to(self, pm: PM) -> None:
        self.seen.lines.append(pm_step(self.pm, pm))
        self.pm = pm

    def _signal(self, number: Signals, kinds: Iterable[Kind]) -> None:
        for kind in kinds:
            if self.children[kind]:
                self.seen.signals.setdefault(kind, set()).add(number)

    @property
    def _is_dying(self) -> bool:
        return self.fatal or self.shutdown is ShutdownLevel.IMMEDIATE

    # Events.

    def request(self, shutdown: ShutdownLevel) -> None:
        """SH-01 to SH-09; TR18-14 to TR18-18."""
        self.shutdown = shutdown
        self.seen.lines.append(f"received {shutdown.mode} shutdown request")
        if shutdown is ShutdownLevel.IMMEDIATE:
            # SM-23: the dead-end children only since 18.
            self._signal(SIGQUIT, _ALL - (set() if self.major >= 18 else {Kind.DEAD_END}))
            self._advance_to(PM.PM_WAIT_BACKENDS)
            return
        if self.pm is PM.PM_HOT_STANDBY and shutdown is ShutdownLevel.SMART:
            return
        if self.pm is PM.PM_HOT_STANDBY:
            self.seen.lines.append("aborting any active transactions")
        self._advance_to(PM.PM_STOP_BACKENDS)
        self._signal(SIGTERM, _TARGETS)
        self._advance_to(PM.PM_WAIT_BACKENDS)

    def reload(self) -> None:
        """SG-02, MM-22."""
        self.seen.lines.append("received SIGHUP, reloading configuration files")
        self._signal(SIGHUP, _ALL - {Kind.DEAD_END})

    def exits(self, kind: Kind) -> None:
        """A child exits, that is no crash (RP-10 to RP-29), and it is replaced (SL-03)."""
        self.seen.forked[kind] += 1

    def crashes(self, kind: Kind, how: str) -> None:
        """CR-02, TR18-09 to TR18-13."""
        self.children[kind] -= 1
        self.startup_crashed = kind is Kind.STARTUP
        self.seen.lines += [f"{kind.name_in_log(self.major)} ({kind}) {how}", TERMINATING]
        self._signal(SIGQUIT, _ALL)
        self.fatal = True
        self._advance_to(PM.PM_WAIT_BACKENDS)

    # What can be seen.

    def expected(self, state: State) -> Expected:
        """What the server shows afterwards, and how it goes on."""
        seen = self.seen
        seen.pm = self.pm
        if self.shutdown > ShutdownLevel.NONE:
            seen.pid_file = PidFileStatus.STOPPING
        elif state.pm is PM.PM_RECOVERY:
            seen.pid_file = PidFileStatus.STANDBY
        seen.refusal = self._refusal()
        seen.control = state.control if self._is_dying else ControlState.SHUT_DOWN_IN_RECOVERY
        seen.finale = self._finale()
        return seen

    def _refusal(self) -> str | None:
        """CN-01 to CN-05; None where a client is admitted."""
        if self.shutdown > ShutdownLevel.NONE:
            return SHUTTING_DOWN
        if self.fatal:
            return IN_RECOVERY_MODE
        return None if self.pm in OPEN else NOT_ACCEPTING

    def _finale(self) -> Finale:
        """TR18-19 to TR18-35, CR-20, CR-23, SH-10, SH-11, PR-20."""
        if self._is_dying:
            return self._short_end()
        if self.shutdown is ShutdownLevel.NONE:
            return Finale((), None)
        at = _NORMAL_END.index(self.pm) + 1 if self.pm in _NORMAL_END else 0
        lines: list[Line] = []
        for before, after in pairwise((self.pm, *_NORMAL_END[at:])):
            if before is PM.PM_WAIT_BACKENDS and self.children[Kind.STARTUP]:
                lines.append(pm_step(before, before))
            lines.append(pm_step(before, after))
        return Finale((*lines, SHUT_DOWN), 0)

    def _short_end(self) -> Finale:
        """A crash or an immediate shutdown."""
        lines = tuple(pm_step(a, b) for a, b in pairwise(_SHORT_END))
        if self.shutdown > ShutdownLevel.NONE:
            reason = (ABNORMAL,) if self.fatal else ()
            return Finale((*lines, *reason, SHUT_DOWN), 1 if self.fatal else 0)
        if self.startup_crashed:
            return Finale((*lines, STARTUP_FAILED, SHUT_DOWN), 1)
        return Finale((*lines, REINITIALIZING, pm_step(PM.PM_NO_CHILDREN, PM.PM_STARTUP)), None)
