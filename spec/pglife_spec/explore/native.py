"""The states reached, stepped by native code on both cores. Begin with NativeSpace.

A round steps some states. Each thread steps half of them and writes records of where they lead,
apart for each half of the hashes; then each thread looks up one half of the hashes; then the new
states get indexes in the order of the records, so that two threads find what one finds.
"""

import mmap
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ctypes import c_int64, c_void_p

import numpy as np
import numpy.typing as npt

from pglife_spec.explore.graph import Graph, words_of
from pglife_spec.explore.space import PythonSpace, Scanner, Space
from pglife_spec.lang.expr import Expr
from pglife_spec.meanings.native.engine import Code
from pglife_spec.meanings.native.kernel import Owner, kernel_module
from pglife_spec.meanings.native.machine import Frame, checks_module, steps_module, words_in
from pglife_spec.meanings.native.values import WIDE
from pglife_spec.meanings.pack import WORD_BITS
from pglife_spec.meanings.python.codegen import dispatch_field
from pglife_spec.meanings.python.program import Program
from pglife_spec.meanings.store import CodeStore

Words = npt.NDArray[np.uint64]

ALONE, TOGETHER = 1024, 1 << 16
"""States in a round of one thread, small enough for the caches, and of two."""

FEW = 2048
"""So few states are not worth waking a thread for."""

FULL = 0.6
"""Share of the slots that may be taken."""

FIRST_SLOTS = 1 << 14
MOST_STATES = (1 << 31) - 2
NO_RESERVE = 0x4000 if sys.platform == "linux" else 0


def reserved(size: int) -> Words:
    """Zeroes, of which only what is touched takes memory."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE
    memory = mmap.mmap(-1, max(8 * size, mmap.PAGESIZE), flags=flags)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, dtype=np.uint64)


class Half:
    """What one thread has: a frame to step states, and its half of the set.

    Args:
        buckets: where the records go that it writes, for each half.
        record: words of a record.
    """

    def __init__(self, at: int, actions: int, buckets: list[Words], ends: Words) -> None:
        self.at = at
        self.frame = np.zeros(len(Frame), dtype=np.uint64)
        self.owner = np.zeros(len(Owner), dtype=np.uint64)
        self.taken = np.zeros(actions, dtype=np.uint64)
        self.cuts = np.zeros(actions, dtype=np.uint64)
        self.below = np.full(actions, ~np.uint64(0), dtype=np.uint64)
        self.buckets, self.ends = buckets, ends
        for place, array in (
            (Frame.TAKEN, self.taken),
            (Frame.CUTS, self.cuts),
            (Frame.BELOW, self.below),
        ):
            self.frame[place] = array.ctypes.data
        self.rewind()

    def rewind(self) -> None:
        """Begin a round: its records and ends start anew."""
        self.frame[Frame.OUT] = self.buckets[0].ctypes.data
        self.frame[Frame.OTHER] = self.buckets[-1].ctypes.data
        self.frame[Frame.ENDS] = self.ends.ctypes.data
        self.frame[Frame.META] = self.at << 63
        self.owner[Owner.COUNT] = 0

    def written(self, bucket: int) -> int:
        """How many words were written to a bucket in this round."""
        place = (Frame.OUT, Frame.OTHER)[bucket]
        return (int(self.frame[place]) - self.buckets[bucket].ctypes.data) // 8

    def ended(self) -> Words:
        """The states of this round that have no step."""
        count = (int(self.frame[Frame.ENDS]) - self.ends.ctypes.data) // 8
        return self.ends[:count]


class NativeSpace(Space):
    """States in words, found by open addressing.

    Args:
        program: the machine.
        final: where having no step left is right.
        threads: 1 or 2.
        store: keeps compiled code for the next process.
        most: room for so many states; it is taken only as it is needed.
        begun: goes on from here; without it, from the initial states.
    """

    def __init__(
        self,
        program: Program,
        final: Expr | None,
        *,
        threads: int = 2,
        store: CodeStore | None = None,
        most: int = MOST_STATES,
        begun: PythonSpace | None = None,
    ) -> None:
        super().__init__(program, final)
        self._store = store
        self._fixed = program.fixed
        self._width = words_in(program.fixed)
        self._record = self._width + 2
        self._compile()
        self._threads = threads
        self._round = ALONE if threads == 1 else TOGETHER
        self._pool = ThreadPoolExecutor(1)
        self._count = 0
        self._states = reserved(most * self._width)
        self._parents = reserved(-(-most // 2)).view(np.int32)
        size = (self._round // threads) * max(1, len(self._fixed.live))
        self._halves = [
            Half(
                at,
                len(program.actions),
                [reserved(size * self._record) for _ in range(threads)],
                reserved(self._round),
            )
            for at in range(threads)
        ]
        self._slots: list[Words] = []
        self._new = [reserved(2 * size * threads) for _ in range(threads)]
        for half, new in zip(self._halves, self._new, strict=True):
            half.frame[Frame.ROUTE] = threads - 1
            half.owner[Owner.NEW] = new.ctypes.data
            half.owner[Owner.STATES] = self._states.ctypes.data
            half.owner[Owner.PARENTS] = self._parents.ctypes.data
        self._begin(PythonSpace(program, final) if begun is None else begun)

    def _compile(self) -> None:
        number, pointer = c_int64, c_void_p
        steps = Code(steps_module(self._fixed, self.program.bounded), self._store)
        kernel = Code(kernel_module(self._width), self._store)
        self._codes = [steps, kernel]
        (self._expand,) = steps.functions(expand=(None, pointer, pointer, number, number, number))
        self._absorb, self._settle, self._rehash, self._targets, self._hash = kernel.functions(
            absorb=(None, pointer, pointer, number),
            settle=(None, pointer, pointer, number, number),
            rehash=(None, pointer, number, number, number),
            targets=(None, pointer, pointer, number, pointer, number, pointer),
            hash=(number, pointer),
        )
        self._field = dispatch_field(self._fixed.layout, (a for _, a in self._fixed.live))
        self._is_final = self._checks([self.final])[1]

    def _checks(self, exprs: Sequence[Expr]) -> tuple[Callable[..., int], Callable[..., int]]:
        code = Code(checks_module(self._fixed, exprs, self._field), self._store)
        self._codes.append(code)
        scan, bits = code.functions(
            scan=(c_int64, c_void_p, c_int64, c_int64, c_void_p),
            bits=(None, c_void_p, c_int64, c_int64, c_void_p),
        )
        return scan, bits

    def _begin(self, begun: PythonSpace) -> None:
        """Take over what was found so far."""
        count = self._count = len(begun)
        self._states[: count * self._width] = self._rows(list(begun)).ravel()
        self._parents[:count] = [begun.parent(index) for index in range(count)]
        slots = FIRST_SLOTS
        while count > FULL * slots * self._threads:
            slots *= 2
        self._grow(slots)
        half = self._halves[0]
        half.taken[:], half.cuts[:], below = begun.counts()
        for action, state in below.items():
            half.below[action] = begun.index(state) or 0
        self.finals, self.deadlocks = begun.finals, begun.deadlocks

    def _rows(self, states: list[int]) -> Words:
        rows = words_of(states, self.program.layout.words * WORD_BITS)
        assert rows.shape[1] == self._width
        return rows

    def __len__(self) -> int:
        return self._count

    def state(self, index: int) -> int:
        row = self._states[index * self._width : (index + 1) * self._width]
        return sum(int(word) << WIDE * at for at, word in enumerate(row))

    def index(self, state: int) -> int | None:
        row = self._rows([state])[0]
        mixed = self._hash(row.ctypes.data) & 0xFFFFFFFFFFFFFFFF
        found = self._found(np.array([*row.tolist(), mixed, 0], dtype=np.uint64))[0]
        return int(found) if found >= 0 else None

    def _found(self, records: Words) -> npt.NDArray[np.int32]:
        count = len(records) // self._record
        out = np.empty(count, dtype=np.int32)
        owners = [half.owner.ctypes.data for half in self._halves]
        route = self._threads - 1
        self._targets(owners[0], owners[-1], route, records.ctypes.data, count, out.ctypes.data)
        return out

    def parent(self, index: int) -> int:
        return int(self._parents[index])

    def expand(self, first: int, end: int) -> None:
        for start in range(first, end, self._round):
            self._step(start, min(end, start + self._round))

    def _step(self, start: int, end: int) -> None:
        """A round: write records, take them in, look at the states without a step."""
        middle = start + (end - start) // self._threads
        spans = [(start, middle), (middle, end)] if self._threads == 2 else [(start, end)]

        def step(half: Half) -> None:
            half.rewind()
            first, last = spans[half.at]
            self._expand(half.frame.ctypes.data, self._states.ctypes.data, first, last, start)

        self._each(step, alone=end - start < FEW)
        self._take_in(start)
        for half in self._halves:
            if len(half.ended()):
                self._sort_ends(half.ended())

    def _each(self, work: Callable[[Half], None], *, alone: bool) -> None:
        """Do something for each half, at the same time unless it is too little."""
        if alone or self._threads == 1:
            for half in self._halves:
                work(half)
            return
        other = self._pool.submit(work, self._halves[1])
        work(self._halves[0])
        other.result()

    def _take_in(self, start: int) -> None:
        """Look up all records of a round; the new states get the next indexes."""
        written = [[half.written(b) for half in self._halves] for b in range(self._threads)]
        records = sum(map(sum, written)) // self._record
        slots = len(self._slots[0])
        while (self._count + records) > FULL * slots * self._threads:
            slots *= 2
        if slots > len(self._slots[0]):
            self._grow(slots)

        def absorb(half: Half) -> None:
            for writer, count in zip(self._halves, written[half.at], strict=True):
                begin = writer.buckets[half.at].ctypes.data
                self._absorb(half.owner.ctypes.data, begin, count // self._record)

        self._each(absorb, alone=records < 4 * FEW)
        base = self._count
        nothing = np.zeros(len(Owner), dtype=np.uint64)

        def settle(half: Half) -> None:
            other = self._halves[1 - half.at].owner if self._threads == 2 else nothing
            self._settle(half.owner.ctypes.data, other.ctypes.data, base, start)

        self._each(settle, alone=records < 4 * FEW)
        self._count += sum(int(half.owner[Owner.COUNT]) for half in self._halves)

    def _grow(self, slots: int) -> None:
        """Slots for more states, with those there are put in anew."""
        self._slots = [reserved(slots) for _ in self._halves]

        def rehash(half: Half) -> None:
            half.owner[Owner.SLOTS] = self._slots[half.at].ctypes.data
            half.owner[Owner.MASK] = slots - 1
            route = self._threads - 1
            self._rehash(half.owner.ctypes.data, route, half.at, self._count)

        self._each(rehash, alone=self._count < 4 * FEW)

    def _sort_ends(self, ends: Words) -> None:
        """Tell final states from deadlocks; a state whose only steps were cut is neither."""
        rows = self._states[: self._count * self._width].reshape(-1, self._width)[ends]
        said = np.empty(len(ends), dtype=np.uint64)
        self._is_final(rows.ctypes.data, 0, len(ends), said.ctypes.data)
        self.finals += int(said.sum())
        for index in ends[said == 0].tolist():
            state = self.state(index)
            if not self.program.enabled(state):
                self.deadlocks.append(state)

    def scanner(self, exprs: Sequence[Expr]) -> Scanner:
        scan = self._checks(exprs)[0]
        wanted_words = np.zeros(len(exprs) // 64 + 1, dtype=np.uint64)

        def search(first: int, end: int, wanted: int) -> int:
            for at in range(len(wanted_words)):
                wanted_words[at] = wanted >> 64 * at & 0xFFFFFFFFFFFFFFFF
            return scan(self._states.ctypes.data, first, end, wanted_words.ctypes.data)

        return search

    def bits(self, exprs: Sequence[Expr]) -> Words:
        out = np.empty(self._count, dtype=np.uint64)
        self._checks(exprs)[1](self._states.ctypes.data, 0, self._count, out.ctypes.data)
        return out

    def graph(self, levels: Sequence[int], expanded: int) -> Graph:
        half = Half(
            0, len(self.program.actions), [self._halves[0].buckets[0]], self._halves[0].ends
        )
        half.frame[Frame.MARK] = 1
        steps = np.zeros(len(self) + 1, dtype=np.int64)
        targets: list[npt.NDArray[np.int32]] = [np.zeros(0, dtype=np.int32)]
        actions: list[npt.NDArray[np.int16]] = [np.zeros(0, dtype=np.int16)]
        size = self._round // self._threads
        for start in range(0, expanded, size):
            end = min(expanded, start + size)
            half.rewind()
            self._expand(half.frame.ctypes.data, self._states.ctypes.data, start, end, start)
            records = half.buckets[0][: half.written(0)]
            said = records.reshape(-1, self._record)[:, -1]
            places = (said & np.uint64(0xFFFF)).astype(np.int64)
            steps[start + 1 : end + 1] = np.bincount(places, minlength=end - start)
            actions.append((said >> np.uint64(16) & np.uint64(0xFFFF)).astype(np.int16))
            targets.append(self._found(records))
        rows = self._states[: self._count * self._width].reshape(-1, self._width)
        return Graph(
            states=rows,
            parents=self._parents[: self._count],
            levels=tuple(levels),
            first=np.cumsum(steps),
            targets=np.concatenate(targets),
            actions=np.concatenate(actions),
            expanded=expanded,
        )

    def counts(self) -> tuple[list[int], list[int], dict[int, int]]:
        taken = np.sum([half.taken for half in self._halves], axis=0)
        cuts = np.sum([half.cuts for half in self._halves], axis=0)
        below = np.minimum(self._halves[0].below, self._halves[-1].below)
        first = {
            action: self.state(int(index))
            for action, index in enumerate(below)
            if index != ~np.uint64(0)
        }
        return [int(n) for n in taken], [int(n) for n in cuts], first

    def memory(self) -> int:
        """States, parents, and the slots before and after the next growth."""
        slots = sum(map(len, self._slots))
        return self._count * (8 * self._width + 4) + 8 * 3 * slots
