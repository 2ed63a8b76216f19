"""The set of states reached, as LLVM IR: open addressing, with the states themselves in its slots.

Begin with kernel_module(). A slot has the words of a state, with TAKEN in the first; an empty one
is 0. The slots of one line of the cache are compared at once, and then those of the next line. Bit
63 of the hash says which owner, if there are two, so that each half of the set is written by one
thread only; the bits below say which line, so that the lines can be doubled in place. That a slot
has no index keeps a look-up to one place in memory; `index` makes a table of indexes when the
search is over.

Records are read in blocks: memory that a block will need is asked for before it is read.
"""

import enum
from collections.abc import Iterator
from contextlib import contextmanager

from pglife_spec.lang.errors import SpecError
from pglife_spec.meanings.native.machine import CUT_WORD, PRELUDE, TAKEN
from pglife_spec.meanings.native.text import Function, hash_of

BLOCK = 64

LINE = 8
"""Words of a line of the cache."""

LOW = (1 << 32) - 1


class Owner(enum.IntEnum):
    """The places of the array that describes one half of the set.

    LINES has MASK + 1 lines, 2 to the power of 64 - SHIFT. NEW is an array of the records that were
    new in this round, and COUNT says how many; STATES and PARENTS are the arrays by index.
    """

    LINES = 0
    MASK = 1
    NEW = 2
    COUNT = 3
    STATES = 4
    PARENTS = 5
    SHIFT = 6


def stride(width: int) -> int:
    """Words of a slot for states of so many words: a line has a whole number of slots.

    Raises:
        SpecError: a state does not fit into a line.
    """
    if width > LINE:
        raise SpecError(f"a state of {width} words does not fit into one line of the cache")
    return 1 << (width - 1).bit_length()


def kernel_module(width: int) -> str:
    """The functions below, without their underscores, for states of so many words."""
    parts = [_absorb, _settle, _fill, _double, _index, _targets, _hash]
    return "\n".join([PRELUDE, INTRINSICS, *(part(width) for part in parts)])


INTRINSICS = """declare i64 @llvm.umin.i64(i64, i64)
declare i64 @llvm.cttz.i64(i64, i1)
"""


@contextmanager
def _blocks(f: Function, count: str) -> Iterator[tuple[str, str]]:
    with f.count("0", count, BLOCK) as block:
        limit = f.compute("add", block, BLOCK)
        yield block, f.let(f"call i64 @llvm.umin.i64(i64 {limit}, i64 {count})")


def _row(f: Function, base: str, index: str, width: int) -> str:
    return f.at(base, f.compute("mul", index, width))


def _words(f: Function, pointer: str, width: int) -> list[str]:
    return [f.field(pointer, at) for at in range(width)]


def _plain(f: Function, words: list[str]) -> list[str]:
    """The words of a state that was marked as taken."""
    return [f.compute("and", words[0], ~TAKEN), *words[1:]]


def _first_line(f: Function, mixed: str, shift: str) -> str:
    return f.compute("lshr", f.compute("shl", mixed, 1), shift)


def _slots(width: int) -> int:
    """A bit for the first word of each slot of a line."""
    return sum(1 << at for at in range(0, LINE, stride(width)))


def _equal(f: Function, line: str, other: str) -> str:
    """Bit k of an integer for each word k of two lines that is the same."""
    same = f.let(f"icmp eq <{LINE} x i64> {line}, {other}")
    return f.let(f"zext i{LINE} {f.let(f'bitcast <{LINE} x i1> {same} to i{LINE}')} to i64")


def _pattern(f: Function, words: list[str]) -> str:
    """A line in which every slot has these words."""
    size, made = stride(len(words)), "zeroinitializer"
    for at in range(LINE):
        if at % size < len(words):
            word = words[at % size]
            made = f.let(f"insertelement <{LINE} x i64> {made}, i64 {word}, i64 {at}")
    return made


def _absorb(width: int) -> str:
    """`absorb(owner, first, count)`: find the records in the set, and note those that are new."""
    size = width + 2
    f = Function("define void @absorb(ptr %owner, ptr %first, i64 %count)")
    shift, lines = f.field("%owner", Owner.SHIFT), f.pointer("%owner", Owner.LINES)
    with _blocks(f, "%count") as (block, end):
        with f.count(block, end) as at:
            mixed = f.field(_row(f, "%first", at, size), width)
            f.prefetch(_row(f, lines, _first_line(f, mixed, shift), LINE))
        with f.count(block, end) as at:
            record = _row(f, "%first", at, size)
            words, known = _words(f, record, width), f.label("known")
            _place(f, words, _first_line(f, f.field(record, width), shift), lines, known)
            count = f.field("%owner", Owner.COUNT)
            f.do(f"store ptr {record}, ptr {f.at(f.pointer('%owner', Owner.NEW), count)}")
            f.set(f.at("%owner", Owner.COUNT), f.compute("add", count, 1))
            f.jump(known)
            f.place(known)
    f.do("ret void")
    return f.text()


def _place(f: Function, words: list[str], first: str, lines: str, known: str) -> None:
    """Write a state into the first empty slot; jump to `known` where it is found before."""
    line, mask = f.slot(first), f.field("%owner", Owner.MASK)
    width, pattern = len(words), _pattern(f, words)
    with f.forever() as done:
        now = f.get(line)
        place = _row(f, lines, now, LINE)
        held = f.let(f"load <{LINE} x i64>, ptr {place}, align 64")
        same, step = _equal(f, held, pattern), 1
        while step < stride(width):
            same = f.compute("and", same, f.compute("lshr", same, step))
            step *= 2
        other = f.label("other")
        hit = f.compute("and", same, _slots(width))
        f.branch(f.compare("ne", hit, 0), known, other)
        f.place(other)
        empty = f.compute("and", _equal(f, held, "zeroinitializer"), _slots(width))
        with f.when(f.compare("ne", empty, 0)):
            lane = f.let(f"call i64 @llvm.cttz.i64(i64 {empty}, i1 true)")
            slot = f.at(place, lane)
            for at, word in enumerate(words):
                f.set(f.at(slot, at), word)
            f.jump(done)
            f.place(f.label("never"))
        f.set(line, f.compute("and", f.compute("add", now, 1), mask))


def _put(f: Function, words: list[str], first: str, lines: str) -> None:
    """Write a state that is in no slot into the first empty one, looked for one by one: a whole
    line cannot be read at once right after a word of it was written."""
    size = stride(len(words))
    slot = f.slot(f.compute("mul", first, LINE))
    all_words = f.compute("mul", f.compute("add", f.field("%owner", Owner.MASK), 1), LINE)
    with f.forever() as done:
        now = f.get(slot)
        more = f.label("more")
        f.branch(f.compare("eq", f.field(lines, now), 0), done, more)
        f.place(more)
        following = f.compute("add", now, size)
        inside = f.compute("sub", all_words, 1)
        f.set(slot, f.compute("and", following, inside))
    place = f.at(lines, f.get(slot))
    for at, word in enumerate(words):
        f.set(f.at(place, at), word)


def _settle(width: int) -> str:
    """`settle(owner, other, base, start)`: give the new states their indexes, in the order of their
    records' numbers in both halves; `start` is the first state of the round."""
    f = Function("define void @settle(ptr %owner, ptr %other, i64 %base, i64 %start)")
    count, rivals = f.field("%owner", Owner.COUNT), f.field("%other", Owner.COUNT)
    mine, theirs = f.pointer("%owner", Owner.NEW), f.pointer("%other", Owner.NEW)
    states, parents = f.pointer("%owner", Owner.STATES), f.pointer("%owner", Owner.PARENTS)
    passed = f.slot("0")
    with f.count("0", count) as at:
        record = f.let(f"load ptr, ptr {f.at(mine, at)}")
        meta = f.field(record, width + 1)
        with f.forever() as done:
            now = f.get(passed)
            more, earlier = f.label("more"), f.label("earlier")
            f.branch(f.compare("ult", now, rivals), more, done)
            f.place(more)
            rival = f.let(f"load ptr, ptr {f.at(theirs, now)}")
            f.branch(f.compare("ult", f.field(rival, width + 1), meta), earlier, done)
            f.place(earlier)
            f.set(passed, f.compute("add", now, 1))
        index = f.compute("add", f.compute("add", "%base", at), f.get(passed))
        row = _row(f, states, index, width)
        for word, value in enumerate(_plain(f, _words(f, record, width))):
            f.set(f.at(row, word), value)
        parent = f.compute("add", "%start", f.compute("and", meta, 0xFFFF))
        narrow = f.let(f"trunc i64 {parent} to i32")
        f.do(f"store i32 {narrow}, ptr {f.let(f'getelementptr i32, ptr {parents}, i64 {index}')}")
    f.do("ret void")
    return f.text()


def _fill(width: int) -> str:
    """`fill(owner, route, half, count)`: put the first states into the lines of their half."""
    f = Function("define void @fill(ptr %owner, i64 %route, i64 %half, i64 %count)")
    lines, shift = f.pointer("%owner", Owner.LINES), f.field("%owner", Owner.SHIFT)
    states = f.pointer("%owner", Owner.STATES)
    with f.count("0", "%count") as at:
        words = _words(f, _row(f, states, at, width), width)
        mixed = hash_of(f, words)
        mine = f.compute("and", f.compute("lshr", mixed, 63), "%route")
        with f.when(f.compare("eq", mine, "%half")):
            marked = [f.compute("or", words[0], TAKEN), *words[1:]]
            _put(f, marked, _first_line(f, mixed, shift), lines)
    f.do("ret void")
    return f.text()


def _double(width: int) -> str:
    """`double(owner)`: after MASK and SHIFT were set for twice as many lines, move the states. From
    the last line to the first, since what was in line k goes to line 2k or the next."""
    f = Function("define void @double(ptr %owner)")
    lines, shift = f.pointer("%owner", Owner.LINES), f.field("%owner", Owner.SHIFT)
    before = f.compute("lshr", f.compute("add", f.field("%owner", Owner.MASK), 1), 1)
    moved = f.let(f"alloca <{LINE} x i64>, align 64")
    with f.count("0", before) as done:
        at = f.compute("sub", f.compute("sub", before, done), 1)
        line = _row(f, lines, at, LINE)
        held = f.let(f"load <{LINE} x i64>, ptr {line}, align 64")
        f.do(f"store <{LINE} x i64> {held}, ptr {moved}, align 64")
        f.do(f"store <{LINE} x i64> zeroinitializer, ptr {line}, align 64")
        for slot in range(0, LINE, stride(width)):
            words = _words(f, f.at(moved, slot), width)
            with f.when(f.compare("ne", words[0], 0)):
                mixed = hash_of(f, _plain(f, words))
                _put(f, words, _first_line(f, mixed, shift), lines)
    f.do("ret void")
    return f.text()


def _low_slot(f: Function, mixed: str) -> str:
    """Where to look first in the table of indexes."""
    return f.compute("and", f.compute("lshr", mixed, 32), "%mask")


def _next_slot(f: Function, slot: str) -> str:
    return f.compute("and", f.compute("add", slot, 1), "%mask")


def _same(f: Function, left: list[str], right: list[str]) -> str:
    differs = "0"
    for one, other in zip(left, right, strict=True):
        differs = f.compute("or", differs, f.compute("xor", one, other))
    return f.compare("eq", differs, 0)


def _index(width: int) -> str:
    """`index(slots, mask, states, count)`: a table of all states; a slot has the lower half of the
    hash above and the index plus one below."""
    f = Function("define void @index(ptr %slots, i64 %mask, ptr %states, i64 %count)")
    with f.count("0", "%count") as index:
        mixed = hash_of(f, _words(f, _row(f, "%states", index, width), width))
        slot = f.slot(_low_slot(f, mixed))
        with f.forever() as done:
            more = f.label("more")
            f.branch(f.compare("eq", f.field("%slots", f.get(slot)), 0), done, more)
            f.place(more)
            f.set(slot, _next_slot(f, f.get(slot)))
        f.set(
            f.at("%slots", f.get(slot)),
            f.compute("or", f.compute("shl", mixed, 32), f.compute("add", index, 1)),
        )
    f.do("ret void")
    return f.text()


def _targets(width: int) -> str:
    """`targets(slots, mask, states, first, count, out)`: the index of each record's state, or -1
    for one that stands for a cut step or was not reached."""
    size = width + 2
    slots = "ptr %slots, i64 %mask, ptr %states"
    f = Function(f"define void @targets({slots}, ptr %first, i64 %count, ptr %out)")
    with _blocks(f, "%count") as (block, end):
        with f.count(block, end) as at:
            mixed = f.field(_row(f, "%first", at, size), width)
            f.prefetch(f.at("%slots", _low_slot(f, mixed)))
        with f.count(block, end) as at:
            mixed = f.field(_row(f, "%first", at, size), width)
            held = f.field("%slots", _low_slot(f, mixed))
            index = f.compute("sub", f.compute("and", held, LOW), 1)
            f.prefetch(_row(f, "%states", index, width))
        with f.count(block, end) as at:
            index = _found(f, width, _row(f, "%first", at, size))
            narrow = f.let(f"trunc i64 {index} to i32")
            f.do(f"store i32 {narrow}, ptr {f.let(f'getelementptr i32, ptr %out, i64 {at}')}")
    f.do("ret void")
    return f.text()


def _found(f: Function, width: int, record: str) -> str:
    mixed, marked = f.field(record, width), _words(f, record, width)
    words = _plain(f, marked)
    slot, result = f.slot(_low_slot(f, mixed)), f.slot("-1")
    with f.forever() as done:
        look, taken = f.label("look"), f.label("taken")
        f.branch(f.compare("eq", marked[0], CUT_WORD), done, look)
        f.place(look)
        held = f.field("%slots", f.get(slot))
        f.branch(f.compare("eq", held, 0), done, taken)
        f.place(taken)
        index = f.compute("sub", f.compute("and", held, LOW), 1)
        differs = f.compute("lshr", f.compute("xor", f.compute("shl", mixed, 32), held), 32)
        with f.when(f.compare("eq", differs, 0)):
            state = _words(f, _row(f, "%states", index, width), width)
            hit, again = f.label("hit"), f.label("again")
            f.branch(_same(f, words, state), hit, again)
            f.place(hit)
            f.set(result, index)
            f.jump(done)
            f.place(again)
        f.set(slot, _next_slot(f, f.get(slot)))
    return f.get(result)


def _hash(width: int) -> str:
    """`hash(state)`: the hash that `expand` writes into a record."""
    f = Function("define i64 @hash(ptr %state)")
    f.do(f"ret i64 {hash_of(f, _words(f, '%state', width))}")
    return f.text()
