"""The first packets: what they are read as, and what a client hears about bad ones."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire import parse_report

from pglife_impl.protocol import (
    Replication,
    Severity,
    StartupKind,
    cancel_key_length,
    incomplete_startup,
    parse_bool,
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
def test_a_bad_packet_is_refused_with_the_words_of_postgresql(name: str) -> None:
    """CN-41, CN-46, CN-47, CN-48."""
    data, sqlstate, beginning = REFUSED[name]
    found = parse_startup(data)
    assert found.kind is StartupKind.BAD
    assert found.error is not None
    assert found.error.severity is Severity.FATAL
    assert found.error.sqlstate == sqlstate
    assert found.error.message.startswith(beginning)
    told = startup_refusal(found)
    assert told[:1] == (b"N" if name.startswith("bytes before") else b"E")
    report = told.removeprefix(b"N")[HEADER_LENGTH:]
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
def test_some_refusals_reach_only_the_log(name: str) -> None:
    """CN-40, CN-44."""
    data, message = ONLY_LOGGED[name]
    found = parse_startup(data)
    assert found.error is not None
    assert (found.error.severity, found.error.message) == (Severity.LOG, message)
    assert startup_refusal(found) == b""


def test_the_longest_packet_is_still_waited_for() -> None:
    """CN-40: 10000 bytes of body are allowed."""
    assert parse_startup(struct.pack("!I", 10004)).kind is StartupKind.NEED_MORE


def test_an_old_client_is_answered_in_its_own_form() -> None:
    """CN-46: protocol 2 knows no fields."""
    told = startup_refusal(parse_startup(packet(2, 0, bytes(20))))
    assert told == b"EFATAL:  unsupported frontend protocol 2.0: server supports 3.0 to 3.2\n\0"


def test_encryption_may_be_asked_for_once_each() -> None:
    """CN-41, CN-42: a second request is an unsupported protocol."""
    assert parse_startup(SSL).kind is StartupKind.SSL_REQUEST
    assert parse_startup(GSS, ssl_done=True).kind is StartupKind.GSSENC_REQUEST
    again = parse_startup(SSL, ssl_done=True)
    assert again.error is not None
    assert again.error.message.startswith("unsupported frontend protocol 1234.5679")


def test_direct_tls_is_told_by_its_first_byte() -> None:
    """CN-43."""
    assert parse_startup(b"\x16").kind is StartupKind.DIRECT_TLS


def test_defaults_of_a_startup_packet() -> None:
    """CN-47: the database is the user's name; names are cut to 63 bytes."""
    long = "n" * 70
    found = parse_startup(startup("user", long, "application_name", "x"))
    assert found.kind is StartupKind.STARTUP
    assert found.parameters == {"user": "n" * 63, "database": "n" * 63, "application_name": "x"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("database", Replication.DATABASE),
        ("on", Replication.PHYSICAL),
        ("f", Replication.NONE),
    ],
)
def test_replication_makes_a_walsender(value: str, expected: Replication) -> None:
    """CN-48: without a database unless one is asked for."""
    found = parse_startup(startup("user", "a", "replication", value))
    assert found.replication is expected
    assert found.parameters["database"] == ("" if expected is Replication.PHYSICAL else "a")


@pytest.mark.parametrize(
    ("minor", "options", "negotiates"),
    [(0, (), False), (2, (), False), (3, (), True), (0, ("_pq_.x", "1"), True)],
)
def test_what_must_be_negotiated(minor: int, options: tuple[str, ...], negotiates: bool) -> None:
    """CN-46: a newer minor version, or an option that nobody knows."""
    found = parse_startup(startup("user", "a", *options, minor=minor))
    assert found.kind is StartupKind.STARTUP
    assert found.needs_negotiation is negotiates
    assert found.unknown_options == options[:1]


@pytest.mark.parametrize(("minor", "length"), [(0, 4), (1, 4), (2, 32), (9, 32)])
def test_the_key_is_as_long_as_the_protocol_wants(minor: int, length: int) -> None:
    """CN-45."""
    assert cancel_key_length((3, minor)) == length


@given(st.integers(0, 2**32 - 1), st.binary(min_size=1, max_size=256))
def test_every_cancel_request_is_read(pid: int, key: bytes) -> None:
    """CN-44: keys of 1 to 256 bytes."""
    found = parse_startup(packet(1234, 5678, struct.pack("!I", pid) + key))
    assert (found.kind, found.cancel_pid, found.cancel_key) == (StartupKind.CANCEL, pid, key)


TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=20)


@given(st.dictionaries(TEXT, TEXT, max_size=4), st.integers(0, 2))
def test_a_startup_packet_is_read_whole_or_not_at_all(settings: dict[str, str], minor: int) -> None:
    """Every beginning of a packet asks for more; the whole of it gives what was put in."""
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
def test_no_bytes_whatever_break_the_reader(data: bytes, ssl_done: bool, gss_done: bool) -> None:
    """Whatever comes has a kind, and what is refused has a reason."""
    found = parse_startup(data, ssl_done=ssl_done, gss_done=gss_done)
    assert (found.kind is StartupKind.BAD) == (found.error is not None)


@pytest.mark.parametrize(
    ("buffer", "ssl_done", "logged"),
    [(b"", False, False), (b"\0", False, True), (b"\0", True, False), (b"\0\0\0\x20", True, True)],
)
def test_who_hangs_up_early_is_logged_only_if_it_began(
    buffer: bytes, ssl_done: bool, logged: bool
) -> None:
    """CN-40: no byte at all is silence, so is part of a length word after negotiation."""
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
def test_booleans_may_be_cut_short_while_unmistakable(text: str, value: bool | None) -> None:
    """utils/adt/bool.c: parse_bool()."""
    assert parse_bool(text) is value
