"""What must be seen of a server in a cell of the matrix. Begin with Expected."""

from collections import Counter
from dataclasses import dataclass, field
from signal import Signals

from pglife_conformance.expect.excerpt import Line, OneOf, step
from pglife_conformance.expect.lines import READY_LINE
from pglife_conformance.observation.control_file import ControlState
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_spec import PM


def pm_step(before: PM, after: PM) -> str:
    """A step of pmState as an excerpt shows it."""
    return step(before.name, after.name)


OPEN = frozenset({PM.PM_RUN, PM.PM_HOT_STANDBY})
BY_RECOVERY = (
    pm_step(PM.PM_STARTUP, PM.PM_RECOVERY),
    pm_step(PM.PM_RECOVERY, PM.PM_RUN),
    READY_LINE,
)
PRIMARY_STARTS = OneOf((BY_RECOVERY, (pm_step(PM.PM_STARTUP, PM.PM_RUN), READY_LINE)))
"""TR-90; the short way also if the startup process is reaped before its signal is seen (PG-21)."""


@dataclass(frozen=True)
class Finale:
    """The rest of a server's life, or of a crash restart."""

    lines: tuple[Line, ...]
    exit_code: int | None
    """None if it does not exit."""


@dataclass
class Expected:
    """What must be seen once an event was handled, and how the server's life goes on.

    Args:
        pm: pmState; 18's names stand for those of 15.
        children: how many children of each kind exist.
        lines: the lines that the postmaster has written.
        signals: the signals that each kind was sent.
        forked: how many children of each kind the postmaster has forked.
        pid_file: line 8 of postmaster.pid.
        accepts: whether the postmaster accepts connections at all.
        refusal: the message by which a new client is refused; None if it is admitted.
        control: the control file's state after the exit.
        finale: what follows when all children are continued and all clients disconnect; None if
            the server need not end although it was requested to, a finding.
    """

    pm: PM
    children: Counter[Kind]
    lines: list[str] = field(default_factory=list)
    signals: dict[Kind, set[Signals]] = field(default_factory=dict)
    forked: Counter[Kind] = field(default_factory=Counter)
    pid_file: PidFileStatus = PidFileStatus.READY
    accepts: bool = True
    refusal: str | None = None
    control: ControlState = ControlState.IN_PRODUCTION
    finale: Finale | None = None
