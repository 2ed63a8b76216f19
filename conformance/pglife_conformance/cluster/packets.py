"""First words of a client, byte by byte, and what the child forked for it makes of them.

Begin with   exchange(), then the packets.
Owns         one connection from its first byte to the exit status of the child that served it.
Leaves out   sessions (session.py), messages (client.py).
Source       rules CN-40 to CN-48, CN-23; tcop/backend_startup.c: ProcessStartupPacket().
"""

from __future__ import annotations

import os
import re
import socket
import struct
from dataclasses import dataclass

from pglife_conformance.cluster.client import Client, ServerMessage, Special, Tag
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.observation.log import LogRecord

SSL_REQUEST = struct.pack("!ii", 8, Special.SSL)
GSSENC_REQUEST = struct.pack("!ii", 8, Special.GSSENC)
_FORKED = re.compile(r"forked new .*, pid=(\d+) ")


@dataclass(frozen=True)
class Exchange:
    """What became of it."""

    child_pid: int
    answer: bytes
    """Everything that the server said until it hung up."""
    exit_code: int
    said: list[tuple[str, str]]
    """Level and message of what the child logged."""

    @property
    def error(self) -> ServerMessage:
        """The last message, which must be an ErrorResponse."""
        found, rest = None, self.answer.lstrip(b"NSG")
        while rest:
            (length,) = struct.unpack_from("!i", rest, 1)
            tag = Tag(rest[:1]) if rest[:1] in (b"E", b"v", b"R") else Tag.OTHER
            found, rest = ServerMessage(tag, rest[5 : 1 + length]), rest[1 + length :]
        assert found is not None, "the server hung up without a word"
        assert found.tag is Tag.ERROR, found
        return found


def packet(protocol: int, body: bytes = b"") -> bytes:
    """A packet with its length in front."""
    return struct.pack("!ii", 8 + len(body), protocol) + body


def cancel_request(pid: int, key: bytes) -> bytes:
    """A CancelRequest."""
    return packet(Special.CANCEL, struct.pack("!i", pid) + key)


def shut_down_writing(client: Client) -> None:
    """Close our half of the connection; the server's is still heard."""
    with socket.socket(fileno=os.dup(client.fileno())) as same:
        same.shutdown(socket.SHUT_WR)


def exchange(cluster: Cluster, *said: bytes, last: bool = False, tcp: bool = False) -> Exchange:
    """Connect, say this, and listen to the end; with `last` nothing more can come from us.

    Before each further piece one byte of answer is waited for.
    """
    mark = cluster.mark()
    # Lines about children of others may still be to come; those have been born already. The same
    # look as the mark's: it asks for children first, and whoever is reaped by then has his lines
    # before the mark.
    others = {kid.pid for kid in cluster.watcher.kids}
    session = cluster.silent_client(tcp=tcp, wait_for_child=False)
    client, answer = session.client, b""
    for number, piece in enumerate(said):
        if number:
            answer += client.receive_byte()
        client.send_bytes(piece)
    if last:
        shut_down_writing(client)
    answer += client.receive_rest()
    session.disconnect()

    def exit_line() -> LogRecord | None:
        pid = _child_pid(cluster, mark, others)
        return cluster.find_log(rf"\(PID {pid}\) exited with exit code", since=mark)

    record = cluster.wait_for("the exit of the child that was forked for a client", exit_line)
    pid = _child_pid(cluster, mark, others)
    own = [(entry.level, entry.message) for entry in cluster.log(mark) if entry.pid == pid]
    heard = [(level, message) for level, message in own if level != "DEBUG"]
    return Exchange(pid, answer, int(record.message.rpartition(" ")[2]), heard)


def _child_pid(cluster: Cluster, mark: int, others: set[int]) -> int:
    for record in cluster.log(mark):
        found = _FORKED.match(record.message)
        if found is not None and int(found[1]) not in others:
            return int(found[1])
    return 0
