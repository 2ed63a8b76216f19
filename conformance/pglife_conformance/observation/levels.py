"""The level that each message of the log has: LOG, FATAL, ..., as PostgreSQL writes it.

Begin with   of_wrong_level().
Owns         the reading of levels.tsv.
Leaves out   whether a message comes at all, and from which debug level on (scenarios).
Source       the ereport() and elog() calls of the modules named in the rules, versions 15 to 18.

Two levels in one row: until 17 a session's end by a signal is told at DEBUG2 too (postmaster.c:
CleanupBackend()), a single-user server has no postmaster and says NOTICE where another says
LOG (xlog.c: ShutdownXLOG()), and the leader of a parallel query repeats a worker's FATAL as its
own ERROR (access/transam/parallel.c: HandleParallelMessage()). NEVER stands by what a server says
that has met with a state that cannot be.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Iterable
from importlib import resources

from pglife_conformance.observation.log import LogRecord


@functools.cache
def _patterns() -> dict[str, re.Pattern[str]]:
    """By level the messages that have it; under `` all that are known."""
    known: dict[str, list[str]] = {"": []}
    table = resources.files(__package__).joinpath("levels.tsv").read_text(encoding="utf-8")
    _, *rows = csv.reader(table.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    for levels, message in rows:
        for level in ("", *levels.split("|")):
            known.setdefault(level, []).append(message)
    return {level: re.compile("|".join(texts), re.DOTALL) for level, texts in known.items()}


def of_wrong_level(records: Iterable[LogRecord]) -> list[LogRecord]:
    """The records whose message is known and has another level; in the order given."""
    patterns = _patterns()
    wrong = []
    for record in records:
        own = patterns.get(record.level)
        if record.pid == 0 or (own is not None and own.fullmatch(record.message)):
            continue
        if patterns[""].fullmatch(record.message):
            wrong.append(record)
    return wrong
