"""The level of each log message (LOG, FATAL, ...), as PostgreSQL writes it.

Begin with wrong_levels(); the table is levels.tsv. A row has two levels where PostgreSQL has two:
until 17 the death of a session by a signal is logged at DEBUG2 too (postmaster.c:
CleanupBackend()); a single-user server says NOTICE where another says LOG (xlog.c:
ShutdownXLOG()); the leader of a parallel query repeats a worker's FATAL as its own ERROR
(access/transam/parallel.c: HandleParallelMessage()). NEVER marks messages about states that cannot
occur.

Source: the ereport() and elog() calls of the modules that the rules name, versions 15 to 18.
"""

import csv
import functools
import re
from collections import defaultdict
from collections.abc import Iterable
from importlib import resources
from typing import NamedTuple

from pglife_conformance.observation.log import LogRecord

_BEGINNING = 3
"""Rows are looked up by this many letters: most messages of a log match no row."""
_LITERAL = re.compile(r"[\w \"]*(?![?*])")


class _Row(NamedTuple):
    levels: frozenset[str]
    message: re.Pattern[str]


@functools.cache
def _rows() -> dict[str, list[_Row]]:
    """The table by how a message begins; the key "" has the rows that may begin in several ways."""
    found: dict[str, list[_Row]] = defaultdict(list)
    table = resources.files(__package__).joinpath("levels.tsv").read_text(encoding="utf-8")
    _, *rows = csv.reader(table.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    for levels, message in rows:
        literal = _LITERAL.match(message)
        begins = literal[0][:_BEGINNING] if literal and len(literal[0]) >= _BEGINNING else ""
        row = _Row(frozenset(levels.split("|")), re.compile(message, re.DOTALL))
        found[begins].append(row)
    return dict(found)


def wrong_levels(records: Iterable[LogRecord]) -> list[LogRecord]:
    """The records whose message is known and has another level; in the order given."""
    rows = _rows()
    anyhow = rows.get("", [])
    wrong = []
    for record in records:
        if record.pid is None:
            continue
        message = record.message
        allowed = [
            row.levels
            for row in (*rows.get(message[:_BEGINNING], ()), *anyhow)
            if row.message.fullmatch(message)
        ]
        if allowed and not any(record.level in levels for levels in allowed):
            wrong.append(record)
    return wrong
