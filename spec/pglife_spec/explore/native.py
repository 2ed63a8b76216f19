"""The states reached, stepped by native code on both cores. Begin with NativeSpace.

A round steps some states. Each thread steps half of them and writes records of where they lead,
apart for each half of the hashes; then each thread looks up one half of the hashes; then the new
states get indexes in the order of the records, so that two threads find what one finds.
"""

import mmap
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ctypes import c_int64, c_void_p

import numpy as np
import numpy.typing as npt

from pglife_spec.explore.graph import WORD, Graph, words_of
from pglife_spec.explore.space import PythonSpace, Scanner, Space
from pglife_spec.lang.expr import Expr
from pglife_spec.meanings.native.engine import Code
from pglife_spec.meanings.native.kernel import LINE, Owner, kernel_module, stride
from pglife_spec.meanings.native.machine import Frame, checks_module, steps_module
from pglife_spec.meanings.native.values import Words
from pglife_spec.meanings.pack import WORD_BITS
from pglife_spec.meanings.python.codegen import dispatch_field
from pglife_spec.meanings.python.program import Program
from pglife_spec.meanings.store import CodeStore

Words64 = npt.NDArray[np.uint64]

ALONE, TOGETHER = 4096, 1 << 16
"""States in a round of one thread, small enough for the caches, and of two."""

FEW = 2048
"""So few states are not worth waking a thread for."""

FULL = 0.7
"""Share of the slots that may be taken."""

FIRST_LINES = 1 << 12

SCANNED = 1 << 24
"""With more states than this one is looked for by reading all, rather than by an index of all."""

MOST_STATES = (1 << 31) - 2
NO_RESERVE = 0x4000 if sys.platform == "linux" else 0


def reserved(size: int) -> Words64:
    """Zeroes, of which only what is touched takes memory."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE
    memory = mmap.mmap(-1, max(8 * size, mmap.PAGESIZE), flags=flags)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, dtype=np.uint64)[:size]


class Half:
    """What one thread has: a frame to step states, and its half of the set.

    Args:
        buckets: where the records go that it writes, for each half.
        record: words of a record.
    """

    def __init__(self, at: int, actions: int, buckets: list[Words64], ends: Words64) -> None:
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

    def ended(self) -> Words64:
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
        initial = [program.unpack(state) for state in program.initial]
        self._lies = Words(self._fixed.layout, self._fixed.frozen(initial))
        self._width = self._lies.width
        self._record, self._stride = self._width + 2, stride(self._width)
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
        most_lines = FIRST_LINES
        while self._is_full(most_lines, most):
            most_lines *= 2
        self._lines = [reserved(most_lines * LINE) for _ in self._halves]
        self._indexes, self._indexed = np.zeros(0, dtype=np.uint64), 0
        self._new = [reserved(size * threads) for _ in range(threads)]
        for half, new in zip(self._halves, self._new, strict=True):
            half.frame[Frame.ROUTE] = threads - 1
            half.owner[Owner.NEW] = new.ctypes.data
            half.owner[Owner.LINES] = self._lines[half.at].ctypes.data
            half.owner[Owner.STATES] = self._states.ctypes.data
            half.owner[Owner.PARENTS] = self._parents.ctypes.data
        self._begin(PythonSpace(program, final) if begun is None else begun)

    def _compile(self) -> None:
        number, pointer = c_int64, c_void_p
        steps = Code(steps_module(self._fixed, self._lies), self._store)
        kernel = Code(kernel_module(self._width), self._store)
        self._codes = [steps, kernel]
        (self._expand,) = steps.functions(expand=(None, pointer, pointer, number, number, number))
        (
            self._absorb,
            self._settle,
            self._fill,
            self._double,
            self._make_index,
            self._targets,
            self._hash,
        ) = kernel.functions(
            absorb=(None, pointer, pointer, number),
            settle=(None, pointer, pointer, number, number),
            fill=(None, pointer, number, number, number),
            double=(None, pointer),
            index=(None, pointer, number, pointer, number),
            targets=(None, pointer, number, pointer, pointer, number, pointer),
            hash=(number, pointer),
        )
        field = dispatch_field(self._fixed.layout, (a for _, a in self._fixed.live))
        self._field = field if field is not None and field.name in self._lies.places else None
        self._is_final = self._checks([self.final])[1]

    def _checks(self, exprs: Sequence[Expr]) -> tuple[Callable[..., int], Callable[..., int]]:
        code = Code(checks_module(self._fixed, self._lies, exprs, self._field), self._store)
        self._codes.append(code)
        scan, bits = code.functions(
            scan=(c_int64, c_void_p, c_int64, c_int64, c_void_p),
            bits=(None, c_void_p, c_int64, c_int64, c_void_p),
        )
        return scan, bits

    def _begin(self, begun: PythonSpace) -> None:
        """Take over what was found so far."""
        count = self._count = len(begun)
        self._states[: count * self._width] = self._packed(begun)
        self._parents[:count] = [begun.parent(index) for index in range(count)]
        lines = FIRST_LINES
        while self._is_full(lines, count):
            lines *= 2
        self._set_lines(lines)
        for half in self._halves:
            self._fill(half.owner.ctypes.data, self._threads - 1, half.at, count)
        half = self._halves[0]
        half.taken[:], half.cuts[:], below = begun.counts()
        for action, state in below.items():
            half.below[action] = begun.index(state) or 0
        self.finals, self.deadlocks = begun.finals, begun.deadlocks

    def _packed(self, states: Iterable[int]) -> Words64:
        rows = [self._lies.pack(state) for state in states]
        return np.array(rows, dtype=np.uint64).ravel()

    def __len__(self) -> int:
        return self._count

    def state(self, index: int) -> int:
        row = self._states[index * self._width : (index + 1) * self._width]
        return self._lies.unpack(row.tolist())

    def index(self, state: int) -> int | None:
        words = self._lies.pack(state)
        if words is None:
            return None
        row = np.array(words, dtype=np.uint64)
        if self._count > SCANNED and not len(self._indexes):
            same = (self._all() == row).all(axis=1)
            return int(same.argmax()) if same.any() else None
        mixed = self._hash(row.ctypes.data) & 0xFFFFFFFFFFFFFFFF
        found = self._found(np.array([*row.tolist(), mixed, 0], dtype=np.uint64))[0]
        return int(found) if found >= 0 else None

    def _all(self) -> Words64:
        return self._states[: self._count * self._width].reshape(-1, self._width)

    def _plain(self) -> Words64:
        """All states as a Graph has them."""
        layout, rows = self._fixed.layout, self._all()
        plain = np.tile(words_of([self.state(0)], layout.words * WORD_BITS), (self._count, 1))
        for field in layout:
            if field.name in self._lies.places:
                at = self._lies.places[field.name]
                code = rows[:, at.word] >> np.uint64(at.shift) & np.uint64(field.mask)
                word, shift = divmod(field.offset, WORD)
                plain[:, word] &= np.uint64(~(field.mask << shift) % (1 << 64))
                plain[:, word] |= code << np.uint64(shift)
        return plain

    def _found(self, records: Words64) -> npt.NDArray[np.int32]:
        """The indexes of the states of records."""
        states = self._states.ctypes.data
        if self._indexed != self._count:
            size = 1
            while size < 2 * self._count:
                size *= 2
            self._indexes, self._indexed = reserved(size), self._count
            self._make_index(self._indexes.ctypes.data, size - 1, states, self._count)
        count = len(records) // self._record
        out = np.empty(count, dtype=np.int32)
        mask, first = len(self._indexes) - 1, records.ctypes.data
        self._targets(self._indexes.ctypes.data, mask, states, first, count, out.ctypes.data)
        return out

    def parent(self, index: int) -> int:
        return int(self._parents[index])

    def expand(self, first: int, end: int) -> None:
        ends: list[Words64] = []
        for start in range(first, end, self._round):
            self._step(start, min(end, start + self._round))
            ends += [half.ended().copy() for half in self._halves]
        self._sort_ends(np.concatenate(ends))

    def _step(self, start: int, end: int) -> None:
        """A round: write records, and take them in."""
        middle = start + (end - start) // self._threads
        spans = [(start, middle), (middle, end)] if self._threads == 2 else [(start, end)]

        def step(half: Half) -> None:
            half.rewind()
            first, last = spans[half.at]
            self._expand(half.frame.ctypes.data, self._states.ctypes.data, first, last, start)

        self._each(step, alone=end - start < FEW)
        self._take_in(start)

    def _each(self, work: Callable[[Half], object], *, alone: bool) -> None:
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
        while self._is_full(self._count_lines, self._count + records):
            few = self._count_lines < FEW
            self._set_lines(2 * self._count_lines)
            self._each(lambda half: self._double(half.owner.ctypes.data), alone=few)

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

    def _is_full(self, lines: int, states: int) -> bool:
        """Whether so many states are too many for so many lines of each half."""
        return states * self._stride > FULL * lines * LINE * self._threads

    def _set_lines(self, lines: int) -> None:
        self._count_lines = lines
        for half in self._halves:
            half.owner[Owner.MASK] = lines - 1
            half.owner[Owner.SHIFT] = 64 - (lines.bit_length() - 1)

    def _sort_ends(self, ends: Words64) -> None:
        """Tell final states from deadlocks; a state whose only steps were cut is neither."""
        rows = self._all()[ends]
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

    def bits(self, exprs: Sequence[Expr]) -> Words64:
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
        return Graph(
            states=self._plain(),
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
        """States, parents, and the lines after the next growth."""
        return self._count * (8 * self._width + 4) + 16 * self._count_lines * LINE * self._threads
