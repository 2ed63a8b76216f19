"""A client of the wire protocol that hides nothing: every message with its fields, without libpq.

Begin with Client. session.py makes a scenario's session of it.

Source: the protocol chapter of PostgreSQL's documentation; rules CN-40 to CN-48.
"""

import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum
from pathlib import Path

from pglife_conformance.base.failures import SuiteError
from pglife_conformance.base.ids import Pid

PROTOCOL_3_0 = 3 << 16
PROTOCOL_3_2 = 3 << 16 | 2


class Special(IntEnum):
    """Request codes, in place of a protocol version."""

    CANCEL = 80877102
    SSL = 80877103
    GSSENC = 80877104


class Tag(Enum):
    """Messages of the server, by their type byte."""

    AUTHENTICATION = b"R"
    BACKEND_KEY_DATA = b"K"
    BIND_COMPLETE = b"2"
    COMMAND_COMPLETE = b"C"
    DATA_ROW = b"D"
    EMPTY_QUERY = b"I"
    ERROR = b"E"
    NEGOTIATE_PROTOCOL_VERSION = b"v"
    NOTICE = b"N"
    NO_DATA = b"n"
    PARAMETER_STATUS = b"S"
    PARSE_COMPLETE = b"1"
    READY_FOR_QUERY = b"Z"
    ROW_DESCRIPTION = b"T"
    OTHER = b"?"


class Ending(Enum):
    """How a connection ended."""

    END_OF_FILE = "end of file"
    RESET = "reset"


class ClientTimeout(SuiteError):
    """No byte was received within the deadline."""


@dataclass(frozen=True)
class ServerMessage:
    """One message as it was received."""

    tag: Tag
    body: bytes

    @property
    def fields(self) -> dict[str, str]:
        """The fields of an ErrorResponse or NoticeResponse by their letters."""
        parts = self.body.rstrip(b"\0").split(b"\0")
        return {
            part[:1].decode("ascii"): part[1:].decode("utf-8", errors="replace")
            for part in parts
            if part
        }

    @property
    def severity(self) -> str:
        """The severity, not translated (field V)."""
        return self.fields.get("V") or self.fields.get("S", "")

    @property
    def sqlstate(self) -> str:
        """The SQLSTATE."""
        return self.fields.get("C", "")

    @property
    def message(self) -> str:
        """The primary message."""
        return self.fields.get("M", "")

    @property
    def detail(self) -> str:
        """The DETAIL; empty without one."""
        return self.fields.get("D", "")

    @property
    def hint(self) -> str:
        """The HINT; empty without one."""
        return self.fields.get("H", "")

    @property
    def row(self) -> tuple[str | None, ...]:
        """The values of a DataRow as text."""
        (count,) = struct.unpack_from("!H", self.body)
        values: list[str | None] = []
        at = 2
        for _ in range(count):
            (length,) = struct.unpack_from("!i", self.body, at)
            at += 4
            if length < 0:
                values.append(None)
            else:
                values.append(self.body[at : at + length].decode("utf-8", errors="replace"))
                at += length
        return tuple(values)

    def __str__(self) -> str:
        if self.tag in (Tag.ERROR, Tag.NOTICE):
            return f"{self.severity} {self.sqlstate} {self.message!r}"
        return f"{self.tag.name} {self.body!r}"


class Client:
    """One connection, blocking, with a deadline for each wait.

    Args:
        address: the path of the Unix socket, or host and port.
        limit_s: the deadline of a wait in seconds, if the method is given none.

    Raises:
        OSError: from connect(2).
    """

    def __init__(self, address: Path | tuple[str, int], limit_s: float) -> None:
        family = socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET
        self._limit_s = limit_s
        self._buffer = b""
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.settimeout(limit_s)
        self.ending: Ending | None = None
        self.parameters: dict[str, str] = {}
        self.backend_pid: Pid | None = None
        self.cancel_key = b""
        self.transaction_status = ""
        try:
            self._connect(address)
        except BaseException:
            self._socket.close()
            raise

    def _connect(self, address: Path | tuple[str, int]) -> None:
        if not isinstance(address, Path):
            self._socket.connect(address)
            return
        # Not by settimeout(): a socket with Python's timeout is non-blocking, and connect() to a
        # full backlog fails at once. With SO_SNDTIMEO it blocks, and the kernel keeps the time.
        limit = struct.pack("ll", int(self._limit_s), int(self._limit_s % 1 * 1_000_000))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self._socket.settimeout(None)
        self._socket.connect(str(address))
        self._socket.settimeout(self._limit_s)

    def fileno(self) -> int:
        """For poll()."""
        return self._socket.fileno()

    # Sending.

    def send_bytes(self, data: bytes) -> None:
        """Send any bytes. A connection that the server has closed is noticed at the next read."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def send_startup(self, parameters: dict[str, str], protocol: int = PROTOCOL_3_0) -> None:
        """Send the startup packet."""
        self.send_bytes(startup_packet(parameters, protocol))

    def send_request(self, code: Special) -> None:
        """Send SSLRequest or GSSENCRequest."""
        self.send_bytes(struct.pack("!ii", 8, code))

    def send_cancel(self, pid: Pid, key: bytes) -> None:
        """Send CancelRequest."""
        self.send_bytes(struct.pack("!iii", 12 + len(key), Special.CANCEL, pid) + key)

    def send_query(self, sql: str) -> None:
        """Send a simple query."""
        self.send_message(b"Q", sql.encode() + b"\0")

    def send_message(self, tag: bytes, body: bytes = b"") -> None:
        """Send any message with a type byte."""
        self.send_bytes(tag + struct.pack("!i", 4 + len(body)) + body)

    def send_terminate(self) -> None:
        """Send Terminate."""
        self.send_message(b"X")

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def reset(self) -> None:
        """Close the connection so that a TCP peer receives a reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    # Receiving.

    def receive_byte(self, limit_s: float | None = None) -> bytes:
        """Receive one byte that is no message, the answer to a request; empty at end of file."""
        if not self._fill(1, self._until(limit_s)):
            return b""
        byte, self._buffer = self._buffer[:1], self._buffer[1:]
        return byte

    def receive(self, limit_s: float | None = None) -> ServerMessage | None:
        """Receive a message; None when the connection has ended (see `ending`).

        Raises:
            ClientTimeout: there was no message in time.
        """
        until = self._until(limit_s)
        if not self._fill(5, until):
            return None
        (length,) = struct.unpack_from("!i", self._buffer, 1)
        if not self._fill(1 + length, until):
            return None
        tag, body = self._buffer[:1], self._buffer[5 : 1 + length]
        self._buffer = self._buffer[1 + length :]
        message = ServerMessage(_TAGS.get(tag, Tag.OTHER), body)
        self._note(message)
        return message

    def receive_rest(self, limit_s: float | None = None) -> bytes:
        """Receive all bytes until the connection ends."""
        until = self._until(limit_s)
        while self._fill(len(self._buffer) + 1, until):
            pass
        rest, self._buffer = self._buffer, b""
        return rest

    def messages(self, limit_s: float | None = None) -> Iterator[ServerMessage]:
        """Receive messages until the connection ends."""
        while (message := self.receive(limit_s)) is not None:
            yield message

    def has_input(self, within_s: float = 0.0) -> bool:
        """Whether a byte or the end of the connection can be read."""
        if self._buffer or self.ending is not None:
            return True
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        return bool(poller.poll(within_s * 1000))

    def _until(self, limit_s: float | None) -> float:
        return time.monotonic() + (self._limit_s if limit_s is None else limit_s)

    def _fill(self, size: int, until: float) -> bool:
        while len(self._buffer) < size:
            if self.ending is not None:
                return False
            left = until - time.monotonic()
            if left <= 0:
                raise ClientTimeout
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                raise ClientTimeout from None
            except ConnectionResetError:
                self.ending = Ending.RESET
                return False
            if not data:
                self.ending = Ending.END_OF_FILE
                return False
            self._buffer += data
        return True

    def _note(self, message: ServerMessage) -> None:
        if message.tag is Tag.BACKEND_KEY_DATA:
            (self.backend_pid,) = struct.unpack_from("!i", message.body)
            self.cancel_key = message.body[4:]
        elif message.tag is Tag.READY_FOR_QUERY:
            self.transaction_status = message.body.decode("ascii")
        elif message.tag is Tag.PARAMETER_STATUS:
            name, value, _ = message.body.split(b"\0", 2)
            self.parameters[name.decode()] = value.decode("utf-8", errors="replace")


_TAGS = {tag.value: tag for tag in Tag}


def startup_packet(parameters: dict[str, str], protocol: int = PROTOCOL_3_0) -> bytes:
    """The bytes of a startup packet."""
    body = struct.pack("!i", protocol)
    for name, value in parameters.items():
        body += name.encode() + b"\0" + value.encode() + b"\0"
    body += b"\0"
    return struct.pack("!i", 4 + len(body)) + body
