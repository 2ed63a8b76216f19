"""The kinds of process: one table of their names, PGPROC lists and good exit codes.

Begin with Kind and KINDS. What a process does is in roles/ and backend/, when it is started in
postmaster/launch.py.

Source: miscinit.c: GetBackendTypeDesc(); postmaster.c: process_pm_child_exit(); rules PR-01..19,
TI-01..25, RP-10..27, SV-40.
"""

from enum import Enum, auto

from pglife_impl.base.record import Record

MAX_IO_WORKERS = 32


class Kind(Enum):
    """A kind of child of the postmaster."""

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
    """The PGPROC list that a process draws from; NO if it does not attach to shared memory."""

    NO = auto()
    BACKEND = auto()
    AUTOVAC = auto()
    BG_WORKER = auto()
    AUXILIARY = auto()


class BadExit(Enum):
    """What an exit code that is not a good one leads to."""

    CRASH = auto()
    STARTUP_FAILURE = auto()  # the postmaster gives up: PR-20
    REPLACED = auto()  # an exit of the logger is never a crash: RP-19


class KindInfo(Record):
    """The facts about a kind."""

    backend_type: str  # pg_stat_activity.backend_type (GetBackendTypeDesc)
    log_name: str  # in the line about its exit
    fork_failure: str  # the log line when fork() fails, before ": " and the error
    title: str  # after "postgres: "; a trailing space is part of it (TI-30)
    attached: Attached
    good_exits: frozenset[int]
    bad_exit: BadExit = BadExit.CRASH


ONLY_0 = frozenset({0})
ZERO_OR_1 = frozenset({0, 1})

KINDS: dict[Kind, KindInfo] = {
    Kind.BACKEND: KindInfo(
        backend_type="client backend",
        log_name="client backend",
        fork_failure="could not fork new process for connection",
        title="",
        attached=Attached.BACKEND,
        good_exits=ZERO_OR_1,
    ),
    Kind.DEAD_END_BACKEND: KindInfo(
        backend_type="dead-end client backend",
        log_name="dead-end client backend",
        fork_failure="could not fork new process for connection",
        title="",
        attached=Attached.NO,
        good_exits=ZERO_OR_1,
    ),
    Kind.AUTOVAC_LAUNCHER: KindInfo(
        backend_type="autovacuum launcher",
        log_name="autovacuum launcher process",
        fork_failure='could not fork "autovacuum launcher" process',
        title="autovacuum launcher ",
        attached=Attached.AUTOVAC,
        good_exits=ONLY_0,
    ),
    Kind.BG_WORKER: KindInfo(
        backend_type="logical replication launcher",
        log_name='background worker "logical replication launcher"',
        fork_failure="could not fork background worker process",
        title="logical replication launcher ",
        attached=Attached.BG_WORKER,
        good_exits=ZERO_OR_1,
    ),
    Kind.BG_WRITER: KindInfo(
        backend_type="background writer",
        log_name="background writer process",
        fork_failure='could not fork "background writer" process',
        title="background writer ",
        attached=Attached.AUXILIARY,
        good_exits=ONLY_0,
    ),
    Kind.CHECKPOINTER: KindInfo(
        backend_type="checkpointer",
        log_name="checkpointer process",
        fork_failure='could not fork "checkpointer" process',
        title="checkpointer ",
        attached=Attached.AUXILIARY,
        good_exits=ONLY_0,  # and in PM_WAIT_CHECKPOINTER only: postmaster/reaping.py
    ),
    Kind.IO_WORKER: KindInfo(
        backend_type="io worker",
        log_name="io worker",
        fork_failure='could not fork "io_worker" process',
        title="io worker ",  # followed by its number: TI-12
        attached=Attached.AUXILIARY,
        good_exits=ZERO_OR_1,
    ),
    Kind.LOGGER: KindInfo(
        backend_type="logger",
        log_name="system logger process",
        fork_failure="could not fork system logger",
        title="logger ",
        attached=Attached.NO,
        good_exits=ONLY_0,
        bad_exit=BadExit.REPLACED,
    ),
    Kind.STARTUP: KindInfo(
        backend_type="startup",
        log_name="startup process",
        fork_failure='could not fork "startup" process',
        title="startup ",
        attached=Attached.AUXILIARY,
        good_exits=ONLY_0,
        bad_exit=BadExit.STARTUP_FAILURE,
    ),
    Kind.WAL_WRITER: KindInfo(
        backend_type="walwriter",
        log_name="WAL writer process",
        fork_failure='could not fork "wal_writer" process',
        title="walwriter ",
        attached=Attached.AUXILIARY,
        good_exits=ONLY_0,
    ),
}

ALL_KINDS = frozenset(Kind)
ALL_BUT_LOGGER = ALL_KINDS - {Kind.LOGGER}

# The shutdown targets (SM-02). With the last two sets they cover every kind once; a test checks it.
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
    """The facts about a kind."""
    return KINDS[kind]


def pool_sizes(
    *, max_connections: int, max_wal_senders: int, max_worker_processes: int
) -> dict[Kind, int]:
    """How many child slots each kind has (SV-40). Dead-end children need none."""
    sizes = {kind: 1 for kind in Kind if kind in SINGLETONS}
    sizes[Kind.BACKEND] = 2 * (max_connections + max_wal_senders)
    sizes[Kind.BG_WORKER] = max_worker_processes
    sizes[Kind.IO_WORKER] = MAX_IO_WORKERS
    return sizes
