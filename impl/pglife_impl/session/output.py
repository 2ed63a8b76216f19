"""What a session sends to its client and writes to the server log.

Source: utils/error/elog.c: EmitErrorReport().
"""

from pglife_impl.protocol import Report, Severity, SqlState, error_response, notice_response
from pglife_impl.session.context import SessionContext


class Output:
    """The client's messages and the log lines of one session."""

    def __init__(self, context: SessionContext) -> None:
        self._context = context
        self.statement = ""  # debug_query_string: what STATEMENT lines of the log show

    def send(self, data: bytes) -> None:
        """Buffer messages for the client; ClientGone if it is lost."""
        self._context.client.send(data)

    def flush(self) -> None:
        """Write the buffer; ClientGone if the client is lost."""
        self._context.client.flush()

    def log(self, report: Report) -> None:
        """Write a report to the log, with the statement if it is an ERROR or worse."""
        is_error = report.severity in (Severity.ERROR, Severity.FATAL)
        self._context.log(report, self.statement if is_error else "")

    def log_line(self, message: str, sqlstate: str = SqlState.SUCCESSFUL_COMPLETION) -> None:
        """Write a line at level LOG."""
        self._context.log(Report(Severity.LOG, sqlstate, message))

    def error(self, report: Report) -> None:
        """Log an ERROR or FATAL and send it at once."""
        self.log(report)
        self.send(error_response(report))
        self.flush()

    def notice(self, report: Report | None) -> None:
        """Send a notice, if there is one; a WARNING is logged too."""
        if report is None:
            return
        if report.severity is Severity.WARNING:
            self.log(report)
        self.send(notice_response(report))

    def notice_skipping(self, text: str) -> None:
        """Send the NOTICE of IF EXISTS for an object that does not exist."""
        self.notice(Report(Severity.NOTICE, SqlState.SUCCESSFUL_COMPLETION, f"{text}, skipping"))
