"""Cutting the log into records."""

from pathlib import Path

import pytest

from pglife_conformance.observation.log import LogTail

HEAD = "2026-11-22 17:00:00.123 UTC [42] "


def lines(*parts: str) -> str:
    """Lines of a log, with the prefix where a part names a level."""
    return "".join(f"{part if part[0] == chr(9) else HEAD + part}\n" for part in parts)


# Each row: what is in the log, then (level, message, fields) of each record.
RECORDS = [
    (lines("LOG:  one"), [("LOG", "one", ())]),
    (lines("LOG:  one", "DEBUG:  two"), [("LOG", "one", ()), ("DEBUG", "two", ())]),
    (lines("FATAL:  no", "DETAIL:  why"), [("FATAL", "no", (("DETAIL", "why"),))]),
    (
        lines("ERROR:  a", "DETAIL:  b", "HINT:  c", "STATEMENT:  d"),
        [("ERROR", "a", (("DETAIL", "b"), ("HINT", "c"), ("STATEMENT", "d")))],
    ),
    (lines("LOG:  first", "\tsecond"), [("LOG", "first\nsecond", ())]),
    (lines("LOG:  a", "DETAIL:  b", "\tc"), [("LOG", "a", (("DETAIL", "b\nc"),))]),
    ("sh: not found\n" + lines("LOG:  x"), [("", "sh: not found", ()), ("LOG", "x", ())]),
]


@pytest.mark.parametrize(("text", "expected"), RECORDS)
def test_records(tmp_path: Path, text: str, expected: list[tuple[str, str, object]]) -> None:
    path = tmp_path / "log"
    path.write_text(text, encoding="utf-8")
    records = LogTail(path).read()
    assert [(record.level, record.message, record.fields) for record in records] == expected
    assert [record.index for record in records] == list(range(len(expected)))


def test_a_line_is_read_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "log"
    tail = LogTail(path)
    assert tail.read() == []
    path.write_text(HEAD + "LOG:  half", encoding="utf-8")
    assert tail.read() == []
    path.write_text(HEAD + "LOG:  half and half\n", encoding="utf-8")
    assert [record.message for record in tail.read()] == ["half and half"]
    assert tail.read() == []


def test_a_field_of_another_process_is_no_field(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(f"{HEAD}LOG:  a\n{HEAD.replace('42', '43')}DETAIL:  b\n", encoding="utf-8")
    records = LogTail(path).read()
    assert [(record.pid, record.level) for record in records] == [(42, "LOG"), (43, "")]


def test_more_than_one_file(tmp_path: Path) -> None:
    tail = LogTail(tmp_path / "stderr")
    tail.follow(tmp_path / "collected")
    (tmp_path / "stderr").write_text(HEAD + "LOG:  one\n", encoding="utf-8")
    (tmp_path / "collected").write_text(HEAD + "LOG:  two\n", encoding="utf-8")
    assert [record.message for record in tail.read()] == ["one", "two"]
