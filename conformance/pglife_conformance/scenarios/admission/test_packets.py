"""Startup packets: lengths, encryption requests, protocol versions, names.

Source: backend_startup.c (until 16 postmaster.c): ProcessStartupPacket(), ProcessSSLStartup().
"""

import struct

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.client import PROTOCOL_3_0, PROTOCOL_3_2, Tag, startup_packet
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.packets import GSSENC_REQUEST, SSL_REQUEST, exchange, packet
from pglife_conformance.cluster.session import Outcome
from pglife_conformance.pytest.claims import claim, settings

pytestmark = pytest.mark.unmonitored("the model has no packets but the startup packet")

SOURCE = "backend_startup.c: ProcessStartupPacket()"
LAYOUT = "invalid startup packet layout: expected terminator as last byte"
INCOMPLETE = [("LOG", "incomplete startup packet")]
INVALID_LENGTH = [("LOG", "invalid length of startup packet")]
POSTGRES = {"user": "postgres", "database": "postgres"}
WELCOME = startup_packet(POSTGRES)
NO_USER = "no PostgreSQL user name specified in startup packet"
LONGEST_BODY = 10000


def packet_of(size: int) -> bytes:
    """Return a valid startup packet whose body, without the length word, has this size."""
    name = "x" * (size - len(startup_packet(POSTGRES | {"application_name": ""})) + 4)
    made = startup_packet(POSTGRES | {"application_name": name})
    assert len(made) == size + 4
    return made


@claim("CN-40 CN-23", source=SOURCE)
def test_length_of_a_startup_packet_is_bounded(cluster: Cluster) -> None:
    """A body of less than 4 or more than 10000 bytes is logged and not answered; the child exits
    with 0."""
    for length in (-(2**31), -1, 0, 3, 4, 7, LONGEST_BODY + 5, 2**24):
        found = exchange(cluster, struct.pack("!i", length))
        assert (found.answer, found.said, found.exit_code) == (b"", INVALID_LENGTH, 0), length
    shortest = exchange(cluster, packet(PROTOCOL_3_0))
    assert (shortest.error.message, shortest.exit_code) == (LAYOUT, 1)
    longest = cluster.silent_client(wait_for_child=False)
    longest.client.send_bytes(packet_of(LONGEST_BODY))
    assert longest.receive_outcome() is Outcome.ADMITTED
    longest.close()


@claim("CN-40 CN-23", source=SOURCE)
def test_incomplete_packets(cluster: Cluster) -> None:
    """An incomplete packet is logged. A client that sends nothing is not logged, nor an incomplete
    length after an encryption request."""
    for said in (WELCOME[:1], WELCOME[:3], WELCOME[:4], WELCOME[:-1]):
        found = exchange(cluster, said, last=True)
        assert (found.answer, found.said, found.exit_code) == (b"", INCOMPLETE, 0), said
    nothing = exchange(cluster, b"", last=True)
    assert (nothing.answer, nothing.said, nothing.exit_code) == (b"", [], 0)
    for request in (SSL_REQUEST, GSSENC_REQUEST):
        for said in (b"", WELCOME[:1], WELCOME[:3]):
            found = exchange(cluster, request, said, last=True)
            assert (found.answer, found.said, found.exit_code) == (b"N", [], 0), said
        found = exchange(cluster, request, WELCOME[:-1], last=True)
        assert (found.answer, found.said, found.exit_code) == (b"N", INCOMPLETE, 0)


@claim("CN-41 CN-42", source=SOURCE)
def test_encryption_is_refused_once_for_each_kind(cluster: Cluster) -> None:
    """On a Unix socket the server refuses SSL and GSSAPI encryption in either order. A second
    request of a kind is an unsupported protocol version."""
    for requests in (
        (SSL_REQUEST,),
        (GSSENC_REQUEST,),
        (SSL_REQUEST, GSSENC_REQUEST),
        (GSSENC_REQUEST, SSL_REQUEST),
    ):
        session = cluster.silent_client(wait_for_child=False)
        for request in requests:
            session.client.send_bytes(request)
            assert session.client.receive_byte() == b"N"
        session.client.send_bytes(WELCOME)
        assert session.receive_outcome() is Outcome.ADMITTED
        session.close()
        for again in requests:
            found = exchange(cluster, *requests, again)
            assert found.answer[: len(requests)] == b"N" * len(requests)
            code = struct.unpack_from("!HH", again, 4)
            assert found.error.sqlstate == "0A000"
            assert found.error.message.startswith(
                f"unsupported frontend protocol {code[0]}.{code[1]}: "
            )
            assert found.exit_code == 1


@claim("CN-41", source=SOURCE, needs=[Need.TCP])
@settings(listen_addresses="127.0.0.1")
def test_ssl_is_refused_while_it_is_off(cluster: Cluster) -> None:
    """With ssl off, the default, the server answers N over TCP too."""
    session = cluster.silent_client(tcp=True, wait_for_child=False)
    session.client.send_bytes(SSL_REQUEST)
    assert session.client.receive_byte() == b"N"
    session.client.send_bytes(WELCOME)
    assert session.receive_outcome() is Outcome.ADMITTED
    session.close()


@claim("CN-41 CN-42", source=SOURCE)
def test_unencrypted_bytes_after_an_encryption_request(cluster: Cluster) -> None:
    """Bytes in one packet with an encryption request are unencrypted: FATAL 08P01."""
    for request, name in ((SSL_REQUEST, "SSL"), (GSSENC_REQUEST, "GSSAPI encryption")):
        for more in (b"x", WELCOME):
            found = exchange(cluster, request + more)
            assert found.answer[:1] == b"N"
            assert found.error.sqlstate == "08P01"
            assert found.error.message == f"received unencrypted data after {name} request"
            assert "man-in-the-middle" in found.error.detail
            assert found.exit_code == 1


@claim("CN-43", source="backend_startup.c: ProcessSSLStartup()", since=17)
def test_direct_tls_without_tls(cluster: Cluster) -> None:
    """The server disconnects a client that starts a TLS handshake, without answer or log line."""
    found = exchange(cluster, b"\x16\x03\x01\x00\x05hello")
    assert (found.answer, found.said, found.exit_code) == (b"", [], 0)
    almost = exchange(cluster, b"\x17\x03\x01\x00\x05hello")
    assert (almost.answer, almost.said, almost.exit_code) == (b"", INVALID_LENGTH, 0)


@claim("CN-41 CN-43", source="backend_startup.c: ProcessSSLStartup()", since=17)
@settings(trace_connection_negotiation="on")
def test_negotiation_can_be_traced(cluster: Cluster) -> None:
    """trace_connection_negotiation logs each answer to an encryption request."""
    for request, logged in (
        (SSL_REQUEST, "SSLRequest rejected"),
        (GSSENC_REQUEST, "GSSENCRequest rejected"),
        (b"\x16\x03\x01\x00\x05hello", "direct SSL connection rejected"),
    ):
        assert exchange(cluster, request, last=True).said == [("LOG", logged)]


@claim("CN-46", source=SOURCE)
def test_major_protocol_versions(cluster: Cluster) -> None:
    """The server supports only major version 3. Others get an error, those below 3 in the old
    format."""
    newest = "3.2" if cluster.major >= 18 else "3.0"
    for major, minor in ((1, 0), (2, 0), (2, 9), (4, 0), (5, 3)):
        message = f"unsupported frontend protocol {major}.{minor}: server supports 3.0 to {newest}"
        found = exchange(cluster, packet(major << 16 | minor, b"user\0postgres\0\0"))
        assert (found.said, found.exit_code) == ([("FATAL", message)], 1)
        if major < 3:
            assert found.answer == f"EFATAL:  {message}\n\0".encode()
        else:
            assert (found.error.sqlstate, found.error.message) == ("0A000", message)


@claim("CN-46 CN-45", source="backend_startup.c: SendNegotiateProtocolVersion()")
def test_minor_protocol_versions(cluster: Cluster) -> None:
    """The server negotiates newer minor versions and unknown options, and admits other clients."""
    newest = PROTOCOL_3_2 if cluster.major >= 18 else PROTOCOL_3_0
    options = [{}, {"_pq_.one": "1"}, {"_pq_.one": "1", "_pq_.two": "2"}]
    for protocol in (PROTOCOL_3_0, PROTOCOL_3_0 + 1, PROTOCOL_3_2, PROTOCOL_3_2 + 1):
        for unknown in options:
            session = cluster.silent_client(wait_for_child=False)
            session.client.send_startup(POSTGRES | unknown, protocol)
            first = session.receive()
            assert first is not None
            if protocol <= newest and not unknown:
                assert first.tag is Tag.AUTHENTICATION
            else:
                said = first.tag, *struct.unpack_from("!ii", first.body), first.body[8:]
                # Until 17 the server names the newest version that it supports, which is 3.0.
                names = b"".join(name.encode() + b"\0" for name in unknown)
                expected = min(protocol, newest)
                assert said == (Tag.NEGOTIATE_PROTOCOL_VERSION, expected, len(unknown), names)
            assert session.receive_outcome() is Outcome.ADMITTED
            long_key = newest == PROTOCOL_3_2 and protocol >= PROTOCOL_3_2
            assert len(session.client.cancel_key) == (32 if long_key else 4)
            session.close()


@claim("CN-47", source=SOURCE)
def test_layout_of_a_startup_packet(cluster: Cluster) -> None:
    """A startup packet is pairs of name and value and a final zero byte, else FATAL 08P01."""
    user = b"user\0postgres\0"
    for body in (
        b"",
        b"user",
        b"user\0",
        user,
        user + b"\0\0",
        user + b"\0\0\0",
        user + b"database\0",
        user + b"xx",
    ):
        found = exchange(cluster, packet(PROTOCOL_3_0, body))
        assert (found.error.sqlstate, found.error.message) == ("08P01", LAYOUT), body
        assert found.exit_code == 1
    for body in (b"\0", b"database\0postgres\0\0", b"user\0\0\0"):
        found = exchange(cluster, packet(PROTOCOL_3_0, body))
        assert (found.error.sqlstate, found.error.message) == ("28000", NO_USER), body
        assert found.exit_code == 1


@claim("CN-47 CN-35 CN-39", source=SOURCE)
def test_names_in_a_startup_packet(cluster: Cluster) -> None:
    """The default database has the name of the user; the server cuts names to 63 bytes."""
    for packet_of_user in ({"user": "postgres"}, {"user": "postgres", "database": ""}):
        session = cluster.silent_client(wait_for_child=False)
        assert session.send_startup_packet(packet_of_user) is Outcome.ADMITTED
        assert session.child.title.startswith("postgres: postgres postgres [local]")
        session.close()
    for length in (1, 62, 63, 64, 70):
        cut = "n" * min(length, 63)
        refusal = cluster.refusal_of_new_client(user="n" * length)
        assert (refusal.sqlstate, refusal.message) == ("28000", f'role "{cut}" does not exist')
        refusal = cluster.refusal_of_new_client(database="n" * length)
        message = f'database "{cut}" does not exist'
        assert (refusal.sqlstate, refusal.message) == ("3D000", message)


@claim("CN-48 TI-21 CN-57", source=SOURCE, needs=[Need.WALSENDER])
def test_replication_parameter_makes_a_walsender(cluster: Cluster) -> None:
    """`replication` makes a walsender, with a database for `database`. Other values are refused."""
    database = "postgres " if cluster.major >= 16 else ""
    observer = cluster.session()
    for value, title in (
        ("true", "walsender postgres [local]"),
        ("1", "walsender postgres [local]"),
        ("on", "walsender postgres [local]"),
        ("database", f"walsender postgres {database}[local]"),
        ("false", "postgres postgres [local]"),
        ("0", "postgres postgres [local]"),
        ("off", "postgres postgres [local]"),
    ):
        with cluster.session(parameters={"replication": value}) as session:
            assert session.child.title.startswith(f"postgres: {title}"), value
            kind = "walsender" if title.startswith("walsender") else "client backend"
            asked = f"select backend_type from pg_stat_activity where pid = {session.backend_pid}"
            assert observer.query(asked) == [(kind,)], value
    with cluster.session(database="nowhere", parameters={"replication": "true"}) as session:
        assert session.child.title.startswith("postgres: walsender postgres [local]")
    refusal = cluster.attempt(parameters={"replication": "perhaps"}).refusal
    assert refusal is not None
    assert refusal.sqlstate == "22023"
    assert refusal.message == 'invalid value for parameter "replication": "perhaps"'
    assert refusal.hint == 'Valid values are: "false", 0, "true", 1, "database".'
