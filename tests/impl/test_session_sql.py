"""Statements and their answers, compared with PostgreSQL 18.6.

The transcript `testdata/sql_answers.txt` was recorded from 18.6, each block in its own session.
Never edit it by hand; record it again from a real server.
"""

import struct
from pathlib import Path

import pytest
from session_fakes import converse
from wire import parse_report

from pglife_impl.session.queries.parser import parse_statements

TRANSCRIPT = Path(__file__).parent / "testdata" / "sql_answers.txt"
BLOCKS = TRANSCRIPT.read_text(encoding="utf-8").split("\n====\n")


def entries(block: str) -> list[tuple[str, list[str]]]:
    """Return the queries of a block with their answers."""
    found: list[tuple[str, list[str]]] = []
    for paragraph in block.strip("\n").split("\n\n"):
        lines = [line for line in paragraph.split("\n") if not line.startswith("# ")]
        assert lines[1] == "----"
        found.append((lines[0], lines[2:]))
    return found


def columns(body: bytes) -> str:
    shown = []
    at = 2
    for _ in range(struct.unpack_from("!h", body)[0]):
        end = body.index(b"\0", at)
        shown.append(f"{body[at:end].decode()}:{struct.unpack_from('!ihi', body, end + 1)[2]}")
        at = end + 19
    return f"({', '.join(shown)})"


def cells(body: bytes) -> str:
    shown = []
    at = 2
    for _ in range(struct.unpack_from("!h", body)[0]):
        length = struct.unpack_from("!i", body, at)[0]
        at += 4
        shown.append("null" if length < 0 else body[at : at + length].decode())
        at += max(length, 0)
    return f"| {' | '.join(shown)}".rstrip()


def answers(messages: list[tuple[str, bytes]]) -> list[list[str]]:
    """Return the messages between ReadyForQuery messages in the transcript's format."""
    found: list[list[str]] = [[]]
    for code, body in messages:
        match code:
            case "E" | "N":
                report = parse_report(body)
                found[-1].append(f"{report.severity} {report.sqlstate} {report.message}")
                found[-1] += [f"  DETAIL {report.detail}"] if report.detail else []
                found[-1] += [f"  HINT {report.hint}"] if report.hint else []
            case "T":
                found[-1].append(columns(body))
            case "D":
                found[-1].append(cells(body))
            case "C":
                found[-1].append(body[:-1].decode())
            case "I":
                found[-1].append("EMPTY")
            case "S":
                found[-1].append("STATUS " + body[:-1].decode().replace("\0", "="))
            case "Z":
                found[-1] += [] if body == b"I" else [f"[{body.decode()}]"]
                found.append([])
    return found


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.strip().split("\n")[0][2:])
def test_statements_are_answered_as_in_18_6(block: str) -> None:
    """Columns, types, rows, tags, errors with detail and hint, and status are the same."""
    expected_entries = entries(block)
    result = converse(*(query for query, _ in expected_entries))
    given = answers(result.messages)[1:]
    assert result.code == 0
    for (query, expected), answer in zip(expected_entries, given, strict=False):
        assert (query, answer) == (query, expected)
    assert len(given) == len(expected_entries) + 1


@pytest.mark.parametrize(
    ("query", "position"),
    [
        ("select nope", 8),
        ("select * from nope", 15),
        ("select nope(1)", 8),
        ("select 1 + 'x'", 12),
        ("select 1 order by 3", 19),
        ("insert into t values (1)", 13),
        ("select count(pid), state from pg_stat_activity", 20),
        ("select pg_sleep('x')", 17),
    ],
)
def test_errors_have_their_position(query: str, position: int) -> None:
    """Field P counts characters from 1, as in 18.6."""
    result = converse(query)
    reports = [parse_report(body) for code, body in result.messages if code == "E"]
    assert [report.position for report in reports] == [position]


@pytest.mark.parametrize(
    "query",
    ["vacuum", "listen x", "select 1 union select 2", "with a as (select 1) select * from a"],
)
def test_an_unsupported_statement_fails_when_it_runs(query: str) -> None:
    """0A000 after the statements before it have run; 25P02 in a failed block."""
    result = converse(f"select 1; {query}", "begin; select 1/0", query)
    assert [report[1] for report in result.reports] == ["0A000", "22012", "25P02"]
    assert result.tags == ["SELECT 1", "BEGIN"]


def test_a_string_is_parsed_whole_before_it_runs() -> None:
    """With a syntax error at the end no statement runs."""
    assert converse("begin; selec").status == "II"
    assert len(parse_statements("select 1;; ;select 2;")) == 2
