"""The level that each message of the log has."""

import pytest

from pglife_conformance.observation.levels import wrong_levels
from pglife_conformance.observation.log import LogRecord

# Each row: the right levels, a message. No level is right for what is never said, and every level
# for what is unknown, in the last row.
MESSAGES = [
    (["LOG"], "database system is ready to accept connections"),
    (["DEBUG"], "updating PMState from PM_INIT to PM_STARTUP"),
    (["LOG", "NOTICE"], "database system was shut down at 2026-11-22 17:00:00 UTC"),
    (["ERROR", "FATAL"], "terminating connection due to administrator command"),
    ([], "process 42 taking over ProcSignal slot 7, but it's not empty"),
    (["LOG"], 'listening on Unix socket "/tmp/.s.PGSQL.5432"'),
    (["LOG", "DEBUG", "NOTICE", "WARNING", "ERROR", "FATAL", "PANIC"], "something of an extension"),
]
LEVELS = MESSAGES[-1][0]


@pytest.mark.parametrize(("right", "message"), MESSAGES)
def test_a_known_message_has_its_level(right: list[str], message: str) -> None:
    records = [LogRecord(at, 42, level, message) for at, level in enumerate(LEVELS)]
    assert [r.level for r in wrong_levels(records)] == [x for x in LEVELS if x not in right]


def test_a_line_that_elog_did_not_write_has_no_level() -> None:
    assert wrong_levels([LogRecord(0, None, "", "shutting down")]) == []
