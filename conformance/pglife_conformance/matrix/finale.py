"""How a held postmaster goes on once everybody is let go.

Begin with   finale_of().
Owns         the rest of the story, the exit status, whether it gets ready again.
Leaves out   what an event does at once (rules.py).
Source       TR18-19 to TR18-35, CR-20, CR-23, SH-10, SH-11, SH-27, PR-20, PG-21.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from pglife_conformance.expect.excerpt import Line, OneOf, step
from pglife_conformance.matrix.rules import OPEN, Level, Standing
from pglife_conformance.observation.kinds import Kind

READY = "database system is ready to accept connections"
SHUT_DOWN = "database system is shut down"
ABNORMAL = "abnormal database system shutdown"
STARTUP_FAILED = "shutting down due to startup process failure"
REINITIALIZING = "all server processes terminated; reinitializing"

_NORMAL_END = (
    "PM_RUN",
    "PM_STOP_BACKENDS",
    "PM_WAIT_BACKENDS",
    "PM_WAIT_XLOG_SHUTDOWN",
    "PM_WAIT_XLOG_ARCHIVAL",
    "PM_WAIT_IO_WORKERS",
    "PM_WAIT_CHECKPOINTER",
    "PM_WAIT_DEAD_END",
    "PM_NO_CHILDREN",
)
_SHORT_END = ("PM_WAIT_BACKENDS", "PM_WAIT_DEAD_END", "PM_NO_CHILDREN")

PRIMARY_STARTS = OneOf(
    (
        (step("PM_STARTUP", "PM_RECOVERY"), step("PM_RECOVERY", "PM_RUN"), READY),
        (step("PM_STARTUP", "PM_RUN"), READY),
    )
)
"""TR-90; the short way also if the startup process is reaped before its signal is seen (PG-21)."""


@dataclass(frozen=True)
class Finale:
    """The rest of a life, or of a crash restart."""

    lines: tuple[Line, ...]
    exit_code: int | None
    """None: it does not end."""


def finale_of(standing: Standing, *, is_standby: bool = False) -> Finale:
    """What follows when all children go on and all clients leave."""
    if standing.level is Level.NO and standing.pm == "PM_STARTUP":
        # FatalError is still set there after a crash (MM-01).
        return Finale((PRIMARY_STARTS,), None)
    if standing.fatal or standing.level is Level.IMMEDIATE:
        return _short(standing, is_standby)
    if standing.level is Level.NO:
        return Finale((), None)
    return _normal(standing)


def _normal(standing: Standing) -> Finale:
    at = _NORMAL_END.index("PM_RUN" if standing.pm in OPEN else standing.pm)
    lines: list[Line] = []
    for before, after in pairwise((standing.pm, *_NORMAL_END[at + 1 :])):
        if before == "PM_WAIT_BACKENDS":
            lines += _goodbyes(standing)
        lines.append(step(before, after))
    return Finale((*lines, SHUT_DOWN), 0)


def _goodbyes(standing: Standing) -> list[Line]:
    """Who is heard of while sessions end: SH-27, TR18-05."""
    lines: list[Line] = []
    if standing.crew[Kind.LOGICAL_REPLICATION_LAUNCHER]:
        kind = Kind.LOGICAL_REPLICATION_LAUNCHER
        lines.append(f"{kind.name_in_log(standing.major)} ({kind}) exited with exit code 1")
    if standing.crew[Kind.STARTUP]:
        lines.append(step("PM_WAIT_BACKENDS", "PM_WAIT_BACKENDS"))
    return lines


def _short(standing: Standing, is_standby: bool) -> Finale:
    """A crash or an immediate shutdown: TR18-21, -30 to -35."""
    at = _SHORT_END.index(standing.pm) if standing.pm in _SHORT_END else 0
    lines: list[Line] = [step(a, b) for a, b in pairwise(_SHORT_END[at:])]
    if standing.level > Level.NO:
        if standing.fatal:
            lines.append(ABNORMAL)
        return Finale((*lines, SHUT_DOWN), 1 if standing.fatal else 0)
    if standing.startup_crashed:
        return Finale((*lines, STARTUP_FAILED, SHUT_DOWN), 1)
    lines += [REINITIALIZING, step("PM_NO_CHILDREN", "PM_STARTUP")]
    if is_standby:
        return Finale(tuple(lines), None)
    return Finale((*lines, PRIMARY_STARTS), None)
