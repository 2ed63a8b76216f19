"""Writing errors and notices of a client's process to the server log."""

from pglife_impl.base.words import Level
from pglife_impl.log import elog
from pglife_impl.protocol import Report


def log_report(report: Report, statement: str = "") -> None:
    """Log a report at the level of its severity, with the statement that caused it, if any."""
    place = "" if report.position is None else f" at character {report.position}"
    elog.log(
        Level[report.severity.value],
        report.message + place,
        sqlstate=report.sqlstate,
        detail=report.detail,
        hint=report.hint,
        statement=statement,
    )
