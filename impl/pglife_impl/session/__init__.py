"""A client's session: statements, transactions, interrupts, until it ends.

Begin with   greet() and serve(); then core.py.
Owns         what a message does, what a statement means, what a session shows of itself.
Leaves out   the socket, signals, the process (backend.py), who gets in (admission.py).
Source       tcop/postgres.c: PostgresMain(); utils/init/postinit.c:
             process_startup_options().

Importing this package is cheap on purpose: the postmaster does it before it forks. All that
understands SQL comes with the first statement (simple.py, extended.py, and below them parser.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pglife_impl.backend.greeting import greet
from pglife_impl.session.loop import Session

if TYPE_CHECKING:
    from pglife_impl.session.context import SessionContext

__all__ = ["greet", "serve"]


def serve(context: SessionContext) -> int:
    """Serve the session from the first ReadyForQuery to its end; return the exit code."""
    return Session(context).run()
