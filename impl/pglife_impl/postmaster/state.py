"""What the postmaster remembers: its state variables, as one immutable value.

Begin with   PmState; its fields bear PostgreSQL's names.
Owns         the enumerations PM, Shutdown, StartupStatus, Cac, and the settings a decision reads.
Leaves out   how they change: pm_machine.py, pm_shutdown.py, pm_reap.py, pm_launch.py, pm_admit.py.
Source       postmaster.c, pmchild.c; rules of section 1 (SV-01..47).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum, IntEnum, auto
from types import MappingProxyType

from pglife_impl.base.kinds import Kind, pool_sizes
from pglife_impl.base.record import Record


class PM(IntEnum):
    """pmState, in PostgreSQL 18's order; code compares with < and >=."""

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
    """The strongest shutdown request so far; never goes down in a postmaster's life (INV-01)."""

    NO = 0
    SMART = 1
    FAST = 2
    IMMEDIATE = 3


class StartupStatus(Enum):
    """What is known of the startup process (SV-07)."""

    NOT_RUNNING = auto()
    RUNNING = auto()
    SIGNALED = auto()  # we told it to quit: its death is no reason to give up
    CRASHED = auto()  # it died by itself: do not try again


class StartTime(Enum):
    """When a background worker may first run (BG-05)."""

    POSTMASTER_START = auto()
    CONSISTENT_STATE = auto()
    RECOVERY_FINISHED = auto()


class Child(Record):
    """One recorded child (SV-15). Slot 0 is a dead-end child's."""

    pid: int
    kind: Kind
    slot: int
    worker: int = -1  # index into PmState.workers


class Worker(Record):
    """A registered background worker (SV-17)."""

    name: str
    type: str
    start: StartTime
    restart_s: int  # -1: never again (BG-04)
    pid: int = 0
    crashed_at: float = 0.0
    terminate: bool = False


LOGICAL_LAUNCHER = "logical replication launcher"


class Config(Record):
    """The settings that decisions depend on, as they are at this moment."""

    max_connections: int = 100
    max_wal_senders: int = 10
    max_worker_processes: int = 8
    max_logical_replication_workers: int = 4
    io_method: str = "worker"
    io_workers: int = 3
    autovacuum: bool = True
    track_counts: bool = True
    logging_collector: bool = False
    restart_after_crash: bool = True
    send_abort_for_crash: bool = False
    send_abort_for_kill: bool = False
    hot_standby: bool = True


class PmState(Record):
    """Everything a decision may look at. A decision returns a new one and never changes this."""

    state: PM = PM.INIT
    shutdown: Shutdown = Shutdown.NO
    fatal_error: bool = False
    startup_status: StartupStatus = StartupStatus.NOT_RUNNING
    abort_start_time: int = 0
    conns_allowed: bool = True
    listening: bool = True
    reached_normal_running: bool = False
    start_worker_needed: bool = True
    have_crashed_worker: bool = False
    start_autovac_launcher: bool = False
    children: Mapping[int, Child] = MappingProxyType({})  # by pid
    free_slots: Mapping[Kind, tuple[int, ...]] = MappingProxyType({})
    io_worker_children: tuple[int, ...] = (0,) * 32  # pids; the index is the postmaster's own
    workers: tuple[Worker, ...] = ()
    # Forks asked for one after another; the next is decided when the last has been carried out.
    plan: tuple[Kind, ...] = ()
    # PM_WAIT_BACKENDS has asked for a checkpointer to write the shutdown checkpoint (SM-05).
    awaiting_shutdown_checkpointer: bool = False

    def count_children(self, kinds: Collection[Kind]) -> int:
        """How many children of these kinds are recorded (CountChildren)."""
        return sum(1 for child in self.children.values() if child.kind in kinds)

    def pid_of(self, kind: Kind) -> int:
        """The pid of a singleton, or 0."""
        for child in self.children.values():
            if child.kind is kind:
                return child.pid
        return 0

    def io_worker_count(self) -> int:
        """How many io workers live (SV-16)."""
        return sum(1 for pid in self.io_worker_children if pid)

    def with_child(self, child: Child) -> PmState:
        """The state with one more recorded child."""
        return self.replace(children={**self.children, child.pid: child})

    def without_child(self, pid: int) -> PmState:
        """The state without that child; its slot is free again (RP-01, SV-47)."""
        children = dict(self.children)
        child = children.pop(pid)
        after = self.replace(children=children)
        return after.with_slot_back(child.kind, child.slot)

    def with_slot_back(self, kind: Kind, slot: int) -> PmState:
        """The state with a slot put back into its pool. Slot 0 belongs to no pool."""
        if slot == 0:
            return self
        pool = (slot, *self.free_slots[kind])
        return self.replace(free_slots={**self.free_slots, kind: pool})

    def take_slot(self, kind: Kind) -> tuple[PmState, int]:
        """The state after taking a slot of that kind, and the slot; 0 if there is none."""
        pool = self.free_slots.get(kind, ())
        if not pool:
            return self, 0
        return self.replace(free_slots={**self.free_slots, kind: pool[1:]}), pool[0]


def newborn(config: Config) -> PmState:
    """A postmaster before its first child: all slots free, the logical launcher registered."""
    sizes = pool_sizes(
        max_connections=config.max_connections,
        max_wal_senders=config.max_wal_senders,
        max_worker_processes=config.max_worker_processes,
    )
    free: dict[Kind, tuple[int, ...]] = {}
    first = 1
    for kind in Kind:
        size = sizes.get(kind, 0)
        if size:
            free[kind] = tuple(range(first, first + size))
            first += size
    workers: tuple[Worker, ...] = ()
    if config.max_logical_replication_workers > 0 and config.max_worker_processes > 0:
        workers = (Worker(LOGICAL_LAUNCHER, LOGICAL_LAUNCHER, StartTime.RECOVERY_FINISHED, 5),)
    return PmState(free_slots=free, workers=workers)


def slot_count(config: Config) -> int:
    """How many child slots there are in all."""
    return sum(
        pool_sizes(
            max_connections=config.max_connections,
            max_wal_senders=config.max_wal_senders,
            max_worker_processes=config.max_worker_processes,
        ).values()
    )
