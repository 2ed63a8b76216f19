"""What a client sends first, byte by byte, and what the child forked for it makes of that.

Begin with exchange(): one connection from its first byte to the exit status of its child.

Source: rules CN-23, CN-40 to CN-48; tcop/backend_startup.c: ProcessStartupPacket().
"""

import os
import re
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from pglife_conformance.base.ids import Pid
from pglife_conformance.cluster.client import Client, ServerMessage, Special, Tag
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.expect.excerpt import Excerpt
from pglife_conformance.observation.log import LogRecord

SSL_REQUEST = struct.pack("!ii", 8, Special.SSL)
GSSENC_REQUEST = struct.pack("!ii", 8, Special.GSSENC)
_FORKED = re.compile(r"forked new .*, pid=(\d+) ")


@dataclass(frozen=True)
class Exchange:
    """One connection, from its first byte to the exit of its child."""

    answer: bytes
    """Everything that the client received until the end of the connection."""
    exit_code: int
    said: Sequence[tuple[str, str]]
    """Level and message of what the child has logged, without DEBUG."""

    @property
    def error(self) -> ServerMessage:
        """The last message, which must be an ErrorResponse."""
        found, rest = None, self.answer.lstrip(b"NSG")
        while rest:
            (length,) = struct.unpack_from("!i", rest, 1)
            tag = Tag(rest[:1]) if rest[:1] in (b"E", b"v", b"R") else Tag.OTHER
            found, rest = ServerMessage(tag, rest[5 : 1 + length]), rest[1 + length :]
        assert found is not None, "the connection has ended without a message"
        assert found.tag is Tag.ERROR, found
        return found


def packet(protocol: int, body: bytes = b"") -> bytes:
    """A packet: its length, the protocol version or request code, the body."""
    return struct.pack("!ii", 8 + len(body), protocol) + body


def cancel_request(pid: Pid, key: bytes) -> bytes:
    """A CancelRequest."""
    return packet(Special.CANCEL, struct.pack("!i", pid) + key)


def shut_down_writing(client: Client) -> None:
    """Close the client's half of the connection; it can still receive."""
    with socket.socket(fileno=os.dup(client.fileno())) as same:
        same.shutdown(socket.SHUT_WR)


def exchange(cluster: Cluster, *sent: bytes, last: bool = False, tcp: bool = False) -> Exchange:
    """Connect, send these bytes, receive until the end of the connection.

    Args:
        cluster: the cluster.
        sent: the pieces to send; one byte of answer is received between two of them.
        last: whether to shut down writing after the last piece.
        tcp: whether to connect by TCP.
    """
    then = cluster.since()
    # Lines about children of earlier clients may still follow, but those children live already: a
    # look reads children before the log, so one that is reaped by now has its lines before `then`.
    others = {kid.pid for kid in cluster.watcher.kids}
    session = cluster.silent_client(tcp=tcp, wait_for_child=False)
    client, answer = session.client, b""
    for number, piece in enumerate(sent):
        if number:
            answer += client.receive_byte()
        client.send_bytes(piece)
    if last:
        shut_down_writing(client)
    answer += client.receive_rest()
    session.disconnect()

    def exit_line() -> LogRecord | None:
        return then.find_log(rf"\(PID {_child_pid(then, others)}\) exited with exit code")

    record = cluster.wait_for("the exit of the child that was forked for a client", exit_line)
    pid = _child_pid(then, others)
    said = [(entry.level, entry.message) for entry in then.log(pid=pid) if entry.level != "DEBUG"]
    return Exchange(answer, int(record.message.rpartition(" ")[2]), said)


def _child_pid(then: Excerpt, others: set[Pid]) -> Pid | None:
    for record in then.log():
        found = _FORKED.match(record.message)
        if found is not None and int(found[1]) not in others:
            return Pid(int(found[1]))
    return None
