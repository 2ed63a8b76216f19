"""The kinds of process, and the one table of what each is called and what its end means.

Begin with   Kind, then KINDS.
Owns         names in logs, titles and pg_stat_activity; child-slot pools; good exit codes.
Leaves out   what a process does (roles/) and when it is started (pm_launch.py).
Source       miscinit.c: GetBackendTypeDesc(); postmaster.c: process_pm_child_exit(); rules
             PR-01..19, TI-01..25, RP-10..27, SV-40.
"""

from __future__ import annotations

from enum import Enum, auto

from pglife_impl.base.record import Record

MAX_IO_WORKERS = 32


class Kind(Enum):
    """A kind of child of the postmaster. More are added as later issues bring them."""

    BACKEND = auto()
    DEAD_END_BACKEND = auto()
    AUTOVAC_LAUNCHER = auto()
    BG_WORKER = auto()
    BG_WRITER = auto()
    CHECKPOINTER = auto()
    IO_WORKER = auto()
    LOGGER = auto()
    STARTUP = auto()
    WAL_WRITER = auto()


class Attached(Enum):
    """Which PGPROC list a process draws from, if it uses shared memory at all."""

    NO = auto()
    BACKEND = auto()
    AUTOVAC = auto()
    BG_WORKER = auto()
    AUXILIARY = auto()


class BadExit(Enum):
    """What an exit that is not among the good ones leads to."""

    CRASH = auto()
    STARTUP_FAILURE = auto()  # the cluster gives up: PR-20
    REPLACED = auto()  # the logger is never a crash: RP-19


class KindInfo(Record):
    """One row of the table: everything about a kind that is a mere fact."""

    backend_type: str  # pg_stat_activity.backend_type, GetBackendTypeDesc
    log_name: str  # in the line about its death, table 3.4
    fork_name: str  # in `could not fork "..." process`
    title: str  # after "postgres: "; a trailing space is part of it (TI-30)
    attached: Attached
    good_exits: frozenset[int]
    bad_exit: BadExit


NO_EXIT: frozenset[int] = frozenset()
ONLY_0 = frozenset({0})
ZERO_OR_1 = frozenset({0, 1})

KINDS: dict[Kind, KindInfo] = {
    Kind.BACKEND: KindInfo(
        "client backend",
        "client backend",
        "backend",
        "",
        Attached.BACKEND,
        ZERO_OR_1,
        BadExit.CRASH,
    ),
    Kind.DEAD_END_BACKEND: KindInfo(
        "dead-end client backend",
        "dead-end client backend",
        "dead-end backend",
        "",
        Attached.NO,
        ZERO_OR_1,
        BadExit.CRASH,
    ),
    Kind.AUTOVAC_LAUNCHER: KindInfo(
        "autovacuum launcher",
        "autovacuum launcher process",
        "autovacuum launcher",
        "autovacuum launcher ",
        Attached.AUTOVAC,
        ONLY_0,
        BadExit.CRASH,
    ),
    Kind.BG_WORKER: KindInfo(
        "logical replication launcher",
        'background worker "logical replication launcher"',
        "bgworker",
        "logical replication launcher ",
        Attached.BG_WORKER,
        ZERO_OR_1,
        BadExit.CRASH,
    ),
    Kind.BG_WRITER: KindInfo(
        "background writer",
        "background writer process",
        "background writer",
        "background writer ",
        Attached.AUXILIARY,
        ONLY_0,
        BadExit.CRASH,
    ),
    Kind.CHECKPOINTER: KindInfo(
        "checkpointer",
        "checkpointer process",
        "checkpointer",
        "checkpointer ",
        Attached.AUXILIARY,
        ONLY_0,  # and only in PM_WAIT_CHECKPOINTER: pm_reap.py
        BadExit.CRASH,
    ),
    Kind.IO_WORKER: KindInfo(
        "io worker",
        "io worker",
        "io_worker",
        "io worker ",  # and its number: TI-12
        Attached.AUXILIARY,
        ZERO_OR_1,
        BadExit.CRASH,
    ),
    Kind.LOGGER: KindInfo(
        "logger",
        "system logger process",
        "syslogger",
        "logger ",
        Attached.NO,
        ONLY_0,
        BadExit.REPLACED,
    ),
    Kind.STARTUP: KindInfo(
        "startup",
        "startup process",
        "startup",
        "startup ",
        Attached.AUXILIARY,
        ONLY_0,
        BadExit.STARTUP_FAILURE,
    ),
    Kind.WAL_WRITER: KindInfo(
        "walwriter",
        "WAL writer process",
        "wal_writer",
        "walwriter ",
        Attached.AUXILIARY,
        ONLY_0,
        BadExit.CRASH,
    ),
}

EVERYBODY = frozenset(Kind)
ALL_BUT_LOGGER = EVERYBODY - {Kind.LOGGER}

# The sets of SM-02: whom a shutdown stops first, and who is told to go only in a crash or an
# immediate shutdown. A test says that with the last two they cover every kind.
STOPPED_FIRST = frozenset(
    {
        Kind.BACKEND,
        Kind.AUTOVAC_LAUNCHER,
        Kind.BG_WORKER,
        Kind.WAL_WRITER,
        Kind.BG_WRITER,
        Kind.STARTUP,
    }
)
STOPPED_FIRST_ONLY_IN_A_CRASH = frozenset({Kind.CHECKPOINTER, Kind.IO_WORKER})
STOPPED_LATER = frozenset({Kind.DEAD_END_BACKEND})
NEVER_STOPPED = frozenset({Kind.LOGGER})

SINGLETONS = frozenset(
    {
        Kind.AUTOVAC_LAUNCHER,
        Kind.BG_WRITER,
        Kind.CHECKPOINTER,
        Kind.LOGGER,
        Kind.STARTUP,
        Kind.WAL_WRITER,
    }
)


def info(kind: Kind) -> KindInfo:
    """The row of a kind."""
    return KINDS[kind]


def pool_sizes(
    *, max_connections: int, max_wal_senders: int, max_worker_processes: int
) -> dict[Kind, int]:
    """How many child slots each kind has for itself (SV-40). Dead-end children have none."""
    sizes = {kind: 1 for kind in Kind if kind in SINGLETONS}
    sizes[Kind.BACKEND] = 2 * (max_connections + max_wal_senders)
    sizes[Kind.BG_WORKER] = max_worker_processes
    sizes[Kind.IO_WORKER] = MAX_IO_WORKERS
    return sizes
