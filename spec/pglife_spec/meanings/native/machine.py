"""A machine's steps and conditions as LLVM IR.

Begin with steps_module(): `expand` writes a record for each step of a row of states. A record has
the words of the state after, its hash, and 64 bits that say where it comes from; see Frame.META.
"""

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import takewhile

from pglife_spec.lang.expr import BOOL, INT, Const, Expr
from pglife_spec.lang.machine import Action
from pglife_spec.meanings.fixed import Fixed
from pglife_spec.meanings.fold import place
from pglife_spec.meanings.native.text import Function, hash_of
from pglife_spec.meanings.native.values import Tables, Values, Words
from pglife_spec.meanings.pack import Field

CUT_WORD = -1
"""The first word of a record that stands for a step cut at a bound."""

TAKEN = -1 << 63
"""Set in the first word of a state in a record and in the set, so that it is never 0."""

WORTH_A_BRANCH = 3
"""So many neighbouring actions are worth a test of their own for what they have in common."""

PRELUDE = "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)\n"


Writer = Callable[[Function, Mapping[str, Expr]], None]
"""Writes the body of a function for known values of variables."""


class Frame(enum.IntEnum):
    """The places of the array through which a thread and `expand` speak.

    OUT and OTHER are where the next record goes, for each half of the hashes; with ROUTE 0 all go
    to OUT. META is what the next record says of itself: its number in the upper 32 bits, 16 bits
    for the action, 16 for the place of the state before in this round. TAKEN, CUTS and BELOW are
    arrays by action: how often it was taken, cut, and the first state from which it goes below
    zero. ENDS is where the next state without a step is noted. With MARK 1 a cut step is a record,
    too, if the action counts as enabled where it is cut. STATE is the state before.
    """

    OUT = 0
    OTHER = 1
    META = 2
    TAKEN = 3
    CUTS = 4
    BELOW = 5
    ENDS = 6
    ROUTE = 7
    MARK = 8
    STATE = 9


def steps_module(fixed: Fixed, lies: Words) -> str:
    """`expand(frame, states, first, end, start)`: a record for each step, and what Frame says.

    Args:
        fixed: the machine.
        lies: how its states lie in words.
    """
    width = lies.width
    parts = [PRELUDE, _emit(width), _cut(width)]
    cases = _cases(fixed, lies, None, "void", _Steps.writer(fixed, lies))
    return "\n".join([*parts, *cases, _expand(width)])


def _params(width: int) -> str:
    return ", ".join(f"i64 %w{at}" for at in range(width))


def _names(width: int) -> list[str]:
    return [f"%w{at}" for at in range(width)]


def _emit(width: int) -> str:
    head = f"define internal void @emit(ptr %frame, {_params(width)}, i64 %action) noinline"
    f = Function(head)
    mixed = hash_of(f, _names(width))
    owner = f.compute("and", f.compute("lshr", mixed, 63), f.field("%frame", Frame.ROUTE))
    place_ = f.at("%frame", owner)
    meta = f.field("%frame", Frame.META)
    said = f.compute("or", meta, f.compute("shl", "%action", 16))
    first = f.compute("or", "%w0", TAKEN)
    _record(f, place_, [first, *_names(width)[1:], mixed, said])
    f.set(f.at("%frame", Frame.META), f.compute("add", meta, 1 << 32))
    counter = f.at(f.pointer("%frame", Frame.TAKEN), "%action")
    f.set(counter, f.compute("add", f.get(counter), 1))
    f.do("ret void")
    return f.text()


def _record(f: Function, cursor: str, values: Sequence[str | int]) -> None:
    out = f.let(f"load ptr, ptr {cursor}")
    for at, value in enumerate(values):
        f.set(f.at(out, at), str(value))
    f.do(f"store ptr {f.at(out, len(values))}, ptr {cursor}")


def _cut(width: int) -> str:
    head = "define internal void @cut(ptr %frame, i64 %action, i1 %below, i1 %shown)"
    f = Function(f"{head} noinline cold")
    counter = f.at(f.pointer("%frame", Frame.CUTS), "%action")
    f.set(counter, f.compute("add", f.get(counter), 1))
    with f.when("%below"):
        first = f.at(f.pointer("%frame", Frame.BELOW), "%action")
        state = f.field("%frame", Frame.STATE)
        earlier = f.compare("ult", state, f.get(first))
        with f.when(earlier):
            f.set(first, state)
    marked = f.compare("ne", f.field("%frame", Frame.MARK), 0)
    with f.when(f.let(f"and i1 %shown, {marked}")):
        said = f.compute("or", f.field("%frame", Frame.META), f.compute("shl", "%action", 16))
        cursor = f.at("%frame", Frame.OUT)
        _record(f, cursor, [CUT_WORD, *[0] * width, said])
    f.do("ret void")
    return f.text()


def _expand(width: int) -> str:
    f = Function("define void @expand(ptr %frame, ptr %states, i64 %first, i64 %end, i64 %start)")
    with f.count("%first", "%end") as state:
        row = f.at("%states", f.compute("mul", state, width))
        words = [f.field(row, at) for at in range(width)]
        meta = f.at("%frame", Frame.META)
        number = f.compute("and", f.get(meta), -1 << 32)
        before = f.compute("or", number, f.compute("sub", state, "%start"))
        f.set(meta, before)
        f.set(f.at("%frame", Frame.STATE), state)
        f.do(f"call void @f(ptr %frame, {', '.join(f'i64 {w}' for w in words)})")
        with f.when(f.compare("eq", f.get(meta), before)):
            _record(f, f.at("%frame", Frame.ENDS), [state])
    f.do("ret void")
    return f.text()


def _cases(
    fixed: Fixed,
    lies: Words,
    by: Field | None,
    result: str,
    write: Writer,
) -> list[str]:
    """`f(frame, words)` and, with a variable, a function for each of its values."""
    width = lies.width
    signature = f"(ptr %frame, {_params(width)})"
    if by is None:
        f = Function(f"define internal {result} @f{signature} noinline")
        write(f, lies.frozen)
        return [f.text()]
    parts: list[str] = []
    chooser = Function(f"define internal {result} @f{signature} alwaysinline")
    at = lies.places[by.name]
    moved = chooser.compute("lshr", f"%w{at.word}", at.shift)
    value = chooser.compute("and", moved, by.mask)
    labels = [chooser.label("case") for _ in range(by.top + 1)]
    targets = " ".join(f"i64 {code}, label %{label}" for code, label in enumerate(labels))
    chooser.do(f"switch i64 {value}, label %{labels[0]} [{targets}]")
    for code, label in enumerate(labels):
        f = Function(f"define internal {result} @f{code}{signature} noinline")
        write(f, {**lies.frozen, by.name: fixed.pool.const(by.value(code), by.sort)})
        parts.append(f.text())
        chooser.place(label)
        call = f"call {result} @f{code}{signature}"
        if result == "void":
            chooser.do(call)
            chooser.do("ret void")
        else:
            chooser.do(f"ret {result} {chooser.let(call)}")
    return [*parts, chooser.text()]


@dataclass(frozen=True)
class _Entry:
    """An action while it is written: the guards left to test, and what all of them fix."""

    index: int
    action: Action
    guards: list[Expr]
    facts: Mapping[str, Expr]


class _Steps:
    """All actions in order. What neighbours have in common is tested once for all of them."""

    def __init__(self, f: Function, fixed: Fixed, lies: Words) -> None:
        self._f = f
        self._fixed = fixed
        self._lies = lies
        self._values = Values(f, Tables(lies), _names(lies.width))

    @classmethod
    def writer(cls, fixed: Fixed, lies: Words) -> Writer:
        """What writes the body of a function for known values."""
        return lambda f, known: cls(f, fixed, lies).write(known)

    def write(self, known: Mapping[str, Expr]) -> None:
        entries: list[_Entry] = []
        for index, action in self._fixed.live:
            found = self._fixed.guards(action, known)
            if found is not None:
                entries.append(_Entry(index, action, *found))
        self._run(entries)
        self._f.do("ret void")

    def _run(self, entries: Sequence[_Entry]) -> None:
        at = 0
        while at < len(entries):
            shared, count = _shared(entries[at:])
            if count < WORTH_A_BRANCH:
                self._one(entries[at])
                at += 1
                continue
            run = [
                replace(e, guards=[g for g in e.guards if all(g is not s for s in shared)])
                for e in entries[at : at + count]
            ]
            with self._where(shared):
                self._run(run)
            at += count

    @contextmanager
    def _where(self, tests: Sequence[Expr]) -> Iterator[str]:
        """What runs only where some conditions hold, cheap ones tested first; the label after."""
        f, after = self._f, self._f.label("next")
        with self._values.scope():
            cheap = [g for g in tests if self._values.is_cheap(g)]
            dear = [g for g in tests if not self._values.is_cheap(g)]
            for part in filter(None, (cheap, dear)):
                inside = f.label("take")
                f.branch(self._values.all_of(part), inside, after)
                f.place(inside)
            yield after
            f.jump(after)
            f.place(after)

    def _one(self, entry: _Entry) -> None:
        """One action: the guards; the bounds; the record."""
        f = self._f
        with self._where(entry.guards) as after:
            outcome = self._fixed.outcome(entry.action, entry.facts)
            changed = {self._fixed.layout.by_name[n]: e for n, e in outcome.after.items()}
            new = {field: self._values.visit(expr) for field, expr in changed.items()}
            counts = [new[field] for field in changed if field.sort == INT]
            words = _after(f, self._lies, changed, new)
            if counts:
                self._check(entry, counts, outcome.fits, after)
            state = ", ".join(f"i64 {word}" for word in words)
            f.do(f"call void @emit(ptr %frame, {state}, i64 {entry.index})")

    def _check(
        self, entry: _Entry, counts: Sequence[str], fits: Sequence[Expr], after: str
    ) -> None:
        """Note a step that goes below zero or over a bound, and leave it out."""
        f = self._f
        tests = [f.compare("sge", value, 0) for value in counts]
        tests += [self._values.visit(fit) for fit in fits]
        inside, missed = f.label("fits"), f.label("cut")
        f.branch(_joined(f, "and", tests), inside, missed)
        f.place(missed)
        below = _joined(f, "or", [f.compare("slt", value, 0) for value in counts])
        # Where its step is cut, only an action of the environment counts as enabled.
        shown = str(entry.action.actor.is_environment).lower()
        f.do(f"call void @cut(ptr %frame, i64 {entry.index}, i1 {below}, i1 {shown})")
        f.jump(after)
        f.place(inside)


def _shared(entries: Sequence[_Entry]) -> tuple[list[Expr], int]:
    """What the longest run of the first actions has in common, and how long it is."""

    def has(entry: _Entry, guard: Expr) -> bool:
        return any(g is guard for g in entry.guards)

    def length(guard: Expr) -> int:
        return sum(1 for _ in takewhile(lambda entry: has(entry, guard), entries))

    longest = max(map(length, entries[0].guards), default=0)
    return [g for g in entries[0].guards if length(g) == longest], longest


def _joined(f: Function, op: str, tests: Sequence[str]) -> str:
    result = tests[0]
    for test in tests[1:]:
        result = f.let(f"{op} i1 {result}, {test}")
    return result


def _after(
    f: Function, where: Words, changed: Mapping[Field, Expr], new: Mapping[Field, str]
) -> list[str]:
    """The words of the state after a step."""
    result: list[str] = []
    for at, word in enumerate(_names(where.width)):
        mask = fixed = 0
        moving: list[str] = []
        for field, expr in changed.items():
            lies = where.places[field.name]
            if lies.word != at:
                continue
            mask |= field.mask << lies.shift
            if isinstance(expr, Const):
                fixed |= (place(expr) & field.mask) << lies.shift
                continue
            value = new[field]
            if field.sort == BOOL:
                value = f.let(f"zext i1 {value} to i64")
            moving.append(f.compute("shl", value, lies.shift))
        if mask:
            word = f.compute("and", word, ~mask)
        if fixed:
            word = f.compute("or", word, fixed)
        for value in moving:
            word = f.compute("or", word, value)
        result.append(word)
    return result


def checks_module(fixed: Fixed, lies: Words, exprs: Sequence[Expr], by: Field | None = None) -> str:
    """`scan(states, first, end, wanted)` gives the first state in which a wanted expression holds,
    else `end`; `wanted` has a bit for each, 64 a word. `bits(states, first, end, out)` writes for
    each state which of the first 64 hold."""
    width, groups = lies.width, max(1, -(-len(exprs) // 64))
    cases = _cases(fixed, lies, by, "i64", lambda f, known: _holding(f, fixed, lies, exprs, known))
    every = ", ".join(["i64 -1", *["i64 0"] * (groups - 1)])
    first = f"@first = internal constant [{groups} x i64] [{every}]"
    return "\n".join([PRELUDE, first, *cases, _scan(width), _bits(width)])


def _holding(
    f: Function, fixed: Fixed, lies: Words, exprs: Sequence[Expr], known: Mapping[str, Expr]
) -> None:
    values = Values(f, Tables(lies), _names(lies.width))
    result = "0"
    for group in range(0, len(exprs), 64):
        bits = "0"
        for at, expr in enumerate(exprs[group : group + 64]):
            folded = fixed.fold(expr, known)
            if folded is not fixed.pool.false:
                truth = f.let(f"zext i1 {values.visit(folded)} to i64")
                bits = f.compute("or", bits, f.compute("shl", truth, at))
        wanted = f.compute("and", bits, f.field("%frame", group // 64))
        result = f.compute("or", result, wanted)
    f.do(f"ret i64 {result}")


def _looked_at(f: Function, width: int, state: str, wanted: str) -> str:
    row = f.at("%states", f.compute("mul", state, width))
    words = ", ".join(f"i64 {f.field(row, at)}" for at in range(width))
    return f.let(f"call i64 @f(ptr {wanted}, {words})")


def _scan(width: int) -> str:
    f = Function("define i64 @scan(ptr %states, i64 %first, i64 %end, ptr %wanted)")
    with f.count("%first", "%end") as state:
        more, hit = f.label("more"), f.label("hit")
        f.branch(f.compare("eq", _looked_at(f, width, state, "%wanted"), 0), more, hit)
        f.place(hit)
        f.do(f"ret i64 {state}")
        f.place(more)
    f.do("ret i64 %end")
    return f.text()


def _bits(width: int) -> str:
    f = Function("define void @bits(ptr %states, i64 %first, i64 %end, ptr %out)")
    with f.count("%first", "%end") as state:
        f.set(f.at("%out", state), _looked_at(f, width, state, "@first"))
    f.do("ret void")
    return f.text()
