"""The order and the errors of interrupts: pure decisions over pending requests.

Begin with serve().
Source: tcop/postgres.c: ProcessInterrupts(); libpq/be-secure.c: secure_read(); rule SE-40.
"""

from collections.abc import Callable, Collection
from enum import Enum, auto

from pglife_impl.base.record import Record
from pglife_impl.protocol import SqlError, SqlState
from pglife_impl.protocol.report import error, fatal


class Interrupt(Enum):
    """The interrupts of a session, the most urgent first (SE-40)."""

    DIE = auto()
    CLIENT_LOST = auto()
    STATEMENT_TIMEOUT = auto()
    CANCEL = auto()
    IDLE_IN_TRANSACTION_TIMEOUT = auto()
    TRANSACTION_TIMEOUT = auto()
    IDLE_SESSION_TIMEOUT = auto()


class Decision(Record):
    """The error to raise, or None, and the interrupts that are no longer pending."""

    raised: SqlError | None
    settled: frozenset[Interrupt]


def serve(pending: Collection[Interrupt], *, reading_command: bool) -> Decision:
    """Choose the most urgent of the pending interrupts.

    A session that waits for a command drops a cancel request, in a transaction or not (SE-42). It
    serves a statement timeout, because in the extended protocol a statement may be under way.
    Serving a statement timeout settles a cancel request too: PostgreSQL has one flag for both.
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
        return Decision(RAISES[interrupt](), frozenset(settled))
    return Decision(None, frozenset(settled))


def administrator_command() -> SqlError:
    """Return the FATAL after SIGTERM (SE-20, SE-30)."""
    return fatal(SqlState.ADMIN_SHUTDOWN, "terminating connection due to administrator command")


def postmaster_exit() -> SqlError:
    """Return the FATAL of an idle session whose postmaster died (SE-28)."""
    return fatal(
        SqlState.ADMIN_SHUTDOWN, "terminating connection due to unexpected postmaster exit"
    )


def client_lost() -> SqlError:
    """Return the FATAL of a session whose client is lost (SE-45)."""
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
