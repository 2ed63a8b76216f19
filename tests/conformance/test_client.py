"""The client of the wire protocol against a peer that sends the server's bytes."""

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from pglife_conformance.cluster.client import (
    PROTOCOL_3_2,
    Client,
    ClientTimeout,
    Ending,
    Special,
    Tag,
    startup_packet,
)


@pytest.fixture
def peers(tmp_path: Path) -> Iterator[tuple[Client, socket.socket]]:
    """A client and the server's end of its connection."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        client = Client(path, limit_s=20.0)
        server, _ = listener.accept()
        with server:
            yield client, server
        client.close()


def message(tag: bytes, body: bytes = b"") -> bytes:
    return tag + struct.pack("!i", len(body) + 4) + body


def test_startup_packet() -> None:
    packet = startup_packet({"user": "u"}, PROTOCOL_3_2)
    assert packet == b"\0\0\0\x10\0\x03\0\x02user\0u\0\0"


def test_error_with_its_fields(peers: tuple[Client, socket.socket]) -> None:
    client, server = peers
    server.sendall(message(b"E", b"SFATAL\0VFATAL\0C57P03\0Mno\0Dwhy\0Hhow\0\0"))
    error = client.receive()
    assert error is not None
    assert (error.tag, error.severity, error.sqlstate) == (Tag.ERROR, "FATAL", "57P03")
    assert (error.message, error.detail, error.hint) == ("no", "why", "how")


def test_messages_are_put_together_from_pieces(peers: tuple[Client, socket.socket]) -> None:
    client, server = peers
    whole = message(b"D", struct.pack("!Hi1si", 2, 1, b"7", -1)) + message(b"Z", b"T")
    for byte in whole:
        server.sendall(bytes([byte]))
    row = client.receive()
    assert row is not None
    assert row.row == ("7", None)
    ready = client.receive()
    assert ready is not None
    assert ready.tag is Tag.READY_FOR_QUERY
    assert client.transaction_status == "T"


def test_key_data_of_any_length(peers: tuple[Client, socket.socket]) -> None:
    client, server = peers
    server.sendall(message(b"K", struct.pack("!i", 99) + b"k" * 32))
    client.receive()
    assert (client.backend_pid, client.cancel_key) == (99, b"k" * 32)


def test_end_of_file_is_no_reset(peers: tuple[Client, socket.socket]) -> None:
    client, server = peers
    server.close()
    assert client.receive() is None
    assert client.ending is Ending.END_OF_FILE


def test_reset_is_no_end_of_file() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = Client(listener.getsockname(), limit_s=20.0)
        server, _ = listener.accept()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.close()
        assert client.receive() is None
        assert client.ending is Ending.RESET
        client.close()


def test_silence_is_a_timeout_and_no_end(peers: tuple[Client, socket.socket]) -> None:
    client, _ = peers
    assert not client.has_input()
    with pytest.raises(ClientTimeout):
        client.receive(0.01)
    assert client.ending is None


def test_requests(peers: tuple[Client, socket.socket]) -> None:
    client, server = peers
    client.send_request(Special.SSL)
    assert server.recv(100) == struct.pack("!ii", 8, 80877103)
    server.sendall(b"N")
    assert client.receive_byte() == b"N"
    client.send_cancel(7, b"key!")
    assert server.recv(100) == struct.pack("!iii", 16, 80877102, 7) + b"key!"
    client.send_query("select 1")
    assert server.recv(100) == message(b"Q", b"select 1\0")
    client.send_terminate()
    assert server.recv(100) == message(b"X")
