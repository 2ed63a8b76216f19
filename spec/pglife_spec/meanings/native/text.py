"""LLVM IR as text, one function at a time. Begin with Function.

Text, because it is written once and parsed once: building it through objects takes ten times as
long as all the rest. Integers are i64, truths i1; locals that change live in slots, which LLVM
turns into registers.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class Function:
    """A function while it is written.

    Args:
        head: its signature, as in `define i64 @f(ptr %p)`.
    """

    def __init__(self, head: str) -> None:
        self._head = head
        self._slots: list[str] = []
        self._lines: list[str] = []
        self._count = 0

    def text(self) -> str:
        body = "\n".join(["entry:", *self._slots, *self._lines])
        return f"{self._head} {{\n{body}\n}}\n"

    def do(self, line: str) -> None:
        """An instruction without a result."""
        self._lines.append(line)

    def let(self, value: str) -> str:
        """An instruction with a result, which is returned by its name."""
        self._count += 1
        self._lines.append(f"%t{self._count} = {value}")
        return f"%t{self._count}"

    def label(self, hint: str = "b") -> str:
        """A name for a block, not yet placed."""
        self._count += 1
        return f"{hint}{self._count}"

    def place(self, label: str) -> None:
        """Begin a block."""
        self._lines.append(f"{label}:")

    def jump(self, label: str) -> None:
        self.do(f"br label %{label}")

    def branch(self, test: str, then: str, other: str) -> None:
        self.do(f"br i1 {test}, label %{then}, label %{other}")

    def slot(self, value: str) -> str:
        """A local that may change: read it with `get`, change it with `set`."""
        self._count += 1
        name = f"%s{self._count}"
        self._slots.append(f"{name} = alloca i64")
        self.set(name, value)
        return name

    def get(self, pointer: str) -> str:
        """The integer at an address."""
        return self.let(f"load i64, ptr {pointer}")

    def set(self, pointer: str, value: str) -> None:
        self.do(f"store i64 {value}, ptr {pointer}")

    def at(self, base: str, index: str | int) -> str:
        """The address of an integer in an array."""
        return self.let(f"getelementptr i64, ptr {base}, i64 {index}")

    def field(self, base: str, index: str | int) -> str:
        """The integer at a place of an array."""
        return self.get(self.at(base, index))

    def pointer(self, base: str, index: int) -> str:
        """The address that stands at a place of an array."""
        return self.let(f"load ptr, ptr {self.at(base, index)}")

    def compute(self, op: str, left: str, right: str | int) -> str:
        """An operation on integers."""
        return self.let(f"{op} i64 {left}, {right}")

    def compare(self, how: str, left: str, right: str | int) -> str:
        """A comparison of integers: `eq`, `ult`, ..."""
        return self.let(f"icmp {how} i64 {left}, {right}")

    def prefetch(self, pointer: str) -> None:
        """Ask for the memory at an address ahead of its use."""
        self.do(f"call void @llvm.prefetch.p0(ptr {pointer}, i32 0, i32 3, i32 1)")

    @contextmanager
    def when(self, test: str) -> Iterator[None]:
        """Instructions that run only where a test is true."""
        inside, after = self.label("when"), self.label("then")
        self.branch(test, inside, after)
        self.place(inside)
        yield
        self.jump(after)
        self.place(after)

    @contextmanager
    def count(self, first: str, end: str, step: int = 1) -> Iterator[str]:
        """A loop over the integers from `first` up to, without, `end`."""
        slot = self.slot(first)
        head, inside, after = self.label("head"), self.label("loop"), self.label("end")
        self.jump(head)
        self.place(head)
        now = self.get(slot)
        self.branch(self.compare("ult", now, end), inside, after)
        self.place(inside)
        yield now
        self.set(slot, self.compute("add", now, step))
        self.jump(head)
        self.place(after)

    @contextmanager
    def forever(self) -> Iterator[str]:
        """A loop that ends by a jump to the label it gives."""
        inside, after = self.label("loop"), self.label("end")
        self.jump(inside)
        self.place(inside)
        yield after
        self.jump(inside)
        self.place(after)


def hash_of(f: Function, words: Sequence[str]) -> str:
    """The hash of a state: all of its 64 bits depend on all of the state."""
    mixed = "0"
    for word, odd in zip(words, _odds(), strict=False):
        mixed = f.compute("mul", f.compute("xor", mixed, word), odd)
        mixed = f.compute("xor", mixed, f.compute("lshr", mixed, 29))
    mixed = f.compute("mul", mixed, MIX)
    return f.compute("xor", mixed, f.compute("lshr", mixed, 32))


MIX = 0x9E3779B97F4A7C15 - (1 << 64)
"""An odd number without pattern, as an i64: 2**64 divided by the golden ratio."""


def _odds() -> Iterator[int]:
    value = 0xBF58476D1CE4E5B9
    while True:
        yield value - (1 << 64) if value >> 63 else value
        value = (value * 0x94D049BB133111EB + 2) % (1 << 64) | 1
