"""The bytes of every frontend message after the startup packet: frames, then messages.

Begin with FrameReader, which splits the byte stream, then decode(). encode() is the client's side.
Source: tcop/postgres.c: SocketBackend(), PostgresMain(), exec_bind_message();
libpq/pqcomm.c: pq_getmessage(); libpq/pqformat.c.
"""

import struct
from enum import Enum

from pglife_impl import ImplError
from pglife_impl.base.record import Record
from pglife_impl.protocol.report import SqlError, SqlState, error

_WORD = struct.Struct("!i")
_HALF = struct.Struct("!h")
_HEADER_LENGTH = 5

SMALL_MESSAGE_LIMIT = 10_000
LARGE_MESSAGE_LIMIT = 0x3FFF_FFFF


class Target(Enum):
    """What Describe and Close refer to."""

    STATEMENT = b"S"
    PORTAL = b"P"


class Query(Record):
    """Run a string of statements (simple protocol)."""

    sql: str


class Parse(Record):
    """Create a prepared statement."""

    name: str
    sql: str
    parameter_types: tuple[int, ...] = ()


class Bind(Record):
    """Create a portal of a prepared statement; None is a null."""

    portal: str
    statement: str
    parameter_formats: tuple[int, ...] = ()
    parameters: tuple[bytes | None, ...] = ()
    result_formats: tuple[int, ...] = ()


class Describe(Record):
    """Ask for the columns, and for the parameters of a statement."""

    target: Target
    name: str


class Execute(Record):
    """Run a portal; `max_rows` 0 means all rows."""

    portal: str
    max_rows: int = 0


class Close(Record):
    """Drop a prepared statement or a portal."""

    target: Target
    name: str


class Sync(Record):
    """End of a series of extended-protocol messages."""


class Flush(Record):
    """Flush the output buffer."""


class Terminate(Record):
    """End the session."""


class Password(Record):
    """A password, SASL or GSS response; they share a type byte."""

    data: bytes


class FunctionCall(Record):
    """A fast-path call; its body is not decoded."""

    data: bytes


class CopyMessage(Record):
    """CopyData, CopyDone or CopyFail; outside of COPY they are ignored."""

    code: bytes
    data: bytes


Message = (
    Query
    | Parse
    | Bind
    | Describe
    | Execute
    | Close
    | Sync
    | Flush
    | Terminate
    | Password
    | FunctionCall
    | CopyMessage
)


class Frame(Record):
    """A type byte and the bytes that follow the length word."""

    code: bytes
    body: bytes


class InvalidLength(ImplError):
    """The length word is invalid. The stream is out of step, so the connection ends."""


class InvalidMessageType(ImplError):
    """The type byte is unknown: FATAL 08P01 (SE-47)."""

    def __init__(self, code: bytes) -> None:
        super().__init__(f"invalid frontend message type {code[0]}")


_SMALL = b"DCEHSX"
_PASSWORD = b"p"
_LARGE = b"QPBFdcf"
EXTENDED_PROTOCOL = frozenset((b"P", b"B", b"E", b"C", b"D", b"H"))
"""After an error these are skipped until Sync."""


class FrameReader:
    """Splits a byte stream into frames, however the bytes arrive.

    A password message is valid only while `authenticating`.
    """

    def __init__(self, *, authenticating: bool = False) -> None:
        self._buffer = bytearray()
        self._small = _SMALL + _PASSWORD if authenticating else _SMALL

    def feed(self, data: bytes) -> None:
        """Append bytes of the client."""
        self._buffer += data

    def next_frame(self) -> Frame | None:
        """Return the next whole frame, or None if more bytes are needed."""
        buffer = self._buffer
        if not buffer:
            return None
        code = bytes(buffer[:1])
        if code in self._small:
            limit = SMALL_MESSAGE_LIMIT
        elif code in _LARGE:
            limit = LARGE_MESSAGE_LIMIT
        else:
            raise InvalidMessageType(code)
        if len(buffer) < _HEADER_LENGTH:
            return None
        length = _WORD.unpack_from(buffer, 1)[0]
        if not _WORD.size <= length <= limit:
            raise InvalidLength("invalid message length")
        if len(buffer) < length + 1:
            return None
        body = bytes(buffer[_HEADER_LENGTH : length + 1])
        del buffer[: length + 1]
        return Frame(code, body)


class _Cursor:
    """Reads the fields of one body, with the errors of libpq/pqformat.c."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.offset = 0

    def take(self, count: int) -> bytes:
        end = self.offset + count
        if count < 0 or end > len(self.body):
            raise violation("insufficient data left in message")
        self.offset, start = end, self.offset
        return self.body[start:end]

    def half(self) -> int:
        return int(_HALF.unpack(self.take(_HALF.size))[0])

    def word(self) -> int:
        return int(_WORD.unpack(self.take(_WORD.size))[0])

    def text(self) -> str:
        end = self.body.find(b"\0", self.offset)
        if end < 0:
            raise violation("invalid string in message")
        raw = self.body[self.offset : end]
        self.offset = end + 1
        return _decode_text(raw)

    def halves(self) -> tuple[int, ...]:
        return tuple(self.half() for _ in range(max(self.half(), 0)))

    def value(self) -> bytes | None:
        length = self.word()
        return None if length == -1 else self.take(length)

    def end(self) -> None:
        if self.offset != len(self.body):
            raise violation("invalid message format")


def violation(message: str) -> SqlError:
    """Return the ERROR for a malformed message body."""
    return error(SqlState.PROTOCOL_VIOLATION, message)


def _decode_text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as bad:
        shown = " ".join(f"0x{byte:02x}" for byte in raw[bad.start : max(bad.end, bad.start + 1)])
        raise error(
            SqlState.CHARACTER_NOT_IN_REPERTOIRE,
            f'invalid byte sequence for encoding "UTF8": {shown}',
        ) from None


def decode(frame: Frame) -> Message:
    """Return the message in a frame; SqlError 08P01 if its body is malformed."""
    cursor = _Cursor(frame.body)
    message = _decode(frame.code, cursor)
    cursor.end()
    return message


def _decode(code: bytes, cursor: _Cursor) -> Message:
    match code:
        case b"Q":
            return Query(cursor.text())
        case b"P":
            name, sql = cursor.text(), cursor.text()
            types = tuple(cursor.word() & 0xFFFF_FFFF for _ in range(max(cursor.half(), 0)))
            return Parse(name, sql, types)
        case b"B":
            return _decode_bind(cursor)
        case b"D" | b"C":
            target = cursor.take(1)
            if target not in (Target.STATEMENT.value, Target.PORTAL.value):
                verb = "DESCRIBE" if code == b"D" else "CLOSE"
                raise violation(f"invalid {verb} message subtype {target[0]}")
            kind = Describe if code == b"D" else Close
            return kind(Target(target), cursor.text())
        case b"E":
            return Execute(cursor.text(), cursor.word())
        case b"S":
            return Sync()
        case b"H":
            return Flush()
        case b"X":
            return Terminate()
    rest = cursor.take(len(cursor.body) - cursor.offset)
    if code == b"p":
        return Password(rest)
    if code == b"F":
        return FunctionCall(rest)
    return CopyMessage(code, rest)


def _decode_bind(cursor: _Cursor) -> Bind:
    portal, statement = cursor.text(), cursor.text()
    formats = cursor.halves()
    count = cursor.half()
    if len(formats) > 1 and len(formats) != count:
        raise violation(f"bind message has {len(formats)} parameter formats but {count} parameters")
    values = tuple(cursor.value() for _ in range(max(count, 0)))
    return Bind(portal, statement, formats, values, cursor.halves())


def encode(message: Message) -> bytes:
    """Return the bytes of a message, as a client sends it."""
    match message:
        case Query(sql):
            return _frame(b"Q", _string(sql))
        case Parse(name, sql, types):
            oids = b"".join(struct.pack("!I", oid) for oid in types)
            return _frame(b"P", _string(name) + _string(sql) + _HALF.pack(len(types)) + oids)
        case Bind():
            return _frame(b"B", _encode_bind(message))
        case Describe(target, name):
            return _frame(b"D", target.value + _string(name))
        case Close(target, name):
            return _frame(b"C", target.value + _string(name))
        case Execute(portal, max_rows):
            return _frame(b"E", _string(portal) + _WORD.pack(max_rows))
        case Sync():
            return _frame(b"S", b"")
        case Flush():
            return _frame(b"H", b"")
        case Terminate():
            return _frame(b"X", b"")
        case Password(data):
            return _frame(b"p", data)
        case FunctionCall(data):
            return _frame(b"F", data)
        case CopyMessage(code, data):
            return _frame(code, data)


def _encode_bind(bind: Bind) -> bytes:
    parts = [_string(bind.portal), _string(bind.statement), _halves(bind.parameter_formats)]
    parts.append(_HALF.pack(len(bind.parameters)))
    for value in bind.parameters:
        parts.append(_WORD.pack(-1) if value is None else _WORD.pack(len(value)) + value)
    parts.append(_halves(bind.result_formats))
    return b"".join(parts)


def _frame(code: bytes, body: bytes) -> bytes:
    return code + _WORD.pack(len(body) + _WORD.size) + body


def _string(text: str) -> bytes:
    return text.encode() + b"\0"


def _halves(numbers: tuple[int, ...]) -> bytes:
    return _HALF.pack(len(numbers)) + b"".join(_HALF.pack(number) for number in numbers)
