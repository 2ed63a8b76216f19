"""One execution of a statement: what expressions read and functions act on.

Source: nodes/execnodes.h: ExprContext, EState.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pglife_impl.session.queries.types import Value
from pglife_impl.session.state import SessionState

Row = Sequence[Value]


class PreparedStatements(Protocol):
    """The prepared statements of the session, as DEALLOCATE sees them."""

    def deallocate(self, name: str | None) -> None:
        """Drop one, or all if the name is None; SqlError 26000 if it does not exist."""
        ...


@dataclass
class Run:
    """The session's parts, the parameter values, and the rows of the current group."""

    session: SessionState
    prepared: PreparedStatements
    parameters: Sequence[Value] = ()
    group: Sequence[Row] = ()

    @property
    def zone(self) -> str:
        """The time zone in which timestamps are read and written."""
        return self.session.settings.show("TimeZone")


Evaluate = Callable[[Row, Run], Value]
