"""What the postmaster remembers: its state variables, under PostgreSQL's names.

Begin with PmState. Decisions (decide.py) get a copy of it, change the copy and return it.

Source: postmaster.c, pmchild.c; rules SV-01..47.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum, IntEnum, auto

from pglife_impl.base.ids import Pid, Slot, WorkerNumber
from pglife_impl.base.kinds import MAX_IO_WORKERS, Kind, pool_sizes
from pglife_impl.base.record import Record


class PM(IntEnum):
    """pmState, in PostgreSQL 18's order: decisions compare states with < and >=."""

    INIT = 0
    STARTUP = 1
    RECOVERY = 2
    HOT_STANDBY = 3
    RUN = 4
    STOP_BACKENDS = 5
    WAIT_BACKENDS = 6
    WAIT_XLOG_SHUTDOWN = 7
    WAIT_XLOG_ARCHIVAL = 8
    WAIT_IO_WORKERS = 9
    WAIT_CHECKPOINTER = 10
    WAIT_DEAD_END = 11
    NO_CHILDREN = 12

    def __str__(self) -> str:
        return f"PM_{self.name}"


class Shutdown(IntEnum):
    """The strongest shutdown request so far; it never decreases (INV-01)."""

    NO = 0
    SMART = 1
    FAST = 2
    IMMEDIATE = 3


class StartupStatus(Enum):
    """What the postmaster knows of the startup process (SV-07)."""

    NOT_RUNNING = auto()
    RUNNING = auto()
    SIGNALED = auto()  # the postmaster sent it SIGQUIT: its exit is expected
    CRASHED = auto()  # it failed by itself: the postmaster gives up


class StartTime(Enum):
    """When a background worker may first run (BG-05)."""

    POSTMASTER_START = auto()
    CONSISTENT_STATE = auto()
    RECOVERY_FINISHED = auto()


class IoMethod(Enum):
    """The setting io_method."""

    SYNC = "sync"
    WORKER = "worker"


class Child(Record):
    """A recorded child (SV-15)."""

    pid: Pid
    kind: Kind
    slot: Slot | None  # None for a dead-end child
    worker: WorkerNumber | None = None  # index into PmState.workers, for a background worker


class Config(Record):
    """The settings that decisions depend on, with PostgreSQL's defaults."""

    max_connections: int = 100
    max_wal_senders: int = 10
    max_worker_processes: int = 8
    max_logical_replication_workers: int = 4
    io_method: IoMethod = IoMethod.WORKER
    io_workers: int = 3
    autovacuum: bool = True
    track_counts: bool = True
    logging_collector: bool = False
    restart_after_crash: bool = True
    send_abort_for_crash: bool = False
    send_abort_for_kill: bool = False
    hot_standby: bool = True


class Variables:
    """Typed attributes that a decision may change. Compared by type and values."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({shown})"


class Worker(Variables):
    """A registered background worker (SV-17).

    Args:
        name: what its titles and log lines call it; also its backend_type.
        start: the earliest state of the server in which it runs.
        restart_s: seconds from a failure to its restart; None: never restart it (BG-04).
    """

    def __init__(self, name: str, start: StartTime, restart_s: int | None) -> None:
        self.name = name
        self.start = start
        self.restart_s = restart_s
        self.pid: Pid | None = None
        self.crashed_at: float | None = None
        self.terminate = False

    def copy(self) -> Worker:
        """A worker with the same values."""
        other = Worker(self.name, self.start, self.restart_s)
        other.__dict__.update(self.__dict__)
        return other


class PmState(Variables):
    """Everything that a decision may read. A new one is a postmaster before its first child.

    Only Step.advance_to() assigns `state`.
    """

    def __init__(self, config: Config) -> None:
        self.state = PM.INIT
        self.shutdown = Shutdown.NO
        self.fatal_error = False
        self.startup_status = StartupStatus.NOT_RUNNING
        self.abort_start_time: int | None = None  # when the SIGKILL timeout began, Unix seconds
        self.conns_allowed = True
        self.listening = True
        self.start_worker_needed = True
        self.have_crashed_worker = False
        self.start_autovac_launcher = False
        self.children: dict[Pid, Child] = {}
        self.free_slots = all_slots(config)
        self.io_worker_children: list[Pid | None] = [None] * MAX_IO_WORKERS
        self.workers = registered_workers(config)

    def copy(self) -> PmState:
        """A state with the same values, which may be changed apart from this one."""
        other = PmState.__new__(PmState)
        other.__dict__.update(self.__dict__)
        other.children = dict(self.children)
        other.free_slots = {kind: list(slots) for kind, slots in self.free_slots.items()}
        other.io_worker_children = list(self.io_worker_children)
        other.workers = [worker.copy() for worker in self.workers]
        return other

    def count_children(self, kinds: Collection[Kind]) -> int:
        """How many children of these kinds are recorded (CountChildren)."""
        return sum(1 for child in self.children.values() if child.kind in kinds)

    def pid_of(self, kind: Kind) -> Pid | None:
        """The pid of the child of a singleton kind, if there is one."""
        for child in self.children.values():
            if child.kind is kind:
                return child.pid
        return None

    def io_worker_count(self) -> int:
        """How many io workers are recorded (SV-16)."""
        return sum(1 for pid in self.io_worker_children if pid is not None)

    def add_child(self, child: Child) -> None:
        """Record a child that has been forked."""
        self.children[child.pid] = child
        if child.kind is Kind.IO_WORKER:
            self.io_worker_children[self.io_worker_children.index(None)] = child.pid
        if child.worker is not None:
            self.workers[child.worker].pid = child.pid

    def remove_child(self, child: Child) -> None:
        """Forget a child that has been reaped; its slot is free again (RP-01, SV-47)."""
        del self.children[child.pid]
        self.give_slot_back(child.kind, child.slot)
        if child.kind is Kind.IO_WORKER:
            self.io_worker_children[self.io_worker_children.index(child.pid)] = None
        if child.worker is not None:
            self.workers[child.worker].pid = None

    def take_slot(self, kind: Kind) -> Slot | None:
        """Take a free child slot of that kind, if there is one."""
        slots = self.free_slots.get(kind)
        return slots.pop(0) if slots else None

    def give_slot_back(self, kind: Kind, slot: Slot | None) -> None:
        """Make a slot the first free one of its kind."""
        if slot is not None:
            self.free_slots[kind].insert(0, slot)


def all_slots(config: Config) -> dict[Kind, list[Slot]]:
    """The child slots of each kind (SV-40)."""
    sizes = pool_sizes(
        max_connections=config.max_connections,
        max_wal_senders=config.max_wal_senders,
        max_worker_processes=config.max_worker_processes,
    )
    slots: dict[Kind, list[Slot]] = {}
    first = 1
    for kind, size in sizes.items():
        slots[kind] = [Slot(number) for number in range(first, first + size)]
        first += size
    return slots


def registered_workers(config: Config) -> list[Worker]:
    """The background workers that the server registers itself: the logical replication launcher."""
    if config.max_logical_replication_workers == 0 or config.max_worker_processes == 0:
        return []
    return [Worker("logical replication launcher", StartTime.RECOVERY_FINISHED, restart_s=5)]
