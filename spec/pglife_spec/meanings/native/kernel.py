"""The set of states reached, as LLVM IR: open addressing, with indexes of states in its slots.

Begin with kernel_module(). A slot is 0, or has the lower half of the state's hash above and the
state's index plus one below. Bits 32 to 62 of the hash say where a state's slots begin; bit 63 says
which owner, if there are two, so that each half of the set is written by one thread only.

Records are read in blocks: memory that a block will need is asked for before it is read.
"""

import enum

from pglife_spec.meanings.native.machine import CUT_WORD, PRELUDE
from pglife_spec.meanings.native.text import Function, hash_of

BLOCK = 32
FRESH = 1 << 31
"""Set in a slot whose state is new in this round and has no index yet."""

LOW = (1 << 32) - 1


class Owner(enum.IntEnum):
    """The places of the array that describes one half of the set.

    SLOTS has MASK + 1 slots. NEW is an array of the records that were new in this round, each with
    its slot, and COUNT says how many; STATES and PARENTS are the arrays by index.
    """

    SLOTS = 0
    MASK = 1
    NEW = 2
    COUNT = 3
    STATES = 4
    PARENTS = 5


def kernel_module(width: int) -> str:
    """`absorb`, `settle`, `rehash` and `targets` for states of so many words."""
    parts = [_absorb(width), _settle(width), _rehash(width), _targets(width), _hash(width)]
    return "\n".join([PRELUDE, *parts])


def _first_slot(f: Function, mixed: str, mask: str) -> str:
    return f.compute("and", f.compute("lshr", mixed, 32), mask)


def _next_slot(f: Function, slot: str, mask: str) -> str:
    return f.compute("and", f.compute("add", slot, 1), mask)


def _same(f: Function, width: int, one: str, other: str) -> str:
    differs = "0"
    for at in range(width):
        differs = f.compute("or", differs, f.compute("xor", f.field(one, at), f.field(other, at)))
    return f.compare("eq", differs, 0)


def _ask_ahead(f: Function, width: int, owner: str, record: str) -> None:
    """Ask for the state that the first slot of a record points to, if it may be the same."""
    mixed = f.field(record, width)
    held = f.field(f.pointer(owner, Owner.SLOTS), _first_slot(f, mixed, f.field(owner, Owner.MASK)))
    differs = f.compute("lshr", f.compute("xor", f.compute("shl", mixed, 32), held), 32)
    low = f.compute("and", held, LOW)
    index = f.compute("sub", low, 1)
    likely = f.let(f"and i1 {f.compare('eq', differs, 0)}, {f.compare('ult', index, FRESH - 1)}")
    with f.when(likely):
        f.prefetch(f.at(f.pointer(owner, Owner.STATES), f.compute("mul", index, width)))


def _absorb(width: int) -> str:
    """`absorb(owner, first, end)`: find the records in the set, and note those that are new."""
    size = width + 2
    f = Function("define void @absorb(ptr %owner, ptr %first, i64 %count)")
    mask, slots = f.field("%owner", Owner.MASK), f.pointer("%owner", Owner.SLOTS)
    with f.count("0", "%count", BLOCK) as block:
        limit = f.compute("add", block, BLOCK)
        end = f.let(f"call i64 @llvm.umin.i64(i64 {limit}, i64 %count)")
        with f.count(block, end) as at:
            record = f.at("%first", f.compute("mul", at, size))
            f.prefetch(f.at(slots, _first_slot(f, f.field(record, width), mask)))
        with f.count(block, end) as at:
            _ask_ahead(f, width, "%owner", f.at("%first", f.compute("mul", at, size)))
        with f.count(block, end) as at:
            _absorb_one(f, width, f.at("%first", f.compute("mul", at, size)), slots, mask)
    f.do("ret void")
    return f.text() + "declare i64 @llvm.umin.i64(i64, i64)\n"


def _absorb_one(f: Function, width: int, record: str, slots: str, mask: str) -> None:
    mixed = f.field(record, width)
    slot = f.slot(_first_slot(f, mixed, mask))
    high = f.compute("shl", mixed, 32)
    with f.forever() as done:
        now = f.get(slot)
        place = f.at(slots, now)
        held = f.get(place)
        with f.when(f.compare("eq", held, 0)):
            count = f.field("%owner", Owner.COUNT)
            new = f.at(f.pointer("%owner", Owner.NEW), f.compute("shl", count, 1))
            f.do(f"store ptr {record}, ptr {new}")
            f.do(f"store ptr {place}, ptr {f.at(new, 1)}")
            low = f.compute("or", count, FRESH)
            f.set(place, f.compute("or", high, low))
            f.set(f.at("%owner", Owner.COUNT), f.compute("add", count, 1))
            f.jump(done)
            f.place(f.label("never"))
        differs = f.compute("lshr", f.compute("xor", high, held), 32)
        with f.when(f.compare("eq", differs, 0)):
            low = f.compute("and", held, LOW)
            fresh, old, compare = f.label("fresh"), f.label("old"), f.label("compare")
            f.branch(f.compare("uge", low, FRESH), fresh, old)
            f.place(fresh)
            there = f.compute("shl", f.compute("sub", low, FRESH), 1)
            other = f.let(f"load ptr, ptr {f.at(f.pointer('%owner', Owner.NEW), there)}")
            f.jump(compare)
            f.place(old)
            row = f.compute("mul", f.compute("sub", low, 1), width)
            known = f.at(f.pointer("%owner", Owner.STATES), row)
            f.jump(compare)
            f.place(compare)
            state = f.let(f"phi ptr [{other}, %{fresh}], [{known}, %{old}]")
            again = f.label("again")
            f.branch(_same(f, width, record, state), done, again)
            f.place(again)
        f.set(slot, _next_slot(f, now, mask))


def _settle(width: int) -> str:
    """`settle(owner, other, base, start)`: give the new states their indexes, in the order of their
    records' numbers in both halves; `start` is the first state of the round."""
    f = Function("define void @settle(ptr %owner, ptr %other, i64 %base, i64 %start)")
    count, rivals = f.field("%owner", Owner.COUNT), f.field("%other", Owner.COUNT)
    mine, theirs = f.pointer("%owner", Owner.NEW), f.pointer("%other", Owner.NEW)
    states, parents = f.pointer("%owner", Owner.STATES), f.pointer("%owner", Owner.PARENTS)
    passed = f.slot("0")
    with f.count("0", count) as at:
        entry = f.at(mine, f.compute("shl", at, 1))
        record, place = f.pointer(entry, 0), f.pointer(entry, 1)
        meta = f.field(record, width + 1)
        with f.forever() as done:
            now = f.get(passed)
            more, earlier = f.label("more"), f.label("earlier")
            f.branch(f.compare("ult", now, rivals), more, done)
            f.place(more)
            rival = f.pointer(f.at(theirs, f.compute("shl", now, 1)), 0)
            f.branch(f.compare("ult", f.field(rival, width + 1), meta), earlier, done)
            f.place(earlier)
            f.set(passed, f.compute("add", now, 1))
        index = f.compute("add", f.compute("add", "%base", at), f.get(passed))
        row = f.at(states, f.compute("mul", index, width))
        for word in range(width):
            f.set(f.at(row, word), f.field(record, word))
        parent = f.compute("add", "%start", f.compute("and", meta, 0xFFFF))
        narrow = f.let(f"trunc i64 {parent} to i32")
        f.do(f"store i32 {narrow}, ptr {f.let(f'getelementptr i32, ptr {parents}, i64 {index}')}")
        high = f.compute("and", f.get(place), -1 << 32)
        f.set(place, f.compute("or", high, f.compute("add", index, 1)))
    f.do("ret void")
    return f.text()


def _rehash(width: int) -> str:
    """`rehash(owner, route, half, count)`: put all states of a half into its slots, all empty."""
    f = Function("define void @rehash(ptr %owner, i64 %route, i64 %half, i64 %count)")
    mask, slots = f.field("%owner", Owner.MASK), f.pointer("%owner", Owner.SLOTS)
    states = f.pointer("%owner", Owner.STATES)
    with f.count("0", "%count", BLOCK) as block:
        limit = f.compute("add", block, BLOCK)
        end = f.let(f"call i64 @llvm.umin.i64(i64 {limit}, i64 %count)")
        with f.count(block, end) as index:
            row = f.at(states, f.compute("mul", index, width))
            mixed = hash_of(f, [f.field(row, at) for at in range(width)])
            f.prefetch(f.at(slots, _first_slot(f, mixed, mask)))
        with f.count(block, end) as index:
            row = f.at(states, f.compute("mul", index, width))
            mixed = hash_of(f, [f.field(row, at) for at in range(width)])
            mine = f.compute("and", f.compute("lshr", mixed, 63), "%route")
            with f.when(f.compare("eq", mine, "%half")):
                place = _empty(f, slots, mixed, mask)
                held = f.compute("or", f.compute("shl", mixed, 32), f.compute("add", index, 1))
                f.set(place, held)
    f.do("ret void")
    return f.text()


def _empty(f: Function, slots: str, mixed: str, mask: str) -> str:
    slot = f.slot(_first_slot(f, mixed, mask))
    with f.forever() as done:
        held = f.field(slots, f.get(slot))
        more = f.label("more")
        f.branch(f.compare("eq", held, 0), done, more)
        f.place(more)
        f.set(slot, _next_slot(f, f.get(slot), mask))
    return f.at(slots, f.get(slot))


def _targets(width: int) -> str:
    """`targets(owners, first, count, out)`: the index of each record's state, or -1."""
    size = width + 2
    f = Function(
        "define void @targets(ptr %one, ptr %two, i64 %route, ptr %first, i64 %count, ptr %out)"
    )
    with f.count("0", "%count", BLOCK) as block:
        limit = f.compute("add", block, BLOCK)
        end = f.let(f"call i64 @llvm.umin.i64(i64 {limit}, i64 %count)")
        with f.count(block, end) as at:
            record = f.at("%first", f.compute("mul", at, size))
            mixed = f.field(record, width)
            owner = _owner(f, mixed)
            mask = f.field(owner, Owner.MASK)
            f.prefetch(f.at(f.pointer(owner, Owner.SLOTS), _first_slot(f, mixed, mask)))
        with f.count(block, end) as at:
            record = f.at("%first", f.compute("mul", at, size))
            _ask_ahead(f, width, _owner(f, f.field(record, width)), record)
        with f.count(block, end) as at:
            record = f.at("%first", f.compute("mul", at, size))
            index = _found(f, width, record)
            narrow = f.let(f"trunc i64 {index} to i32")
            f.do(f"store i32 {narrow}, ptr {f.let(f'getelementptr i32, ptr %out, i64 {at}')}")
    f.do("ret void")
    return f.text()


def _owner(f: Function, mixed: str) -> str:
    half = f.compute("and", f.compute("lshr", mixed, 63), "%route")
    return f.let(f"select i1 {f.compare('eq', half, 0)}, ptr %one, ptr %two")


def _found(f: Function, width: int, record: str) -> str:
    mixed = f.field(record, width)
    owner = _owner(f, mixed)
    mask, slots = f.field(owner, Owner.MASK), f.pointer(owner, Owner.SLOTS)
    states = f.pointer(owner, Owner.STATES)
    slot, result = f.slot(_first_slot(f, mixed, mask)), f.slot("-1")
    with f.forever() as done:
        look, held_there = f.label("look"), f.label("held")
        f.branch(f.compare("eq", f.field(record, 0), CUT_WORD), done, look)
        f.place(look)
        held = f.field(slots, f.get(slot))
        f.branch(f.compare("eq", held, 0), done, held_there)
        f.place(held_there)
        index = f.compute("sub", f.compute("and", held, LOW), 1)
        differs = f.compute("lshr", f.compute("xor", f.compute("shl", mixed, 32), held), 32)
        with f.when(f.compare("eq", differs, 0)):
            row = f.at(states, f.compute("mul", index, width))
            hit, again = f.label("hit"), f.label("again")
            f.branch(_same(f, width, record, row), hit, again)
            f.place(hit)
            f.set(result, index)
            f.jump(done)
            f.place(again)
        f.set(slot, _next_slot(f, f.get(slot), mask))
    return f.get(result)


def _hash(width: int) -> str:
    """`hash(state)`: the hash that `expand` writes into a record."""
    f = Function("define i64 @hash(ptr %state)")
    f.do(f"ret i64 {hash_of(f, [f.field('%state', at) for at in range(width)])}")
    return f.text()


def bytes_per_state(width: int) -> int:
    """Bytes of a state and its parent, without its slots."""
    return 8 * width + 4
