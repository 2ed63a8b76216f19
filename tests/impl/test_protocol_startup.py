"""Startup, encryption and cancel packets, and the refusals of invalid ones."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire import parse_report

from pglife_impl.base.texts import parse_bool
from pglife_impl.protocol import (
    Replication,
    Severity,
    StartupKind,
    cancel_key_length,
    incomplete_startup,
    parse_startup,
    startup_refusal,
)


def packet(major: int, minor: int, body: bytes = b"") -> bytes:
    whole = struct.pack("!HH", major, minor) + body
    return struct.pack("!I", len(whole) + 4) + whole


def startup(*pairs: str, minor: int = 0) -> bytes:
    return packet(3, minor, b"".join(text.encode() + b"\0" for text in pairs) + b"\0")


HEADER_LENGTH = 5
SSL = packet(1234, 5679)
GSS = packet(1234, 5680)

REFUSED = {
    "major 4": (packet(4, 0, b"user\0a\0\0"), "0A000", "unsupported frontend protocol 4.0"),
    "no user": (packet(3, 0, b"\0"), "28000", "no PostgreSQL user name specified"),
    "empty user": (packet(3, 0, b"user\0\0\0"), "28000", "no PostgreSQL user name specified"),
    "no terminator": (packet(3, 0, b"user\0a\0"), "08P01", "invalid startup packet layout"),
    "no value": (packet(3, 0, b"user\0"), "08P01", "invalid startup packet layout"),
    "bytes too many": (packet(3, 0, b"user\0a\0\0x"), "08P01", "invalid startup packet layout"),
    "replication": (startup("user", "a", "replication", "maybe"), "22023", "invalid value for"),
    "bytes before TLS": (SSL + b"x", "08P01", "received unencrypted data after SSL request"),
    "bytes before GSS": (GSS + b"x", "08P01", "received unencrypted data after GSSAPI"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_invalid_packet_is_refused_with_postgresqls_message(name: str) -> None:
    """FATAL with SQLSTATE and text (CN-41, CN-46, CN-47, CN-48)."""
    data, sqlstate, beginning = REFUSED[name]
    found = parse_startup(data)
    assert found.kind is StartupKind.BAD
    assert found.error is not None
    assert found.error.severity is Severity.FATAL
    assert found.error.sqlstate == sqlstate
    assert found.error.message.startswith(beginning)
    answer = startup_refusal(found)
    assert answer[:1] == (b"N" if name.startswith("bytes before") else b"E")
    report = answer.removeprefix(b"N")[HEADER_LENGTH:]
    assert parse_report(report) == found.error


ONLY_LOGGED = {
    "too short": (struct.pack("!I", 7), "invalid length of startup packet"),
    "too long": (struct.pack("!I", 10005), "invalid length of startup packet"),
    "cancel without pid": (packet(1234, 5678, b"ab"), "invalid length of cancel request packet"),
    "cancel without key": (
        packet(1234, 5678, struct.pack("!I", 5)),
        "invalid length of cancel key in cancel request packet",
    ),
    "cancel key too long": (
        packet(1234, 5678, struct.pack("!I", 5) + bytes(257)),
        "invalid length of cancel key in cancel request packet",
    ),
}


@pytest.mark.parametrize("name", ONLY_LOGGED)
def test_some_refusals_are_only_logged(name: str) -> None:
    """The client gets no answer (CN-40, CN-44)."""
    data, message = ONLY_LOGGED[name]
    found = parse_startup(data)
    assert found.error is not None
    assert (found.error.severity, found.error.message) == (Severity.LOG, message)
    assert startup_refusal(found) == b""


def test_a_packet_of_the_greatest_length_is_accepted() -> None:
    """10000 bytes of body are allowed (CN-40)."""
    assert parse_startup(struct.pack("!I", 10004)).kind is StartupKind.NEED_MORE


def test_a_protocol_2_client_gets_a_protocol_2_error() -> None:
    """The message has no length and no fields (CN-46)."""
    answer = startup_refusal(parse_startup(packet(2, 0, bytes(20))))
    assert answer == b"EFATAL:  unsupported frontend protocol 2.0: server supports 3.0 to 3.2\n\0"


def test_each_encryption_request_may_come_once() -> None:
    """A second one is an unsupported protocol version (CN-41, CN-42)."""
    assert parse_startup(SSL).kind is StartupKind.SSL_REQUEST
    assert parse_startup(GSS, ssl_done=True).kind is StartupKind.GSSENC_REQUEST
    again = parse_startup(SSL, ssl_done=True)
    assert again.error is not None
    assert again.error.message.startswith("unsupported frontend protocol 1234.5679")


def test_direct_tls_is_recognized_by_its_first_byte() -> None:
    """0x16 begins a TLS handshake (CN-43)."""
    assert parse_startup(b"\x16").kind is StartupKind.DIRECT_TLS


def test_defaults_of_a_startup_packet() -> None:
    """The database defaults to the user; names are truncated to 63 bytes (CN-47)."""
    long = "n" * 70
    found = parse_startup(startup("user", long, "application_name", "x"))
    assert found.kind is StartupKind.STARTUP
    assert found.parameters == {"user": "n" * 63, "database": "n" * 63, "application_name": "x"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [("database", Replication.DATABASE), ("on", Replication.PHYSICAL), ("f", Replication.NONE)],
)
def test_the_replication_parameter_selects_a_walsender(value: str, expected: Replication) -> None:
    """A physical walsender has no database (CN-48)."""
    found = parse_startup(startup("user", "a", "replication", value))
    assert found.replication is expected
    assert found.parameters["database"] == ("" if expected is Replication.PHYSICAL else "a")


@pytest.mark.parametrize(
    ("minor", "options", "negotiates"),
    [(0, (), False), (2, (), False), (3, (), True), (0, ("_pq_.x", "1"), True)],
)
def test_newer_versions_and_unknown_options_are_negotiated(
    minor: int, options: tuple[str, ...], negotiates: bool
) -> None:
    """A known version without unknown options needs no negotiation (CN-46)."""
    found = parse_startup(startup("user", "a", *options, minor=minor))
    assert found.kind is StartupKind.STARTUP
    assert found.needs_negotiation is negotiates
    assert found.unknown_options == options[:1]


@pytest.mark.parametrize(("minor", "length"), [(0, 4), (1, 4), (2, 32), (9, 32)])
def test_the_cancel_key_length_depends_on_the_protocol(minor: int, length: int) -> None:
    """4 bytes up to protocol 3.1, 32 from 3.2 on (CN-45)."""
    assert cancel_key_length((3, minor)) == length


@given(st.integers(0, 2**32 - 1), st.binary(min_size=1, max_size=256))
def test_cancel_requests_are_decoded(pid: int, key: bytes) -> None:
    """Keys have 1 to 256 bytes (CN-44)."""
    found = parse_startup(packet(1234, 5678, struct.pack("!I", pid) + key))
    assert (found.kind, found.cancel_pid, found.cancel_key) == (StartupKind.CANCEL, pid, key)


TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=20)


@given(st.dictionaries(TEXT, TEXT, max_size=4), st.integers(0, 2))
def test_a_startup_packet_is_read_whole_or_not_at_all(settings: dict[str, str], minor: int) -> None:
    """Every proper prefix needs more bytes; the whole packet gives back its parameters."""
    settings = {k: v for k, v in settings.items() if not k.startswith("_pq_.")}
    settings |= {"user": "u", "database": "d", "replication": "off"}
    data = startup(*(text for pair in settings.items() for text in pair), minor=minor)
    for length in range(len(data)):
        assert parse_startup(data[:length]).kind is StartupKind.NEED_MORE
    found = parse_startup(data)
    assert found.kind is StartupKind.STARTUP
    assert found.parameters == settings
    assert found.consumed == len(data)
    assert found.protocol == (3, minor)


@given(st.binary(max_size=64), st.booleans(), st.booleans())
def test_arbitrary_bytes_do_not_break_the_parser(
    data: bytes, ssl_done: bool, gss_done: bool
) -> None:
    """Every input has a kind, and an error exactly if it is BAD."""
    found = parse_startup(data, ssl_done=ssl_done, gss_done=gss_done)
    assert (found.kind is StartupKind.BAD) == (found.error is not None)


@pytest.mark.parametrize(
    ("buffer", "ssl_done", "logged"),
    [(b"", False, False), (b"\0", False, True), (b"\0", True, False), (b"\0\0\0\x20", True, True)],
)
def test_an_incomplete_startup_packet_is_logged(
    buffer: bytes, ssl_done: bool, logged: bool
) -> None:
    """Not logged: no byte at all, and part of a length word after negotiation (CN-40)."""
    report = incomplete_startup(buffer, ssl_done=ssl_done, gss_done=False)
    assert (report is not None) == logged


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", True),
        ("T", True),
        ("ye", True),
        ("1", True),
        ("of", False),
        ("no", False),
        ("0", False),
        ("o", None),
        ("", None),
        ("2", None),
        ("onn", None),
    ],
)
def test_booleans_may_be_abbreviated_unambiguously(text: str, value: bool | None) -> None:
    """As in utils/adt/bool.c: parse_bool()."""
    assert parse_bool(text) is value
