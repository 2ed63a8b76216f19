"""Which children a primary has in PM_RUN, by release and configuration.

A start waits for them before its scenario begins; no verdict of the monitor rests on them.

Source: rules PR-02 to PR-14; PR-24 (in 18 the ready line precedes the helpers).
"""

from collections import Counter
from collections.abc import Iterable

from pglife_conformance.base.ids import WorkerNumber
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child

POOL_GROWS_SINCE = 19
"""The first release whose pool of io workers grows and shrinks between two settings."""


def _on(settings: dict[str, str], name: str, default: str) -> bool:
    return settings.get(name, default) in ("on", "always", "true", "1")


def children_when_running(major: int, settings: dict[str, str]) -> Counter[Kind]:
    """How many children of each kind a primary without clients has in PM_RUN."""
    wanted = Counter({Kind.CHECKPOINTER: 1, Kind.BACKGROUND_WRITER: 1, Kind.WALWRITER: 1})
    if _on(settings, "autovacuum", "on") and _on(settings, "track_counts", "on"):
        wanted[Kind.AUTOVACUUM_LAUNCHER] = 1
    if settings.get("max_logical_replication_workers", "4") != "0":
        wanted[Kind.LOGICAL_REPLICATION_LAUNCHER] = 1
    if _on(settings, "logging_collector", "off"):
        wanted[Kind.LOGGER] = 1
    if _on(settings, "archive_mode", "off"):
        wanted[Kind.ARCHIVER] = 1
    if major >= 17 and _on(settings, "summarize_wal", "off"):
        wanted[Kind.WALSUMMARIZER] = 1
    if major >= 18 and settings.get("io_method", "worker") == "worker":
        default = "2" if major >= POOL_GROWS_SINCE else "3"
        wanted[Kind.IO_WORKER] = int(settings.get("io_workers", default))
    return wanted


def is_complete(kids: Iterable[Child], wanted: Counter[Kind]) -> bool:
    """Whether all of `wanted` live, each io worker with its number, and no startup process."""
    found = Counter(kid.kind for kid in kids if kid.is_alive and _has_full_title(kid))
    return not found[Kind.STARTUP] and found >= wanted


def io_worker_number(worker: Child) -> WorkerNumber | None:
    """The number in an io worker's title, which is written a moment after the name."""
    word = worker.title.rpartition(" ")[2]
    return WorkerNumber(int(word)) if word.isdecimal() else None


def _has_full_title(child: Child) -> bool:
    return child.kind is not Kind.IO_WORKER or io_worker_number(child) is not None
