"""Errors and notices: severity, SQLSTATE, message and fields.

Begin with Report, then SqlError, the exception that carries one.
Source: utils/errcodes.txt; utils/error/elog.c: errfinish().
"""

from __future__ import annotations

from enum import StrEnum

from pglife_impl import ImplError
from pglife_impl.base.record import Record


class Severity(StrEnum):
    """The severities. An ERROR ends the statement, a FATAL the session, a PANIC the cluster."""

    LOG = "LOG"
    NOTICE = "NOTICE"
    WARNING = "WARNING"
    ERROR = "ERROR"
    FATAL = "FATAL"
    PANIC = "PANIC"


class SqlState(StrEnum):
    """The SQLSTATEs in use, by their names in errcodes.txt."""

    SUCCESSFUL_COMPLETION = "00000"
    WARNING = "01000"
    CONNECTION_DOES_NOT_EXIST = "08003"
    CONNECTION_FAILURE = "08006"
    PROTOCOL_VIOLATION = "08P01"
    FEATURE_NOT_SUPPORTED = "0A000"
    CARDINALITY_VIOLATION = "21000"
    NUMERIC_VALUE_OUT_OF_RANGE = "22003"
    DIVISION_BY_ZERO = "22012"
    CHARACTER_NOT_IN_REPERTOIRE = "22021"
    INVALID_DATETIME_FORMAT = "22007"
    INVALID_PARAMETER_VALUE = "22023"
    INVALID_ROW_COUNT_IN_LIMIT_CLAUSE = "2201W"
    INVALID_ROW_COUNT_IN_RESULT_OFFSET_CLAUSE = "2201X"
    INVALID_TEXT_REPRESENTATION = "22P02"
    INVALID_BINARY_REPRESENTATION = "22P03"
    ACTIVE_SQL_TRANSACTION = "25001"
    NO_ACTIVE_SQL_TRANSACTION = "25P01"
    IN_FAILED_SQL_TRANSACTION = "25P02"
    IDLE_IN_TRANSACTION_SESSION_TIMEOUT = "25P03"
    TRANSACTION_TIMEOUT = "25P04"
    INVALID_SQL_STATEMENT_NAME = "26000"
    INVALID_AUTHORIZATION_SPECIFICATION = "28000"
    INVALID_CURSOR_NAME = "34000"
    INVALID_CATALOG_NAME = "3D000"
    INVALID_SAVEPOINT_SPECIFICATION = "3B001"
    INSUFFICIENT_PRIVILEGE = "42501"
    SYNTAX_ERROR = "42601"
    UNDEFINED_COLUMN = "42703"
    UNDEFINED_OBJECT = "42704"
    DUPLICATE_OBJECT = "42710"
    DUPLICATE_ALIAS = "42712"
    DUPLICATE_CURSOR = "42P03"
    DUPLICATE_DATABASE = "42P04"
    DUPLICATE_PREPARED_STATEMENT = "42P05"
    UNDEFINED_TABLE = "42P01"
    UNDEFINED_PARAMETER = "42P02"
    AMBIGUOUS_COLUMN = "42702"
    GROUPING_ERROR = "42803"
    DATATYPE_MISMATCH = "42804"
    INVALID_COLUMN_REFERENCE = "42P10"
    CANNOT_COERCE = "42846"
    UNDEFINED_FUNCTION = "42883"
    TOO_MANY_CONNECTIONS = "53300"
    STATEMENT_TOO_COMPLEX = "54001"
    OBJECT_NOT_IN_PREREQUISITE_STATE = "55000"
    OBJECT_IN_USE = "55006"
    CANT_CHANGE_RUNTIME_PARAM = "55P02"
    QUERY_CANCELED = "57014"
    ADMIN_SHUTDOWN = "57P01"
    CRASH_SHUTDOWN = "57P02"
    CANNOT_CONNECT_NOW = "57P03"
    IDLE_SESSION_TIMEOUT = "57P05"
    INTERNAL_ERROR = "XX000"


class Report(Record):
    """One error or notice; empty optional fields are not sent."""

    severity: Severity
    sqlstate: str
    message: str
    detail: str = ""
    hint: str = ""
    position: int | None = None
    where: str = ""


class SqlError(ImplError):
    """An ERROR, which ends the statement, or a FATAL, which ends the session."""

    def __init__(self, report: Report) -> None:
        super().__init__(f"{report.severity}: {report.sqlstate}: {report.message}")
        self.report = report

    @property
    def is_fatal(self) -> bool:
        """Whether this ends the session."""
        return self.report.severity in (Severity.FATAL, Severity.PANIC)

    def at(self, position: int | None) -> SqlError:
        """Return this error with a position in the query, unless it has one already."""
        if position is None or self.report.position is not None:
            return self
        return SqlError(self.report.replace(position=position))

    def within(self, where: str) -> SqlError:
        """Return this error with a CONTEXT line."""
        return SqlError(self.report.replace(where=where))


def error(
    sqlstate: SqlState,
    message: str,
    *,
    detail: str = "",
    hint: str = "",
    position: int | None = None,
) -> SqlError:
    """Return an ERROR to raise."""
    return SqlError(Report(Severity.ERROR, sqlstate, message, detail, hint, position))


def fatal(sqlstate: SqlState, message: str, *, detail: str = "", hint: str = "") -> SqlError:
    """Return a FATAL to raise."""
    return SqlError(Report(Severity.FATAL, sqlstate, message, detail, hint))


def warning(sqlstate: SqlState, message: str, *, detail: str = "", hint: str = "") -> Report:
    """Return a WARNING to send as a notice."""
    return Report(Severity.WARNING, sqlstate, message, detail, hint)
