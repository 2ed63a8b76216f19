"""What an expression sees while a statement runs.

Begin with   Run.
Owns         the parameters' values, the group at hand, the way to the session.
Leaves out   the session itself (core.py).
Source       nodes/execnodes.h: ExprContext, EState.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pglife_impl.session.queries.types import Value

if TYPE_CHECKING:
    from pglife_impl.session.loop import Session

Row = Sequence[Value]


@dataclass
class Run:
    """One execution of one statement."""

    session: Session
    parameters: Sequence[Value] = ()
    group: Sequence[Row] = field(default_factory=tuple)

    @property
    def zone(self) -> str:
        """The time zone in which moments are read and written."""
        return str(self.session.settings.show("TimeZone"))


Evaluate = Callable[[Row, Run], Value]
