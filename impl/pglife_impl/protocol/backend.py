"""The bytes of every backend message, in the order in which a session sends them.

Source: libpq/auth.c: sendAuthRequest(), tcop/dest.c, access/common/printtup.c,
utils/error/elog.c: send_message_to_frontend().
"""

import struct
from collections.abc import Iterable, Sequence
from enum import Enum

from pglife_impl.base.record import Record
from pglife_impl.protocol.report import Report, Severity
from pglife_impl.protocol.startup import NEWEST_PROTOCOL, StartupPacket

_WORD = struct.Struct("!i")
_HALF = struct.Struct("!h")
_COLUMN = struct.Struct("!ihihih")


class TransactionStatus(Enum):
    """The byte of ReadyForQuery (SE-10)."""

    IDLE = b"I"
    IN_BLOCK = b"T"
    FAILED = b"E"


class Column(Record):
    """One column of a RowDescription."""

    name: str
    type_oid: int
    type_size: int
    type_modifier: int = -1
    format: int = 0
    table_oid: int = 0
    attribute_number: int = 0


def _frame(code: bytes, body: bytes = b"") -> bytes:
    return code + _WORD.pack(len(body) + _WORD.size) + body


def _string(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape") + b"\0"


def negotiate_protocol_version(
    protocol: tuple[int, int], unknown_options: Sequence[str] = ()
) -> bytes:
    """Return NegotiateProtocolVersion: the version in use and the unsupported options."""
    major, minor = min(protocol, NEWEST_PROTOCOL)
    body = _WORD.pack((major << 16) | minor) + _WORD.pack(len(unknown_options))
    return _frame(b"v", body + b"".join(_string(name) for name in unknown_options))


def authentication_ok() -> bytes:
    """Return AuthenticationOk."""
    return _frame(b"R", _WORD.pack(0))


def parameter_status(name: str, value: str) -> bytes:
    """Return ParameterStatus."""
    return _frame(b"S", _string(name) + _string(value))


def backend_key_data(pid: int, key: bytes) -> bytes:
    """Return BackendKeyData; the key has 4 bytes up to protocol 3.1, 32 from 3.2 on (CN-45)."""
    return _frame(b"K", _WORD.pack(pid) + key)


def ready_for_query(status: TransactionStatus | bytes) -> bytes:
    """Return ReadyForQuery."""
    return _frame(b"Z", status.value if isinstance(status, TransactionStatus) else status)


def row_description(columns: Iterable[Column]) -> bytes:
    """Return RowDescription."""
    parts = [
        _string(column.name)
        + _COLUMN.pack(
            column.table_oid,
            column.attribute_number,
            column.type_oid,
            column.type_size,
            column.type_modifier,
            column.format,
        )
        for column in columns
    ]
    return _frame(b"T", _HALF.pack(len(parts)) + b"".join(parts))


def data_row(values: Sequence[bytes | None]) -> bytes:
    """Return DataRow; None is a null."""
    parts = [_HALF.pack(len(values))]
    for value in values:
        parts.append(_WORD.pack(-1) if value is None else _WORD.pack(len(value)) + value)
    return _frame(b"D", b"".join(parts))


def command_complete(tag: str) -> bytes:
    """Return CommandComplete."""
    return _frame(b"C", _string(tag))


def empty_query_response() -> bytes:
    """Return EmptyQueryResponse."""
    return _frame(b"I")


def parse_complete() -> bytes:
    """Return ParseComplete."""
    return _frame(b"1")


def bind_complete() -> bytes:
    """Return BindComplete."""
    return _frame(b"2")


def close_complete() -> bytes:
    """Return CloseComplete."""
    return _frame(b"3")


def no_data() -> bytes:
    """Return NoData."""
    return _frame(b"n")


def portal_suspended() -> bytes:
    """Return PortalSuspended."""
    return _frame(b"s")


def parameter_description(type_oids: Sequence[int]) -> bytes:
    """Return ParameterDescription."""
    body = _HALF.pack(len(type_oids)) + b"".join(struct.pack("!I", oid) for oid in type_oids)
    return _frame(b"t", body)


_FIELDS = (("M", "message"), ("D", "detail"), ("H", "hint"), ("W", "where"))


def _report_body(report: Report) -> bytes:
    parts = [f"S{report.severity}", f"V{report.severity}", f"C{report.sqlstate}"]
    parts += [f"{code}{text}" for code, name in _FIELDS if (text := getattr(report, name))]
    if report.position is not None:
        parts.append(f"P{report.position}")
    return b"".join(_string(part) for part in parts) + b"\0"


def error_response(report: Report) -> bytes:
    """Return ErrorResponse."""
    return _frame(b"E", _report_body(report))


def notice_response(report: Report) -> bytes:
    """Return NoticeResponse."""
    return _frame(b"N", _report_body(report))


def error_protocol2(text: str) -> bytes:
    """Return an error in the format of protocol 2: no length, no fields (SE-34, CN-46)."""
    return b"E" + _string(text + "\n")


def startup_refusal(packet: StartupPacket) -> bytes:
    """Return the answer to a BAD startup packet: b"" if the refusal is only logged."""
    report = packet.error
    if report is None or report.severity is Severity.LOG:
        return b""
    # PostgreSQL takes version 0.0 for "not known yet" and answers in the current protocol.
    if (0, 0) < packet.protocol < (NEWEST_PROTOCOL[0], 0):
        return error_protocol2(f"{report.severity}:  {report.message}")
    negotiation = b""
    if packet.needs_negotiation:
        negotiation = negotiate_protocol_version(packet.protocol, packet.unknown_options)
    return packet.answer + negotiation + error_response(report)
