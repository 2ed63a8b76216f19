"""How a held postmaster goes on once all children are continued and all clients disconnect.

Begin with finale_of().

Source: TR18-19 to TR18-35, CR-20, CR-23, SH-10, SH-11, SH-27, PR-20, PG-21.
"""

from dataclasses import dataclass
from itertools import pairwise

from pglife_conformance.expect.excerpt import Line, OneOf
from pglife_conformance.matrix.rules import OPEN, ExpectedPostmaster, ShutdownLevel, pm_step
from pglife_conformance.observation.kinds import Kind
from pglife_spec import PM

READY = "database system is ready to accept connections"
SHUT_DOWN = "database system is shut down"
ABNORMAL = "abnormal database system shutdown"
STARTUP_FAILED = "shutting down due to startup process failure"
REINITIALIZING = "all server processes terminated; reinitializing"

_NORMAL_END = (
    PM.PM_RUN,
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

PRIMARY_STARTS = OneOf(
    (
        (pm_step(PM.PM_STARTUP, PM.PM_RECOVERY), pm_step(PM.PM_RECOVERY, PM.PM_RUN), READY),
        (pm_step(PM.PM_STARTUP, PM.PM_RUN), READY),
    )
)
"""TR-90; the short way also if the startup process is reaped before its signal is seen (PG-21)."""


@dataclass(frozen=True)
class Finale:
    """The rest of a server's life, or of a crash restart."""

    lines: tuple[Line, ...]
    exit_code: int | None
    """None if it does not exit."""


def finale_of(expected: ExpectedPostmaster, *, is_standby: bool = False) -> Finale:
    """What follows when all children are continued and all clients disconnect."""
    if expected.shutdown is ShutdownLevel.NONE and expected.pm is PM.PM_STARTUP:
        # FatalError is still set there after a crash (MM-01).
        return Finale((PRIMARY_STARTS,), None)
    if expected.fatal or expected.shutdown is ShutdownLevel.IMMEDIATE:
        return _short(expected, is_standby)
    if expected.shutdown is ShutdownLevel.NONE:
        return Finale((), None)
    return _normal(expected)


def _normal(expected: ExpectedPostmaster) -> Finale:
    at = _NORMAL_END.index(PM.PM_RUN if expected.pm in OPEN else expected.pm)
    lines: list[Line] = []
    for before, after in pairwise((expected.pm, *_NORMAL_END[at + 1 :])):
        if before is PM.PM_WAIT_BACKENDS:
            lines += _exits_of_children(expected)
        lines.append(pm_step(before, after))
    return Finale((*lines, SHUT_DOWN), 0)


def _exits_of_children(expected: ExpectedPostmaster) -> list[Line]:
    """The lines about children that exit while sessions end: SH-27, TR18-05."""
    lines: list[Line] = []
    if expected.children[Kind.LOGICAL_REPLICATION_LAUNCHER]:
        kind = Kind.LOGICAL_REPLICATION_LAUNCHER
        lines.append(f"{kind.name_in_log(expected.major)} ({kind}) exited with exit code 1")
    if expected.children[Kind.STARTUP]:
        lines.append(pm_step(PM.PM_WAIT_BACKENDS, PM.PM_WAIT_BACKENDS))
    return lines


def _short(expected: ExpectedPostmaster, is_standby: bool) -> Finale:
    """A crash or an immediate shutdown: TR18-21, -30 to -35."""
    at = _SHORT_END.index(expected.pm) if expected.pm in _SHORT_END else 0
    lines: list[Line] = [pm_step(a, b) for a, b in pairwise(_SHORT_END[at:])]
    if expected.shutdown > ShutdownLevel.NONE:
        if expected.fatal:
            lines.append(ABNORMAL)
        return Finale((*lines, SHUT_DOWN), 1 if expected.fatal else 0)
    if expected.startup_crashed:
        return Finale((*lines, STARTUP_FAILED, SHUT_DOWN), 1)
    lines += [REINITIALIZING, pm_step(PM.PM_NO_CHILDREN, PM.PM_STARTUP)]
    if is_standby:
        return Finale(tuple(lines), None)
    return Finale((*lines, PRIMARY_STARTS), None)
