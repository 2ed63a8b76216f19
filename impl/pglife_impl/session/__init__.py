"""A client's session: statements, transactions, interrupts, until it ends.

Begin with   greet() and run(); then core.py.
Owns         what a message does, what a statement means, what a session shows of itself.
Leaves out   the socket, signals, the process (backend.py), who gets in (admission.py).
Source       tcop/postgres.c: PostgresMain(); utils/init/postinit.c:
             process_startup_options().

Importing this package is cheap on purpose: the postmaster does it before it forks. The SQL library
comes with the first statement (parser.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pglife_impl.session.core import Session
from pglife_impl.session.greeting import greet

if TYPE_CHECKING:
    from pglife_impl.context import SessionContext

__all__ = ["greet", "run"]


def run(context: SessionContext) -> int:
    """Serve the session from the first ReadyForQuery to its end; return the exit code."""
    return Session(context).run()
