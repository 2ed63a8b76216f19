"""What a crash looks like from outside: the lines of a death, the cycle, who comes again.

Begin with   Before, then expect_crash_restart().
Owns         names of processes in log lines about deaths; the one complete judgement of a crash
             restart, used by every scenario that causes one.
Leaves out   causing them (cluster.py, pins.py).
Source       rules RP-02, RP-10 to RP-27, CR-01 to CR-25, SH-41; postmaster.c: HandleChildCrash(),
             LogChildExit(), PostmasterStateMachine().
"""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from pglife_conformance.base.deadlines import SIGKILL_CLOCK
from pglife_conformance.base.overload import is_overloaded
from pglife_conformance.cluster.cluster import READY_LINE, Cluster
from pglife_conformance.cluster.family import family_when_running
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.leftovers import sysv_segments_of
from pglife_conformance.observation.log import LogRecord
from pglife_conformance.observation.processes import Child

TERMINATING = "terminating any other active server processes"
REINITIALIZING = "all server processes terminated; reinitializing"
ABNORMAL = "abnormal database system shutdown"
SHUT_DOWN = "database system is shut down"
STARTUP_FAILED = "shutting down due to startup process failure"
SIGKILL_ROUND = "issuing SIGKILL to recalcitrant children"

DEAD_END = "dead-end client backend"
"""What 18 calls a dead-end child; its title does not tell it from any child before its packet."""
_DEAD_END_17 = "server process"

_NAMES: dict[Kind, str] = {
    Kind.STARTUP: "startup process",
    Kind.BACKGROUND_WRITER: "background writer process",
    Kind.CHECKPOINTER: "checkpointer process",
    Kind.WALWRITER: "WAL writer process",
    Kind.WALRECEIVER: "WAL receiver process",
    Kind.WALSUMMARIZER: "WAL summarizer process",
    Kind.AUTOVACUUM_LAUNCHER: "autovacuum launcher process",
    Kind.ARCHIVER: "archiver process",
    Kind.LOGGER: "system logger process",
    Kind.SLOTSYNC_WORKER: "slot sync worker process",
    Kind.IO_WORKER: "io worker",
    Kind.LOGICAL_REPLICATION_LAUNCHER: 'background worker "logical replication launcher"',
    Kind.PARALLEL_WORKER: 'background worker "parallel worker"',
    Kind.AUTOPREWARM_LEADER: 'background worker "autoprewarm leader"',
    Kind.AUTOPREWARM_WORKER: 'background worker "autoprewarm worker"',
}
_NAMES_18: dict[Kind, str] = {
    Kind.CLIENT_BACKEND: "client backend",
    Kind.UNKNOWN: "client backend",
    Kind.WALSENDER: "client backend",
    Kind.AUTOVACUUM_WORKER: "autovacuum worker",
}
_SERVER_PROCESS = "server process"

_TEXTS: dict[signal.Signals, str] = {
    signal.SIGKILL: "Killed",
    signal.SIGABRT: "Aborted",
    signal.SIGSEGV: "Segmentation fault",
    signal.SIGBUS: "Bus error",
    signal.SIGFPE: "Floating point exception",
    signal.SIGILL: "Illegal instruction",
    signal.SIGTRAP: "Trace/breakpoint trap",
}
_LAUNCHER_ENDED = re.compile(
    r'background worker "logical replication launcher" \(PID \d+\) exited with exit code 1'
)
_COMPLAINTS = frozenset({"LOG", "WARNING", "ERROR", "FATAL", "PANIC"})

_RECOVERING = [
    "database system was interrupted; last known up at",
    "database system was not properly shut down; automatic recovery in progress",
]
_CLEAN = ["database system was shut down at"]

_CYCLE = [
    ("PM_RUN", "PM_WAIT_BACKENDS"),
    ("PM_WAIT_BACKENDS", "PM_WAIT_DEAD_END"),
    ("PM_WAIT_DEAD_END", "PM_NO_CHILDREN"),
    ("PM_NO_CHILDREN", "PM_STARTUP"),
    ("PM_STARTUP", "PM_RECOVERY"),
    ("PM_RECOVERY", "PM_RUN"),
]
_SHORT_CUT = ("PM_STARTUP", "PM_RUN")
"""A postmaster that got no processor meanwhile reaps the startup process first (PG-21)."""


def name_in_log(cluster: Cluster, child: Child, *, dead_end: bool = False) -> str:
    """What the postmaster calls a child when it tells of its death (RP-10 to RP-27)."""
    major = cluster.target.version.major
    if dead_end:
        return DEAD_END if major >= 18 else _DEAD_END_17
    if child.kind in _NAMES:
        return _NAMES[child.kind]
    return _NAMES_18[child.kind] if major >= 18 else _SERVER_PROCESS


def killed_line(
    cluster: Cluster,
    child: Child,
    number: signal.Signals = signal.SIGKILL,
    *,
    dead_end: bool = False,
) -> str:
    """The line about a child that a signal ended (RP-02)."""
    name = name_in_log(cluster, child, dead_end=dead_end)
    return f"{name} (PID {child.pid}) was terminated by signal {int(number)}: {_TEXTS[number]}"


def exited_line(cluster: Cluster, child: Child, code: int, *, dead_end: bool = False) -> str:
    """The line about a child that ended by itself (RP-02)."""
    name = name_in_log(cluster, child, dead_end=dead_end)
    return f"{name} (PID {child.pid}) exited with exit code {code}"


def postmaster_records(cluster: Cluster, since: int = 0) -> list[LogRecord]:
    """What the postmaster itself has said at LOG and above."""
    cluster.watcher.look()
    pids = cluster.postmaster_pids
    return [
        record
        for record in cluster.watcher.records(since)
        if record.pid in pids and record.level in _COMPLAINTS
    ]


def postmaster_lines(
    cluster: Cluster, since: int = 0, *, launcher_aside: bool = False
) -> list[str]:
    """The same, only the messages.

    With `launcher_aside` without the line about the logical replication launcher's exit with 1,
    which every shutdown may bring sooner or later (SH-27).
    """
    lines = [record.message for record in postmaster_records(cluster, since)]
    if launcher_aside:
        return [line for line in lines if not _LAUNCHER_ENDED.fullmatch(line)]
    return lines


def expect_postmaster_lines(
    cluster: Cluster, expected: list[str], since: int, *, launcher_aside: bool = False
) -> None:
    """The postmaster has said exactly this at LOG and above, in this order."""
    found = postmaster_lines(cluster, since, launcher_aside=launcher_aside)
    if found != expected:
        raise cluster.watcher.failure(
            f"exactly these lines of the postmaster: {expected}", str(found)
        )


def expect_pmstates(cluster: Cluster, expected: list[tuple[str, str]], since: int) -> None:
    """pmState took exactly these steps (18; PM-01). Elsewhere nothing is told."""
    if cluster.target.version.major < 18:
        return
    found = cluster.pmstates(since)
    if found != expected:
        raise cluster.watcher.failure(
            f"steps of pmState {_steps(expected)}", _steps(found) or "none"
        )


def _steps(steps: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{a} to {b}" for a, b in steps)


@dataclass(frozen=True)
class Before:
    """A running cluster before its crash: what must be the same afterwards, and what must not."""

    mark: int
    postmaster: int
    kids: tuple[Child, ...]
    pid_file: tuple[str, ...]

    @classmethod
    def of(cls, cluster: Cluster) -> Before:
        """As it is now."""
        pid_file = cluster.pid_file()
        assert pid_file is not None
        return cls(
            mark=cluster.mark(),
            postmaster=cluster.pid,
            kids=tuple(cluster.children()),
            pid_file=pid_file.lines,
        )

    def keys(self, *, without: Iterable[Kind] = ()) -> list[tuple[int, int]]:
        """Who was there, but for these kinds."""
        left_out = set(without)
        return sorted(kid.key for kid in self.kids if kid.kind not in left_out)


def expect_crash_restart(
    cluster: Cluster, before: Before, death: str | list[str], *, recovers: bool = True
) -> None:
    """One whole crash cycle since `before`, and nothing else (CR-02, CR-20, CR-25, SH-41).

    `death` is the line that tells of the first death; for a crash that is told otherwise
    (TR18-25) a list of all lines before the reinitialisation. Without `recovers` there is a
    shutdown checkpoint already, so that there is nothing to recover.
    """
    first = [death, TERMINATING] if isinstance(death, str) else death
    cluster.expect_ready(since=before.mark)
    late = [SIGKILL_ROUND] if was_too_slow(cluster, before.mark) else []
    expect_postmaster_lines(cluster, [*first, *late, REINITIALIZING, READY_LINE], before.mark)
    _expect_recovery_told(cluster, before, recovers)
    _expect_cycle(cluster, before, recovers)
    _expect_same_postmaster(cluster, before)
    _expect_everybody_new(cluster, before)


def was_too_slow(cluster: Cluster, since: int) -> bool:
    """Whether a busy machine kept a child from ending for so long that SL-05 came true of it.

    That is no fault of the server's. A round that comes before its time is one, and so is a child
    that does not end although nobody keeps it from that.
    """
    said = {record.message: record for record in postmaster_records(cluster, since)}
    if SIGKILL_ROUND not in said or TERMINATING not in said:
        return False
    # Whole seconds are counted, so one less may do.
    is_its_time = said[SIGKILL_ROUND].moment - said[TERMINATING].moment >= SIGKILL_CLOCK - 1
    return is_its_time and is_overloaded()


def _expect_recovery_told(cluster: Cluster, before: Before, recovers: bool) -> None:
    """One startup process says what it found (CR-23, ST-08)."""
    expected = _RECOVERING if recovers else _CLEAN
    records = [
        record
        for record in cluster.log(before.mark)
        if record.level == "LOG" and record.message.startswith("database system was ")
    ]
    told = [re.sub(r" at \d.*", " at", record.message) for record in records]
    if told != expected or len({record.pid for record in records}) != 1:
        raise cluster.watcher.failure(
            f"one startup process that says {expected}", str([str(record) for record in records])
        )


def _expect_cycle(cluster: Cluster, before: Before, recovers: bool) -> None:
    if cluster.target.version.major < 18:
        return
    short = [*_CYCLE[:4], _SHORT_CUT]
    expected = _CYCLE if recovers else short
    found = cluster.pmstates(before.mark)
    if found not in (expected, short):
        raise cluster.watcher.failure(f"steps of pmState {_steps(expected)}", _steps(found))


def _expect_same_postmaster(cluster: Cluster, before: Before) -> None:
    pid_file = cluster.pid_file()
    lines = pid_file.lines if pid_file is not None else ()
    if cluster.pid != before.postmaster or lines[:6] != before.pid_file[:6]:
        raise cluster.watcher.failure(
            f"postmaster.pid as before: {before.pid_file}", f"{lines} of postmaster {cluster.pid}"
        )
    if lines[7:] != ("ready   ",):
        raise cluster.watcher.failure("postmaster.pid says `ready`", str(lines[7:]))
    segments = sysv_segments_of({cluster.pid}, cluster.made_at)
    told = lines[6].split()
    if segments and [int(word) for word in told[1:]] != [s.shmid for s in segments]:
        raise cluster.watcher.failure(
            f"line 7 of postmaster.pid names the shared memory {[s.shmid for s in segments]}",
            lines[6],
        )


def _expect_everybody_new(cluster: Cluster, before: Before) -> None:
    kids = cluster.children()
    old = {kid.key for kid in before.kids if kid.kind is not Kind.LOGGER}
    loggers = {kid.key for kid in before.kids if kid.kind is Kind.LOGGER}
    stayed = [kid for kid in kids if kid.key in old]
    if stayed:
        raise cluster.watcher.failure(
            "every child but the logger is new", "; ".join(map(str, stayed))
        )
    if {kid.key for kid in kids if kid.kind is Kind.LOGGER} != loggers:
        raise cluster.watcher.failure("the logger stays", "; ".join(map(str, kids)))
    expect_family(cluster)


def expect_family(cluster: Cluster, extra: Counter[Kind] | None = None) -> None:
    """Exactly the background processes of a primary in PM_RUN, and `extra`."""
    wanted = family_when_running(cluster.target.version.major, cluster.settings)
    wanted = wanted + (extra or Counter())

    def there() -> bool:
        return Counter(kid.kind for kid in cluster.children()) == wanted

    told = {str(kind): count for kind, count in sorted(wanted.items(), key=lambda i: i[0].value)}
    cluster.wait_for(
        f"exactly these children: {told}",
        there,
        describe=lambda: "; ".join(map(str, cluster.children())),
    )


def expect_undisturbed(
    cluster: Cluster, before: Before, *, said: list[str] | None = None, gone: Iterable[Child] = ()
) -> None:
    """No crash since `before`: everybody but `gone` is still there, nothing said but `said`."""
    left_out = {child.key for child in gone}
    missing = [
        kid
        for kid in before.kids
        if kid.key not in left_out and kid.key not in {k.key for k in cluster.children()}
    ]
    if missing:
        raise cluster.watcher.failure(
            "nobody else ends", f"gone: {'; '.join(map(str, missing))}; {cluster.watcher.summary()}"
        )
    expect_postmaster_lines(cluster, said or [], before.mark)
    expect_pmstates(cluster, [], before.mark)
    if cluster.pid != before.postmaster or not cluster.is_running():
        raise cluster.watcher.failure("the same postmaster", cluster.watcher.summary())


def expect_abnormal_end(
    cluster: Cluster, since: int, said: list[str], *, shut_down_by: str = ABNORMAL
) -> None:
    """Exit 1 after exactly these lines, `abnormal ...`, `... is shut down`; no pid file."""
    cluster.expect_exit(code=1)
    lines = [*said, shut_down_by, SHUT_DOWN]
    expect_postmaster_lines(cluster, lines, since, launcher_aside=True)
    if cluster.pid_file() is not None:
        raise cluster.watcher.failure("postmaster.pid is gone", "it is there")


def quoted(setting: str, cluster: Cluster) -> str:
    """A setting as log lines name it: in quotes since 16 or 17."""
    return f'"{setting}"' if cluster.target.version.major >= 16 else setting
