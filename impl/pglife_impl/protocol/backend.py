"""What the server says: the bytes of every backend message, and their reading back.

Begin with   the functions, one a message, in the order in which a session meets them.
Owns         the layout of backend messages, the field codes of errors among them.
Leaves out   when to say what (backend.py of the process side, session/).
Source       libpq/auth.c: sendAuthRequest(), tcop/dest.c, access/common/printtup.c,
             utils/error/elog.c: send_message_to_frontend().
"""

from __future__ import annotations

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
    """Return `v`: the version that will be spoken, and the options that were not understood."""
    major, minor = min(protocol, NEWEST_PROTOCOL)
    body = _WORD.pack((major << 16) | minor) + _WORD.pack(len(unknown_options))
    return _frame(b"v", body + b"".join(_string(name) for name in unknown_options))


def authentication_ok() -> bytes:
    """Return `R` 0."""
    return _frame(b"R", _WORD.pack(0))


def parameter_status(name: str, value: str) -> bytes:
    """Return `S`."""
    return _frame(b"S", _string(name) + _string(value))


def backend_key_data(pid: int, key: bytes) -> bytes:
    """Return `K`: 4 bytes of key up to protocol 3.1, 32 from 3.2 on (CN-45)."""
    return _frame(b"K", _WORD.pack(pid) + key)


def ready_for_query(status: TransactionStatus | bytes) -> bytes:
    """Return `Z`."""
    return _frame(b"Z", status.value if isinstance(status, TransactionStatus) else status)


def row_description(columns: Iterable[Column]) -> bytes:
    """Return `T`."""
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
    """Return `D`; None is a null."""
    parts = [_HALF.pack(len(values))]
    for value in values:
        parts.append(_WORD.pack(-1) if value is None else _WORD.pack(len(value)) + value)
    return _frame(b"D", b"".join(parts))


def command_complete(tag: str) -> bytes:
    """Return `C`."""
    return _frame(b"C", _string(tag))


def empty_query_response() -> bytes:
    """Return `I`."""
    return _frame(b"I")


def parse_complete() -> bytes:
    """Return `1`."""
    return _frame(b"1")


def bind_complete() -> bytes:
    """Return `2`."""
    return _frame(b"2")


def close_complete() -> bytes:
    """Return `3`."""
    return _frame(b"3")


def no_data() -> bytes:
    """Return `n`."""
    return _frame(b"n")


def portal_suspended() -> bytes:
    """Return `s`."""
    return _frame(b"s")


def parameter_description(type_oids: Sequence[int]) -> bytes:
    """Return `t`."""
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
    """Return `E`."""
    return _frame(b"E", _report_body(report))


def notice_response(report: Report) -> bytes:
    """Return `N`."""
    return _frame(b"N", _report_body(report))


def error_protocol2(text: str) -> bytes:
    """Return an error as protocol 2 writes it: no length, no fields (SE-34, CN-46)."""
    return b"E" + _string(text + "\n")


def startup_refusal(packet: StartupPacket) -> bytes:
    """Return what a client whose startup packet is BAD is told: nothing if only the log is."""
    report = packet.error
    if report is None or report.severity is Severity.LOG:
        return b""
    # Version 0.0 is what PostgreSQL takes for "not known yet", and answers as it does today.
    if (0, 0) < packet.protocol < (NEWEST_PROTOCOL[0], 0):
        return error_protocol2(f"{report.severity}:  {report.message}")
    negotiation = b""
    if packet.needs_negotiation:
        negotiation = negotiate_protocol_version(packet.protocol, packet.unknown_options)
    return packet.answer + negotiation + error_response(report)


def parse_report(body: bytes) -> Report:
    """Return the report in the body of `E` or `N`: the inverse, for tests and tools."""
    fields = {
        chr(part[0]): part[1:].decode("utf-8", "surrogateescape")
        for part in body.split(b"\0")
        if part
    }
    return Report(
        Severity(fields["V"]),
        fields["C"],
        fields["M"],
        fields.get("D", ""),
        fields.get("H", ""),
        int(fields["P"]) if "P" in fields else None,
        fields.get("W", ""),
    )
