"""What interrupts a session, and what comes of it: pure decisions over pending requests.

Begin with   serve().
Owns         the order of SE-40, the texts and SQLSTATEs of sections 4.2 and 6.5.
Leaves out   the signal handlers that set flags (backend.py), the clock (timers.py).
Source       tcop/postgres.c: ProcessInterrupts(); libpq/be-secure.c: secure_read().
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from enum import Enum, auto

from pglife_impl.base.record import Record
from pglife_impl.protocol import SqlError, SqlState
from pglife_impl.protocol.report import error, fatal


class Interrupt(Enum):
    """Something that wants the session's attention, in the order in which it gets it (SE-40)."""

    DIE = auto()
    CLIENT_LOST = auto()
    STATEMENT_TIMEOUT = auto()
    CANCEL = auto()
    IDLE_IN_TRANSACTION_TIMEOUT = auto()
    TRANSACTION_TIMEOUT = auto()
    IDLE_SESSION_TIMEOUT = auto()


class Verdict(Record):
    """What to raise, if anything, and which requests are settled by it."""

    raised: SqlError | None
    settled: frozenset[Interrupt]


def serve(pending: Collection[Interrupt], *, reading_command: bool) -> Verdict:
    """Decide about all that is pending.

    A cancel request is forgotten by a session that waits for its client, in a transaction or not
    (SE-42); a statement timeout is not, for in the extended protocol a statement may be under way.
    A statement timeout and a cancel are one flag in PostgreSQL: serving the one settles the other.
    """
    settled: set[Interrupt] = set()
    for interrupt in Interrupt:
        if interrupt not in pending:
            continue
        settled.add(interrupt)
        if interrupt is Interrupt.CANCEL and reading_command:
            continue
        if interrupt is Interrupt.STATEMENT_TIMEOUT:
            settled.add(Interrupt.CANCEL)
        return Verdict(RAISES[interrupt](), frozenset(settled))
    return Verdict(None, frozenset(settled))


def administrator_command() -> SqlError:
    """SE-20, SE-30."""
    return fatal(SqlState.ADMIN_SHUTDOWN, "terminating connection due to administrator command")


def postmaster_exit() -> SqlError:
    """SE-28: the postmaster died while the session waited for its client."""
    return fatal(
        SqlState.ADMIN_SHUTDOWN, "terminating connection due to unexpected postmaster exit"
    )


def client_lost() -> SqlError:
    """SE-45."""
    return fatal(SqlState.CONNECTION_FAILURE, "connection to client lost")


RAISES: dict[Interrupt, Callable[[], SqlError]] = {
    Interrupt.DIE: administrator_command,
    Interrupt.CLIENT_LOST: client_lost,
    Interrupt.STATEMENT_TIMEOUT: lambda: error(
        SqlState.QUERY_CANCELED, "canceling statement due to statement timeout"
    ),
    Interrupt.CANCEL: lambda: error(
        SqlState.QUERY_CANCELED, "canceling statement due to user request"
    ),
    Interrupt.IDLE_IN_TRANSACTION_TIMEOUT: lambda: fatal(
        SqlState.IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        "terminating connection due to idle-in-transaction timeout",
    ),
    Interrupt.TRANSACTION_TIMEOUT: lambda: fatal(
        SqlState.TRANSACTION_TIMEOUT, "terminating connection due to transaction timeout"
    ),
    Interrupt.IDLE_SESSION_TIMEOUT: lambda: fatal(
        SqlState.IDLE_SESSION_TIMEOUT, "terminating connection due to idle-session timeout"
    ),
}
