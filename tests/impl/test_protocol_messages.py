"""Messages: encoding, decoding, and splitting of the byte stream."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire import parse_report

from pglife_impl.protocol import Report, Severity, SqlError, SqlState
from pglife_impl.protocol import backend as out
from pglife_impl.protocol.frontend import (
    Bind,
    Close,
    CopyMessage,
    Describe,
    Execute,
    Flush,
    Frame,
    FrameReader,
    FunctionCall,
    InvalidLength,
    InvalidMessageType,
    Message,
    Parse,
    Password,
    Query,
    Sync,
    Target,
    Terminate,
    decode,
    encode,
)

TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=30)
DATA = st.binary(max_size=40)
FORMATS = st.lists(st.integers(0, 1), max_size=3).map(tuple)


@st.composite
def binds(draw: st.DrawFn) -> Bind:
    values = tuple(draw(st.lists(st.none() | DATA, max_size=4)))
    formats = tuple(draw(st.sampled_from([0, 1])) for _ in values)
    return Bind(draw(TEXT), draw(TEXT), draw(st.sampled_from([(), formats])), values, draw(FORMATS))


MESSAGES = st.one_of(
    st.builds(Query, TEXT),
    st.builds(Parse, TEXT, TEXT, st.lists(st.integers(0, 2**32 - 1), max_size=3).map(tuple)),
    binds(),
    st.builds(Describe, st.sampled_from(Target), TEXT),
    st.builds(Close, st.sampled_from(Target), TEXT),
    st.builds(Execute, TEXT, st.integers(0, 2**31 - 1)),
    st.just(Sync()),
    st.just(Flush()),
    st.just(Terminate()),
    st.builds(Password, DATA),
    st.builds(FunctionCall, DATA),
    st.builds(CopyMessage, st.sampled_from([b"d", b"c", b"f"]), DATA),
)


def read(pieces: list[bytes]) -> list[Message]:
    reader = FrameReader(authenticating=True)
    messages = []
    for piece in pieces:
        reader.feed(piece)
        while (frame := reader.next_frame()) is not None:
            messages.append(decode(frame))
    reader.feed(encode(Sync()))
    assert reader.next_frame() == Frame(b"S", b"")  # no partial frame was left
    return messages


@given(st.lists(MESSAGES, max_size=5), st.lists(st.integers(1, 20), min_size=1, max_size=40))
def test_the_stream_may_arrive_in_any_pieces(messages: list[Message], lengths: list[int]) -> None:
    """Every split of the bytes gives the same messages."""
    stream = b"".join(encode(message) for message in messages)
    pieces, at = [], 0
    for length in lengths:
        pieces.append(stream[at : at + length])
        at += length
    pieces.append(stream[at:])
    assert read(pieces) == messages


@given(MESSAGES, st.data())
def test_a_truncated_body_is_a_protocol_violation(message: Message, data: st.DataObject) -> None:
    """The frame is whole and its body is not: ERROR 08P01, and the next frame is read."""
    whole = encode(message)
    body = whole[5:]
    cut = body[: data.draw(st.integers(0, len(body)))]
    outcome: object
    try:
        outcome = decode(Frame(whole[:1], cut))
    except SqlError as problem:
        outcome = problem.report.sqlstate
    refusals = (SqlState.PROTOCOL_VIOLATION, SqlState.CHARACTER_NOT_IN_REPERTOIRE)
    assert isinstance(outcome, Message) or outcome in refusals


@given(st.binary(max_size=60))
def test_arbitrary_bytes_do_not_break_the_reader(data: bytes) -> None:
    """They are messages, an incomplete message, or one of three errors."""
    reader = FrameReader()
    reader.feed(data)
    consumed = 0
    try:
        while (frame := reader.next_frame()) is not None:
            consumed += len(frame.body) + 5
            assert isinstance(decode(frame), Message)
    except (InvalidLength, InvalidMessageType, SqlError):
        assert consumed <= len(data)
    else:
        rest = data[consumed:]  # the beginning of one frame
        assert len(rest) < 5 or len(rest) <= struct.unpack_from("!i", rest, 1)[0]


@pytest.mark.parametrize("code", [b"y", b"\0", b"p"])
def test_an_unknown_type_byte_is_refused_before_its_length(code: bytes) -> None:
    """FATAL 08P01 (SE-47); a password is unknown after authentication."""
    reader = FrameReader()
    reader.feed(code)
    with pytest.raises(InvalidMessageType, match=f"invalid frontend message type {code[0]}"):
        reader.next_frame()


@pytest.mark.parametrize(
    ("code", "length"), [(b"Q", 3), (b"Q", -1), (b"S", 10_001), (b"Q", 0x7FFF_FFFF)]
)
def test_an_invalid_length_is_an_error(code: bytes, length: int) -> None:
    """The stream cannot be read any further (pqcomm.c: pq_getmessage())."""
    reader = FrameReader()
    reader.feed(code + struct.pack("!i", length))
    with pytest.raises(InvalidLength):
        reader.next_frame()


REPORTS = st.builds(
    Report,
    st.sampled_from([Severity.ERROR, Severity.FATAL, Severity.WARNING]),
    st.sampled_from([state.value for state in SqlState]),
    TEXT.filter(bool),
    TEXT,
    TEXT,
    st.none() | st.integers(1, 10_000),
    TEXT,
)


@given(REPORTS)
def test_a_report_survives_encoding(report: Report) -> None:
    """Fields S, V, C and M are always sent, the others only if they are not empty."""
    for code, written in ((b"E", out.error_response(report)), (b"N", out.notice_response(report))):
        assert written[:1] == code
        assert struct.unpack("!i", written[1:5])[0] == len(written) - 1
        assert parse_report(written[5:]) == report
    codes = [part[:1] for part in out.error_response(report)[5:].split(b"\0") if part]
    assert codes[:4] == [b"S", b"V", b"C", b"M"]
    bare = report.replace(detail="", hint="", position=None, where="")
    assert len(out.error_response(bare)[5:].rstrip(b"\0").split(b"\0")) == 4


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (out.authentication_ok(), b"R\0\0\0\x08\0\0\0\0"),
        (out.ready_for_query(b"T"), b"Z\0\0\0\x05T"),
        (out.ready_for_query(out.TransactionStatus.FAILED), b"Z\0\0\0\x05E"),
        (out.parameter_status("a", "b"), b"S\0\0\0\x08a\0b\0"),
        (out.backend_key_data(7, b"keys"), b"K\0\0\0\x0c\0\0\0\x07keys"),
        (
            out.negotiate_protocol_version((3, 9), ["_pq_.x"]),
            b"v\0\0\0\x13\0\3\0\2\0\0\0\1_pq_.x\0",
        ),
        (out.data_row([b"1", None]), b"D\0\0\0\x0f\0\2\0\0\0\x011\xff\xff\xff\xff"),
        (out.command_complete("SELECT 1"), b"C\0\0\0\x0dSELECT 1\0"),
        (out.empty_query_response(), b"I\0\0\0\4"),
        (out.parameter_description([23]), b"t\0\0\0\x0a\0\1\0\0\0\x17"),
        (
            out.row_description([out.Column("a", 23, 4)]),
            b"T\0\0\0\x1a\0\1a\0\0\0\0\0\0\0\0\0\0\x17\0\4\xff\xff\xff\xff\0\0",
        ),
    ],
)
def test_backend_messages_byte_for_byte(written: bytes, expected: bytes) -> None:
    """The bytes are those observed from 18.6."""
    assert written == expected
