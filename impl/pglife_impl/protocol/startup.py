"""The packets before the first message: startup, encryption requests, cancel requests.

Begin with parse_startup(), a pure function of the bytes received so far.
Source: tcop/backend_startup.c: ProcessSSLStartup(), ProcessStartupPacket(),
ProcessCancelRequestPacket(); rules CN-40..48.
"""

import struct
from collections.abc import Mapping
from enum import Enum, auto
from types import MappingProxyType

from pglife_impl.base.record import Record
from pglife_impl.base.texts import parse_bool
from pglife_impl.protocol.report import Report, Severity, SqlState

NEWEST_PROTOCOL = (3, 2)
MAX_STARTUP_PACKET_LENGTH = 10000
MAX_CANCEL_KEY_LENGTH = 256
MAX_NAME_BYTES = 63
SHORT_KEY_LENGTH = 4
LONG_KEY_LENGTH = 32

_WORD = struct.Struct("!I")
_SPECIAL_MAJOR = 1234
_CANCEL_REQUEST = (_SPECIAL_MAJOR, 5678)
_SSL_REQUEST = (_SPECIAL_MAJOR, 5679)
_GSSENC_REQUEST = (_SPECIAL_MAJOR, 5680)
NO_ENCRYPTION = b"N"
_TLS_HANDSHAKE = 0x16
_PROTOCOL_OPTION_PREFIX = "_pq_."


class StartupKind(Enum):
    """The kinds of packets at the beginning of a connection."""

    NEED_MORE = auto()
    STARTUP = auto()
    SSL_REQUEST = auto()
    GSSENC_REQUEST = auto()
    CANCEL = auto()
    DIRECT_TLS = auto()
    BAD = auto()


class Replication(Enum):
    """The values of the `replication` parameter (CN-48)."""

    NONE = auto()
    PHYSICAL = auto()
    DATABASE = auto()


class StartupPacket(Record):
    """One packet from the beginning of a connection.

    `error` is set for BAD; severity LOG means that it is logged but not sent. A BAD packet keeps
    its parameters, because a NegotiateProtocolVersion still precedes the refusal. `answer` is the
    byte that precedes the refusal of an invalid encryption request.
    """

    kind: StartupKind
    consumed: int = 0
    protocol: tuple[int, int] = NEWEST_PROTOCOL
    parameters: Mapping[str, str] = MappingProxyType({})
    unknown_options: tuple[str, ...] = ()
    replication: Replication = Replication.NONE
    cancel_pid: int = 0
    cancel_key: bytes = b""
    error: Report | None = None
    answer: bytes = b""

    @property
    def needs_negotiation(self) -> bool:
        """Whether NegotiateProtocolVersion must precede every other answer (CN-46)."""
        speaks_three = self.protocol[0] == NEWEST_PROTOCOL[0]
        return speaks_three and (
            self.protocol[1] > NEWEST_PROTOCOL[1] or bool(self.unknown_options)
        )


def cancel_key_length(protocol: tuple[int, int]) -> int:
    """Return the length in bytes of the cancel key in this protocol version (CN-45)."""
    return LONG_KEY_LENGTH if protocol >= NEWEST_PROTOCOL else SHORT_KEY_LENGTH


def parse_startup(
    buffer: bytes, *, ssl_done: bool = False, gss_done: bool = False
) -> StartupPacket:
    """Return the packet at the beginning of the buffer, or NEED_MORE.

    `ssl_done` and `gss_done` say that such a request has been answered. A second one is an
    unsupported protocol version (CN-41, CN-42). Parse as soon as bytes arrive: bytes behind an
    SSLRequest in the same buffer were sent before the answer, which is FATAL 08P01.
    """
    if buffer[:1] == bytes([_TLS_HANDSHAKE]) and not (ssl_done or gss_done):
        return StartupPacket(StartupKind.DIRECT_TLS)
    if len(buffer) < _WORD.size:
        return StartupPacket(StartupKind.NEED_MORE)
    length = _WORD.unpack_from(buffer)[0]
    if not 2 * _WORD.size <= length <= MAX_STARTUP_PACKET_LENGTH + _WORD.size:
        return _only_logged("invalid length of startup packet", len(buffer))
    if len(buffer) < length:
        return StartupPacket(StartupKind.NEED_MORE)
    body = buffer[_WORD.size : length]
    code = _WORD.unpack_from(body)[0]
    version = (code >> 16, code & 0xFFFF)
    if version == _CANCEL_REQUEST:
        return _cancel_request(body[_WORD.size :], length)
    for request, kind, done, name in (
        (_SSL_REQUEST, StartupKind.SSL_REQUEST, ssl_done, "SSL"),
        (_GSSENC_REQUEST, StartupKind.GSSENC_REQUEST, gss_done, "GSSAPI encryption"),
    ):
        if version == request and not done:
            return _encryption_request(kind, name, consumed=length, unread=len(buffer) - length)
    return _startup(version, body[_WORD.size :], length)


def incomplete_startup(buffer: bytes, *, ssl_done: bool, gss_done: bool) -> Report | None:
    """Return the log line for a client that hung up after these bytes, or None."""
    in_length_word = len(buffer) < _WORD.size
    if not buffer or (in_length_word and (ssl_done or gss_done)):
        return None
    return Report(Severity.LOG, SqlState.PROTOCOL_VIOLATION, "incomplete startup packet")


def _only_logged(message: str, consumed: int) -> StartupPacket:
    """Return a BAD packet that is logged but not answered."""
    report = Report(Severity.LOG, SqlState.PROTOCOL_VIOLATION, message)
    return StartupPacket(StartupKind.BAD, consumed, error=report)


def _cancel_request(body: bytes, consumed: int) -> StartupPacket:
    if len(body) < _WORD.size:
        return _only_logged("invalid length of cancel request packet", consumed)
    key = body[_WORD.size :]
    if not 0 < len(key) <= MAX_CANCEL_KEY_LENGTH:
        return _only_logged("invalid length of cancel key in cancel request packet", consumed)
    pid = _WORD.unpack_from(body)[0]
    return StartupPacket(StartupKind.CANCEL, consumed, cancel_pid=pid, cancel_key=key)


def _encryption_request(
    kind: StartupKind, name: str, *, consumed: int, unread: int
) -> StartupPacket:
    """Return an encryption request, BAD if more bytes follow it."""
    if not unread:
        return StartupPacket(kind, consumed)
    report = Report(
        Severity.FATAL,
        SqlState.PROTOCOL_VIOLATION,
        f"received unencrypted data after {name} request",
        "This could be either a client-software bug or evidence of an attempted"
        " man-in-the-middle attack.",
    )
    return StartupPacket(StartupKind.BAD, consumed, error=report, answer=NO_ENCRYPTION)


def _startup(version: tuple[int, int], body: bytes, consumed: int) -> StartupPacket:
    major, minor = version
    if major != NEWEST_PROTOCOL[0]:
        report = Report(
            Severity.FATAL,
            SqlState.FEATURE_NOT_SUPPORTED,
            f"unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2",
        )
        return StartupPacket(StartupKind.BAD, consumed, version, error=report)
    pairs, terminated = _pairs(body)
    unknown = tuple(name for name, _ in pairs if name.startswith(_PROTOCOL_OPTION_PREFIX))
    settings = {name: value for name, value in pairs if name not in unknown}
    replication, bad_replication = _replication(settings.get("replication"))
    problem = bad_replication
    if problem is None and not terminated:
        problem = _fatal(
            SqlState.PROTOCOL_VIOLATION,
            "invalid startup packet layout: expected terminator as last byte",
        )
    if problem is not None:
        # These two errors are found before the version is negotiated.
        return StartupPacket(
            StartupKind.BAD, consumed, min(version, NEWEST_PROTOCOL), error=problem
        )
    user = settings.get("user", "")
    if not user:
        problem = _fatal(
            SqlState.INVALID_AUTHORIZATION_SPECIFICATION,
            "no PostgreSQL user name specified in startup packet",
        )
    database = "" if replication is Replication.PHYSICAL else settings.get("database") or user
    settings |= {"user": _cut_name(user), "database": _cut_name(database)}
    kind = StartupKind.STARTUP if problem is None else StartupKind.BAD
    return StartupPacket(
        kind, consumed, version, settings, unknown, replication=replication, error=problem
    )


def _pairs(body: bytes) -> tuple[list[tuple[str, str]], bool]:
    """Return names and values, and whether the terminator ends the packet exactly."""
    pairs: list[tuple[str, str]] = []
    offset = 0
    while offset < len(body) and body[offset]:
        name_end = _string_end(body, offset)
        value_start = name_end + 1
        if value_start >= len(body):
            break
        value_end = _string_end(body, value_start)
        pairs.append((_text(body[offset:name_end]), _text(body[value_start:value_end])))
        offset = value_end + 1
    return pairs, offset == len(body) - 1


def _string_end(body: bytes, start: int) -> int:
    """Return the offset of the zero byte; as in PostgreSQL, one follows the packet."""
    end = body.find(b"\0", start)
    return len(body) if end < 0 else end


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _cut_name(name: str) -> str:
    return _text(name.encode("utf-8", "surrogateescape")[:MAX_NAME_BYTES])


def _fatal(sqlstate: SqlState, message: str) -> Report:
    return Report(Severity.FATAL, sqlstate, message)


def _replication(value: str | None) -> tuple[Replication, Report | None]:
    if value is None:
        return Replication.NONE, None
    if value == "database":
        return Replication.DATABASE, None
    truth = parse_bool(value)
    if truth is not None:
        return (Replication.PHYSICAL if truth else Replication.NONE), None
    report = Report(
        Severity.FATAL,
        SqlState.INVALID_PARAMETER_VALUE,
        f'invalid value for parameter "replication": "{value}"',
        hint='Valid values are: "false", 0, "true", 1, "database".',
    )
    return Replication.NONE, report
