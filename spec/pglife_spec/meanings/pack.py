"""Layout: how a state of a machine is packed into one Python int. Begin with Layout, then Field.

Fields lie in words of 30 bits and never cross from one to the next: that is the size of a digit
of Python's integers, and arithmetic within one digit is several times as fast as beyond it.
"""

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pglife_spec.lang.expr import BOOL, INT, EnumSort, LanguageError, Sort, Value, Var
from pglife_spec.lang.machine import Config, Machine

WORD_BITS = 30
DEFAULT_BOUND = 3
"""The largest value of a counter that names no bound, unless the configuration has its name."""


@dataclass(frozen=True)
class Field:
    """Where one variable lies, and what values it takes: 0 to `top`."""

    index: int
    var: Var
    word: int
    shift: int
    width: int
    top: int

    @property
    def name(self) -> str:
        return self.var.name

    @property
    def sort(self) -> Sort:
        return self.var.sort

    @property
    def offset(self) -> int:
        """The place of its lowest bit in the whole state."""
        return self.word * WORD_BITS + self.shift

    @property
    def mask(self) -> int:
        return (1 << self.width) - 1

    def value(self, code: int) -> Value:
        """The value that a number in this field stands for."""
        if isinstance(self.sort, EnumSort):
            return self.sort.members[code]
        return bool(code) if self.sort == BOOL else code

    def code(self, value: Value) -> int:
        """The number that stands for a value; LanguageError where it does not fit."""
        if isinstance(self.sort, EnumSort):
            if isinstance(value, self.sort.cls):
                return self.sort.code(value)
        elif self.sort == BOOL:
            if isinstance(value, bool):
                return int(value)
        elif isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= self.top:
            return value
        limit = "" if isinstance(self.sort, EnumSort) or self.sort == BOOL else f" 0..{self.top}"
        raise LanguageError(f"{self.name} takes {self.sort}{limit}, got {value!r}")


class Layout:
    """The fields of a machine's states under one configuration, in order of declaration."""

    def __init__(self, machine: Machine, config: Config) -> None:
        fields: list[Field] = []
        word = shift = 0
        for index, var in enumerate(machine.variables):
            top = _top(var, config)
            width = 0 if var.local else max(1, top.bit_length())
            if width > WORD_BITS:
                raise LanguageError(f"the bound of {var.name} is too large to explore: {top}")
            if shift + width > WORD_BITS:
                word, shift = word + 1, 0
            fields.append(Field(index, var, word, shift, width, top))
            shift += width
        self.fields = tuple(fields)
        groups: dict[str, list[Field]] = {}
        for field in fields:
            if field.sort == INT and not field.var.local:
                groups.setdefault(field.var.bound or field.name, []).append(field)
        #: Counters that share a bound: their sum is at most the bound.
        self.groups = tuple(tuple(group) for group in groups.values())
        self.by_name = {f.name: f for f in fields}
        self.words = word + 1

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def pack(self, values: Mapping[str, Value]) -> int:
        """The state with these values; every variable needs one."""
        unknown = set(values) - set(self.by_name)
        if unknown:
            raise LanguageError(f"no such variable: {', '.join(sorted(unknown))}")
        state = 0
        for field in self.fields:
            if field.name not in values:
                raise LanguageError(f"no value for variable {field.name}")
            state |= field.code(values[field.name]) << field.offset
        return state

    def unpack(self, state: int) -> dict[str, Value]:
        """The values of a state by name, in order of declaration."""
        return {f.name: f.value(state >> f.offset & f.mask) for f in self.fields}


def _top(var: Var, config: Config) -> int:
    if isinstance(var.sort, EnumSort):
        return len(var.sort.members) - 1
    if var.sort == BOOL:
        return 1
    if var.bound is None:
        return config.bounds.get(var.name, DEFAULT_BOUND)
    if var.bound not in config.bounds:
        raise LanguageError(f"configuration {config.name} has no bound {var.bound}, of {var.name}")
    return config.bounds[var.bound]


def label(value: object) -> str:
    """A value as people read it: enum members under their name, truth in lower case."""
    if isinstance(value, enum.Enum):
        return value.name
    return str(value).lower() if isinstance(value, bool) else str(value)
