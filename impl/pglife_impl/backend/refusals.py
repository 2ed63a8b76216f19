"""The messages for a client that is refused, or whose session is quit.

Source: tcop/backend_startup.c: BackendInitialize(); tcop/postgres.c: quickdie(); libpq/auth.c:
ClientAuthentication(); rules CN-01..06, CN-12, CN-17, SE-23..25.
"""

from pglife_impl.base.cac import Cac
from pglife_impl.base.pmsignal import QuitReason
from pglife_impl.protocol import Report, Severity, SqlState

REFUSALS = {
    Cac.STARTUP: Report(
        Severity.FATAL, SqlState.CANNOT_CONNECT_NOW, "the database system is starting up"
    ),
    Cac.SHUTDOWN: Report(
        Severity.FATAL, SqlState.CANNOT_CONNECT_NOW, "the database system is shutting down"
    ),
    Cac.RECOVERY: Report(
        Severity.FATAL, SqlState.CANNOT_CONNECT_NOW, "the database system is in recovery mode"
    ),
    Cac.TOO_MANY: Report(
        Severity.FATAL, SqlState.TOO_MANY_CONNECTIONS, "sorry, too many clients already"
    ),
}
NOT_CONSISTENT = Report(
    Severity.FATAL,
    SqlState.CANNOT_CONNECT_NOW,
    "the database system is not yet accepting connections",
    "Consistent recovery state has not been yet reached.",
)
HOT_STANDBY_DISABLED = Report(
    Severity.FATAL,
    SqlState.CANNOT_CONNECT_NOW,
    "the database system is not accepting connections",
    "Hot standby mode is disabled.",
)
TOO_MANY_CLIENTS = REFUSALS[Cac.TOO_MANY]
NO_REPLICATION = Report(
    Severity.FATAL,
    SqlState.FEATURE_NOT_SUPPORTED,
    "replication connections are not supported by this server",
)
QUIT_WARNINGS = {
    QuitReason.NOT_SENT: Report(
        Severity.WARNING,
        SqlState.ADMIN_SHUTDOWN,
        "terminating connection because of unexpected SIGQUIT signal",
    ),
    QuitReason.FOR_STOP: Report(
        Severity.WARNING,
        SqlState.ADMIN_SHUTDOWN,
        "terminating connection due to immediate shutdown command",
    ),
    QuitReason.FOR_CRASH: Report(
        Severity.WARNING,
        SqlState.CRASH_SHUTDOWN,
        "terminating connection because of crash of another server process",
        "The postmaster has commanded this server process to roll back the current transaction"
        " and exit, because another server process exited abnormally and possibly corrupted"
        " shared memory.",
        "In a moment you should be able to reconnect to the database and repeat your command.",
    ),
}


def not_authorized(message: str) -> Report:
    """Return the FATAL of a client that pg_hba.conf rejects (CN-17)."""
    return Report(Severity.FATAL, SqlState.INVALID_AUTHORIZATION_SPECIFICATION, message)
