"""The signals that a postmaster says it sends.

Begin with   sent_signals().
Owns         the reading of these lines.
Leaves out   signals seen where they arrive (pending.py), who ought to be told what (scenarios).
Source       postmaster.c: signal_child() of 18, at log_min_messages = debug3.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass

from pglife_conformance.observation.log import LogRecord

_SENDING = re.compile(r"sending signal (\d+)/(SIG\w+) to (.+) process with pid (\d+)")


@dataclass(frozen=True)
class Sent:
    """A signal that the postmaster says it sends."""

    signal: signal.Signals
    to: str
    """The backend type, in the words of pg_stat_activity."""
    pid: int


def sent_signals(records: Iterable[LogRecord], postmaster: int) -> list[Sent]:
    """What the postmaster says it sent, in order."""
    ours = (record for record in records if record.pid == postmaster)
    found = (_SENDING.fullmatch(record.message) for record in ours)
    return [
        Sent(signal.Signals[line[2]], line[3], int(line[4])) for line in found if line is not None
    ]
