"""Shared memory: one anonymous mapping that every child inherits, replaced after a crash.

It holds the postmaster's flags, the flags of child slots, the checkpoint request and the proc
array. The postmaster reads and writes single bytes only, and takes no lock (SL-12).

Locks are POSIX record locks on a memfd that exists as long as the mapping: the kernel frees the
lock of a process that exits, and Python has no atomic compare-and-swap on a mapping. Rejected:
multiprocessing.Lock, which a process that is killed never releases.

Readers of the proc array take no lock: each row begins with a change counter that is odd while its
owner writes (a seqlock). This relies on two facts. CPython performs each pack_into() and slice
assignment as one C call, in the order of the statements; and on x86-64 all processors see stores in
the order in which they were made. On a processor with weaker ordering (ARM) a reader could copy a
half-written row between two equal, even counters.

Source: storage/ipc/pmsignal.c, storage/lmgr/proc.c, utils/activity/backend_status.c; rules SV-23,
SV-24, SV-40..43, CN-14, CN-31, CN-45.
"""

import fcntl
import mmap
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, IntEnum, auto

from pglife_impl.base.ids import Pid, ProcNumber, Slot
from pglife_impl.base.kinds import MAX_IO_WORKERS, Attached, Kind, info
from pglife_impl.base.pmsignal import PmSignal, QuitReason, SlotFlag
from pglife_impl.base.record import Record


class CancelMatch(Enum):
    """The result of comparing a cancel request with a process's key (CN-44)."""

    MATCH = auto()
    WRONG_KEY = auto()
    NO_SUCH_PID = auto()


class Lock(IntEnum):
    """The locks; each is one byte of the memfd."""

    PROC_ARRAY = 0
    CHECKPOINT = 1


HEADER = 64
QUIT_REASON = 4
IN_RECOVERY = 5
PM_SIGNALS = 8
CHECKPOINT = 24  # requested flags, started, failed, done: four words
WORDS = struct.Struct("<IIII")
WORD = struct.Struct("<I")
TIMES = struct.Struct("<dddd")
ROW = 1400
KIND_NUMBERS = {kind: number for number, kind in enumerate(Kind, 1)}
KINDS_BY_NUMBER = {number: kind for kind, number in KIND_NUMBERS.items()}
# name -> (offset in the row, size)
TEXTS = {
    "state": (88, 32),
    "user": (120, 64),
    "database": (184, 64),
    "application_name": (248, 64),
    "client": (312, 64),
    "query": (376, 1024),
}
TIME_FIELDS = ("backend_start", "xact_start", "query_start", "state_change")
AUXILIARY_SINGLETONS = 6
SUPERUSER = 1


class Activity(Record):
    """A consistent copy of one row of the proc array. Times are Unix seconds; 0: never."""

    pid: Pid
    kind: Kind
    user: str
    database: str
    application_name: str
    client: str
    client_port: int
    state: str
    query: str
    backend_start: float
    xact_start: float
    query_start: float
    state_change: float
    superuser: bool


class Sizes(Record):
    """How many child slots and PGPROCs there are (SV-40..43)."""

    child_slots: int
    backends: int
    autovacuum: int
    workers: int


class CheckpointCounters(Record):
    """The checkpoint request and the counters by which a requester follows it."""

    requested: int  # CheckpointFlags, 0: no request
    started: int
    failed: int
    done: int


class Shmem:
    """One generation of shared memory."""

    def __init__(self, sizes: Sizes, generation: int) -> None:
        self.sizes = sizes
        self.generation = generation
        self.ranges: dict[Attached, range] = {}
        first = 0
        for attached, size in (
            (Attached.BACKEND, sizes.backends),
            (Attached.AUTOVAC, sizes.autovacuum),
            (Attached.BG_WORKER, sizes.workers),
            (Attached.AUXILIARY, AUXILIARY_SINGLETONS + MAX_IO_WORKERS),
        ):
            self.ranges[attached] = range(first, first + size)
            first += size
        self.rows = (HEADER + sizes.child_slots + 1 + 7) & ~7
        self.size = self.rows + first * ROW
        self.procs = first
        self.memory = mmap.mmap(-1, self.size)  # anonymous and shared
        self.lock_fd = os.memfd_create("pglife locks", os.MFD_CLOEXEC)
        WORD.pack_into(self.memory, 0, generation)

    def destroy(self) -> None:
        """Unmap this generation in this process."""
        self.memory.close()
        os.close(self.lock_fd)

    @contextmanager
    def locked(self, which: Lock) -> Iterator[None]:
        """Hold a lock. Never in the postmaster: a child that is stopped (SIGSTOP) may hold it."""
        fcntl.lockf(self.lock_fd, fcntl.LOCK_EX, 1, which, os.SEEK_SET)
        try:
            yield
        finally:
            fcntl.lockf(self.lock_fd, fcntl.LOCK_UN, 1, which, os.SEEK_SET)

    # --- flags ------------------------------------------------------------------------------

    @property
    def quit_reason(self) -> QuitReason:
        """Why the postmaster sent SIGQUIT."""
        value = self.memory[QUIT_REASON]
        return QuitReason(value) if value <= max(QuitReason) else QuitReason.NOT_SENT

    @quit_reason.setter
    def quit_reason(self, reason: QuitReason) -> None:
        self.memory[QUIT_REASON] = reason

    @property
    def in_recovery(self) -> bool:
        """Whether recovery is in progress; the startup process sets it."""
        return bool(self.memory[IN_RECOVERY])

    @in_recovery.setter
    def in_recovery(self, value: bool) -> None:
        self.memory[IN_RECOVERY] = value

    def raise_pmsignal(self, reason: PmSignal) -> None:
        """Set a flag for the postmaster; the caller sends SIGUSR1."""
        self.memory[PM_SIGNALS + reason] = 1

    def take_pmsignals(self) -> frozenset[PmSignal]:
        """Return the flags that are set, and clear them (MM-09)."""
        seen = set()
        for reason in PmSignal:
            if self.memory[PM_SIGNALS + reason]:
                self.memory[PM_SIGNALS + reason] = 0
                seen.add(reason)
        return frozenset(seen)

    def slot_flag(self, slot: Slot | None) -> SlotFlag | None:
        """The flag of a child slot. A byte that is no flag counts as ACTIVE: not detached."""
        if slot is None:
            return None
        value = self.memory[HEADER + slot]
        return SlotFlag(value) if value <= max(SlotFlag) else SlotFlag.ACTIVE

    def set_slot_flag(self, slot: Slot | None, flag: SlotFlag) -> None:
        """Set the flag of a child slot. A dead-end child has neither.

        The postmaster sets ASSIGNED before the fork and UNUSED after the exit; the child sets
        ACTIVE when it attaches to shared memory and ASSIGNED when it detaches.
        """
        if slot is not None:
            self.memory[HEADER + slot] = flag

    # --- checkpoints ------------------------------------------------------------------------

    def checkpoint_counters(self) -> CheckpointCounters:
        """Read the checkpoint request and its counters."""
        return CheckpointCounters(*WORDS.unpack_from(self.memory, CHECKPOINT))

    def put_checkpoint_counters(self, counters: CheckpointCounters) -> None:
        """Write them. The caller holds Lock.CHECKPOINT."""
        WORDS.pack_into(
            self.memory,
            CHECKPOINT,
            counters.requested,
            counters.started,
            counters.failed,
            counters.done,
        )

    # --- the proc array ---------------------------------------------------------------------

    def _at(self, proc: int) -> int:
        return self.rows + proc * ROW

    def claim(self, kind: Kind, pid: int) -> ProcNumber | None:
        """Take a PGPROC from the list of a kind; None if all are taken (CN-14)."""
        with self.locked(Lock.PROC_ARRAY):
            for proc in self._candidates(kind):
                at = self._at(proc)
                if WORD.unpack_from(self.memory, at + 4)[0] == 0:
                    self.memory[at : at + ROW] = bytes(ROW)
                    self.memory[at + 8] = KIND_NUMBERS[kind]
                    TIMES.pack_into(self.memory, at + 48, time.time(), 0.0, 0.0, 0.0)
                    WORD.pack_into(self.memory, at + 4, pid)
                    return ProcNumber(proc)
        return None

    def _candidates(self, kind: Kind) -> range:
        whole = self.ranges[info(kind).attached]
        if info(kind).attached is not Attached.AUXILIARY:
            return whole
        if kind is Kind.IO_WORKER:
            return whole[AUXILIARY_SINGLETONS:]
        order = (Kind.STARTUP, Kind.CHECKPOINTER, Kind.BG_WRITER, Kind.WAL_WRITER)
        at = order.index(kind)
        return whole[at : at + 1]

    def io_worker_number(self, proc: ProcNumber) -> int:
        """The number in an io worker's title (TI-34)."""
        return proc - self.ranges[Attached.AUXILIARY].start - AUXILIARY_SINGLETONS

    def release(self, proc: ProcNumber) -> None:
        """Free a PGPROC; its row disappears from pg_stat_activity."""
        with self.locked(Lock.PROC_ARRAY):
            WORD.pack_into(self.memory, self._at(proc) + 4, 0)

    def free_backend_slots(self) -> int:
        """How many PGPROCs of backends are free (CN-58)."""
        with self.locked(Lock.PROC_ARRAY):
            return sum(
                1
                for proc in self.ranges[Attached.BACKEND]
                if WORD.unpack_from(self.memory, self._at(proc) + 4)[0] == 0
            )

    @contextmanager
    def _writing(self, proc: ProcNumber) -> Iterator[int]:
        at = self._at(proc)
        change = WORD.unpack_from(self.memory, at)[0]
        WORD.pack_into(self.memory, at, (change + 1) & 0xFFFFFFFF)
        try:
            yield at
        finally:
            WORD.pack_into(self.memory, at, (change + 2) & 0xFFFFFFFF)

    def write_row(self, proc: ProcNumber, **fields: str | float | int | bool) -> None:
        """Change columns of this process's own row. Names are those of Activity."""
        with self._writing(proc) as at:
            for name, value in fields.items():
                if name in TEXTS:
                    offset, size = TEXTS[name]
                    data = _cut(str(value), size - 1)
                    self.memory[at + offset : at + offset + size] = data.ljust(size, b"\0")
                elif name in TIME_FIELDS:
                    where = at + 48 + 8 * TIME_FIELDS.index(name)
                    struct.pack_into("<d", self.memory, where, float(value))
                elif name == "client_port":
                    struct.pack_into("<i", self.memory, at + 80, int(value))
                elif name == "superuser":
                    self.memory[at + 9] = SUPERUSER if value else 0
                else:
                    raise AssertionError(f"no such column: {name}")

    def activity(self, proc: int) -> Activity | None:
        """A consistent copy of a row; None if the PGPROC is free."""
        at = self._at(proc)
        for _ in range(1000):
            before = WORD.unpack_from(self.memory, at)[0]
            row = bytes(self.memory[at : at + ROW])
            if before % 2 == 0 and WORD.unpack_from(row, 0)[0] == before:
                break
        pid = WORD.unpack_from(row, 4)[0]
        kind = KINDS_BY_NUMBER.get(row[8])
        if pid == 0 or kind is None:
            return None
        times = TIMES.unpack_from(row, 48)
        return Activity(
            pid=Pid(pid),
            kind=kind,
            client_port=struct.unpack_from("<i", row, 80)[0],
            superuser=bool(row[9] & SUPERUSER),
            backend_start=times[0],
            xact_start=times[1],
            query_start=times[2],
            state_change=times[3],
            **{name: _text(row[o : o + n]) for name, (o, n) in TEXTS.items()},
        )

    def activities(self) -> list[Activity]:
        """The rows of all PGPROCs that are taken, in their order."""
        rows = (self.activity(proc) for proc in range(self.procs))
        return [row for row in rows if row is not None]

    def proc_of(self, pid: int) -> ProcNumber | None:
        """The PGPROC of a process, if it has one."""
        for proc in range(self.procs):
            if pid and WORD.unpack_from(self.memory, self._at(proc) + 4)[0] == pid:
                return ProcNumber(proc)
        return None

    def activity_of(self, pid: int) -> Activity | None:
        """The row of a process, if it has one."""
        proc = self.proc_of(pid)
        return None if proc is None else self.activity(proc)

    def pid_of_kind(self, kind: Kind) -> Pid | None:
        """The pid of a singleton, if it has a PGPROC."""
        proc = self._candidates(kind)[0]
        pid = WORD.unpack_from(self.memory, self._at(proc) + 4)[0]
        return Pid(pid) if pid else None

    # --- cancel keys ------------------------------------------------------------------------

    def set_cancel_key(self, proc: ProcNumber, key: bytes) -> None:
        """Set the key that a cancel request must carry (CN-45)."""
        with self._writing(proc) as at:
            self.memory[at + 10] = len(key)
            self.memory[at + 12 : at + 44] = key.ljust(32, b"\0")

    def cancel_key_matches(self, pid: int, key: bytes) -> CancelMatch:
        """Compare a key with that of a process, in constant time."""
        proc = self.proc_of(pid)
        if proc is None:
            return CancelMatch.NO_SUCH_PID
        at = self._at(proc)
        length = self.memory[at + 10]
        held = self.memory[at + 12 : at + 12 + length]
        if length == 0 or len(key) != length:
            return CancelMatch.WRONG_KEY
        different = 0
        for ours, theirs in zip(held, key, strict=True):
            different |= ours ^ theirs
        return CancelMatch.WRONG_KEY if different else CancelMatch.MATCH


def _cut(text: str, size: int) -> bytes:
    """At most `size` bytes, cut between characters."""
    data = text.encode("utf-8", "surrogateescape")
    if len(data) <= size:
        return data
    return data[:size].decode("utf-8", "ignore").encode()


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
