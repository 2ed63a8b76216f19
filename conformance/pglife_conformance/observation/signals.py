"""Signals, seen from outside: pending, ignored and caught ones of a process; signals sent.

Begin with pending_signals() for a stopped child, sent_signals() for a log at debug3. A stopped
process keeps every signal that it was sent and does not ignore, so its pending set shows exactly
what it was sent. An ignored signal leaves no trace there.

Source: proc(5); PR-26, PR-28; postmaster.c: signal_child() of 18 for the log lines.
"""

import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass

from pglife_conformance.base.ids import Pid
from pglife_conformance.observation.log import LogRecord
from pglife_conformance.observation.processes import Child, read_stat

POSTMASTER_SIGNALS = frozenset(
    {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGABRT, signal.SIGTERM, signal.SIGUSR2}
)
"""Signals by which the postmaster controls a child.

Without SIGUSR1, which children also send each other, and SIGKILL, which is never pending.
"""

_SENDING = re.compile(r"sending signal \d+/(SIG\w+) to (.+) process with pid (\d+)")


@dataclass(frozen=True)
class SignalState:
    """The signal sets of one process."""

    pending: frozenset[signal.Signals]
    blocked: frozenset[signal.Signals]
    ignored: frozenset[signal.Signals]
    caught: frozenset[signal.Signals]


@dataclass(frozen=True)
class Sent:
    """A signal that the postmaster has logged that it sends."""

    signal: signal.Signals
    to: str
    """The backend type, in the words of pg_stat_activity."""
    pid: Pid


def read_signals(pid: Pid) -> SignalState | None:
    """The signal sets of a process, or None if there is no process with this pid."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            lines = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    except OSError:
        return None
    if "SigPnd" not in lines:
        return None
    return SignalState(
        pending=_signals(lines["SigPnd"]) | _signals(lines["ShdPnd"]),
        blocked=_signals(lines["SigBlk"]),
        ignored=_signals(lines["SigIgn"]),
        caught=_signals(lines["SigCgt"]),
    )


def pending_signals(child: Child) -> frozenset[signal.Signals]:
    """The POSTMASTER_SIGNALS that are pending in a stopped child; empty if it has exited."""
    stat = read_stat(child.pid)
    if stat is None or stat.start_time != child.start_time:
        return frozenset()
    found = read_signals(child.pid)
    return found.pending & POSTMASTER_SIGNALS if found is not None else frozenset()


def sent_signals(records: Iterable[LogRecord], postmaster: Pid) -> list[Sent]:
    """The signals that the postmaster has logged, in order (18 at debug3)."""
    ours = (record for record in records if record.pid == postmaster)
    found = (_SENDING.fullmatch(record.message) for record in ours)
    return [
        Sent(signal.Signals[line[1]], line[2], Pid(int(line[3])))
        for line in found
        if line is not None
    ]


def _signals(mask: str) -> frozenset[signal.Signals]:
    bits = int(mask, 16)
    return frozenset(number for number in signal.Signals if bits >> (number - 1) & 1)


def has_pending(pid: Pid, number: signal.Signals) -> bool:
    """Whether a process, stopped or not, was sent this signal and has not taken it."""
    found = read_signals(pid)
    return found is not None and number in found.pending


def was_woken(pid: Pid) -> bool:
    """Whether the latch of a process that was stopped in its sleep has been set."""
    return has_pending(pid, signal.SIGURG)
