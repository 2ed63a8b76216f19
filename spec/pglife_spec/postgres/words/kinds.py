"""The kinds of children: one row each.

Begin with KINDS. Launching, signaling, waiting and reaping read the rows; what only one kind does
(the checkpointer at SIGINT, say) is in the actions.
"""

import enum
from dataclasses import dataclass

from pglife_spec.lang.expr import TRUE, Expr
from pglife_spec.postgres.words import PM, Kind, Life, Signal
from pglife_spec.postgres.words.parameters import (
    AUTOVACUUM,
    LOGGING_COLLECTOR,
    LOGICAL_LAUNCHER,
    STREAMING,
    SUMMARIZE_WAL,
    SYNC_SLOTS,
    WORKER_START,
    WRITERS,
)
from pglife_spec.postgres.words.workers import WorkerStart


class Awaited(enum.Enum):
    """Where a shutdown waits for a kind (SM-02, SM-03, SM-09)."""

    WAIT_BACKENDS = "signaled in PM_STOP_BACKENDS and awaited in PM_WAIT_BACKENDS"
    LATER = "awaited after the backends; in a crash or an immediate shutdown, with them"
    DEAD_END = "awaited in PM_WAIT_DEAD_END only"
    NEVER = "the postmaster exits without waiting for it"


#: The server is starting or open, and no shutdown has begun to end children.
UP = (PM.PM_STARTUP, PM.PM_RECOVERY, PM.PM_HOT_STANDBY, PM.PM_RUN)


@dataclass(frozen=True)
class Row:
    """What the model knows of a kind.

    Args:
        kind: which.
        name: how actions and variables call it.
        awaited: where a shutdown waits for it.
        ends_at: the signal that makes it end, if the same one does in every release.
        exit_status: how it exits then.
        launched: the states in which the main loop launches a missing one; none for background
            workers, which are on a list of their own (BG-05).
        wanted: the setting that it depends on.
        many: whether there may be more than one.
        listed: whether it is on the list of backends that releases up to 17 keep (SM-09).
        writes_no_wal: whether it lives on after the shutdown checkpoint, which it sends or archives
            (SM-07).
    """

    kind: Kind
    name: str
    awaited: Awaited
    ends_at: Signal | None = None
    exit_status: Life = Life.EXITED_0
    launched: tuple[PM, ...] = ()
    wanted: Expr = TRUE
    many: bool = False
    listed: bool = False
    writes_no_wal: bool = False


_ROWS = (
    Row(Kind.STARTUP, "startup", Awaited.WAIT_BACKENDS, Signal.SIGTERM, Life.EXITED_1),
    Row(Kind.CHECKPOINTER, "checkpointer", Awaited.LATER, launched=UP),
    Row(
        Kind.BG_WRITER,
        "bgwriter",
        Awaited.WAIT_BACKENDS,
        Signal.SIGTERM,
        launched=UP,
        wanted=WRITERS,
    ),
    Row(
        Kind.WAL_WRITER,
        "walwriter",
        Awaited.WAIT_BACKENDS,
        Signal.SIGTERM,
        launched=(PM.PM_RUN,),
        wanted=WRITERS,
    ),
    Row(
        Kind.AUTOVAC_LAUNCHER,
        "avlauncher",
        Awaited.WAIT_BACKENDS,
        Signal.SIGTERM,
        launched=(PM.PM_RUN,),
        wanted=AUTOVACUUM,
    ),
    Row(
        Kind.BG_WORKER,
        "lrlauncher",
        Awaited.WAIT_BACKENDS,
        Signal.SIGTERM,
        Life.EXITED_1,
        wanted=LOGICAL_LAUNCHER,
        listed=True,
    ),
    Row(
        Kind.LOGGER,
        "logger",
        Awaited.NEVER,
        launched=tuple(state for state in PM if state is not PM.PM_INIT),
        wanted=LOGGING_COLLECTOR,
    ),
    Row(Kind.BACKEND, "backend", Awaited.WAIT_BACKENDS, Signal.SIGTERM, many=True, listed=True),
    Row(
        Kind.DEAD_END_BACKEND,
        "dead_end",
        Awaited.DEAD_END,
        Signal.SIGTERM,
        many=True,
        listed=True,
    ),
    Row(Kind.IO_WORKER, "io_worker", Awaited.LATER, Signal.SIGUSR2, many=True),
    Row(Kind.ARCHIVER, "archiver", Awaited.LATER, Signal.SIGUSR2, writes_no_wal=True),
    Row(
        Kind.WAL_SENDER,
        "walsender",
        Awaited.LATER,
        Signal.SIGUSR2,
        many=True,
        listed=True,
        writes_no_wal=True,
    ),
    Row(
        Kind.WAL_SUMMARIZER,
        "walsummarizer",
        Awaited.WAIT_BACKENDS,
        Signal.SIGTERM,
        launched=(PM.PM_HOT_STANDBY, PM.PM_RUN),
        wanted=SUMMARIZE_WAL,
    ),
    Row(
        Kind.AUTOVAC_WORKER,
        "autovac_worker",
        Awaited.WAIT_BACKENDS,
        Signal.SIGTERM,
        many=True,
        listed=True,
    ),
    Row(
        Kind.STATIC_WORKER,
        "worker",
        Awaited.WAIT_BACKENDS,
        Signal.SIGTERM,
        Life.EXITED_1,
        wanted=WORKER_START != WorkerStart.NEVER,
        listed=True,
    ),
    Row(
        Kind.WAL_RECEIVER,
        "walreceiver",
        Awaited.WAIT_BACKENDS,
        Signal.SIGTERM,
        Life.EXITED_1,
        launched=(PM.PM_STARTUP, PM.PM_RECOVERY, PM.PM_HOT_STANDBY),
        wanted=STREAMING,
    ),
    Row(
        Kind.SLOTSYNC_WORKER,
        "slotsync",
        Awaited.WAIT_BACKENDS,
        Signal.SIGTERM,
        Life.EXITED_1,
        launched=(PM.PM_HOT_STANDBY,),
        wanted=SYNC_SLOTS,
    ),
)

KINDS = {row.kind: row for row in _ROWS}

#: Kinds of which there is at most one.
SINGLETONS = tuple(row.kind for row in _ROWS if not row.many)
#: Kinds that come in numbers: one counter for each local state.
COUNTED = tuple(row.kind for row in _ROWS if row.many)
#: All kinds that the postmaster signals.
ALL_BUT_LOGGER = tuple(kind for kind in Kind if kind is not Kind.LOGGER)
#: What PM_STOP_BACKENDS signals and PM_WAIT_BACKENDS waits for (SM-02, SM-03).
TARGETS = tuple(row.kind for row in _ROWS if row.awaited is Awaited.WAIT_BACKENDS)
#: What PM_WAIT_BACKENDS waits for as well in a crash or an immediate shutdown.
LATER_TARGETS = tuple(row.kind for row in _ROWS if row.awaited is Awaited.LATER)
#: What is on the list of backends up to 17.
LISTED = tuple(row.kind for row in _ROWS if row.listed)
#: What lives on after the shutdown checkpoint, until it has archived or sent all WAL (SM-07).
AFTER_WAL = tuple(row.kind for row in _ROWS if row.writes_no_wal)
#: Single processes that end at SIGTERM and are launched again.
BACKGROUND = tuple(
    row.kind
    for row in _ROWS
    if not row.many and PM.PM_RUN in row.launched and row.ends_at is Signal.SIGTERM
)
#: Those of a standby, which the startup process stops before PM_RUN.
REPLICATION = (Kind.WAL_RECEIVER, Kind.SLOTSYNC_WORKER)

#: Background workers that are registered at the start, the newest first (BG-08).
WORKERS = (Kind.STATIC_WORKER, Kind.BG_WORKER)


def short(kind: Kind) -> str:
    """The kind's name as actions and variables carry it."""
    return KINDS[kind].name
