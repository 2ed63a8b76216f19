"""Record: immutable classes of typed fields that are cheap to define.

Rejected: dataclasses and NamedTuple, which compile source for each class. For the 50 classes that
the postmaster imports, that was a half (dataclasses) or a third (NamedTuple) of the processor time
of its start. msgspec defines classes as fast as this, but its own import takes as long.
"""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn, Self, dataclass_transform


@dataclass_transform(frozen_default=True)
class RecordType(type):
    """Turns annotations into slots, and values in the class body into defaults."""

    def __new__(
        cls, name: str, bases: tuple[type, ...], space: dict[str, Any], **options: Any
    ) -> RecordType:
        """Make the class. TypeError if it inherits from another record."""
        if bases and bases != (Record,):
            raise TypeError(f"{name} would lose the fields of what it inherits from")
        fields = tuple(space.get("__annotations__", ())) if bases else ()
        space["defaults"] = {field: space.pop(field) for field in fields if field in space}
        space["fields"] = space["__slots__"] = space["__match_args__"] = fields
        return super().__new__(cls, name, bases, space, **options)


class Record(metaclass=RecordType):
    """Base of records: compared by type and values, matched by position, copied by replace()."""

    fields: ClassVar[tuple[str, ...]]
    defaults: ClassVar[dict[str, Any]]

    def __init__(self, *values: Any, **named: Any) -> None:
        """Set the fields, by position or name. TypeError if one is missing, unknown or doubled."""
        positional = dict(zip(self.fields, values, strict=False))
        given = {**self.defaults, **positional, **named}
        wrong = len(values) > len(self.fields) or positional.keys() & named.keys()
        if wrong or given.keys() != set(self.fields):
            raise TypeError(
                f"{type(self).__name__} takes {', '.join(self.fields) or 'nothing'};"
                f" got {len(values)} by position and {', '.join(named) or 'none'} by name"
            )
        for field in self.fields:
            object.__setattr__(self, field, given[field])

    def __setattr__(self, name: str, _: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name} never changes")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be deleted")

    def as_dict(self) -> dict[str, Any]:
        """The values by name."""
        return {field: getattr(self, field) for field in self.fields}

    def replace(self, **changes: Any) -> Self:
        """A copy with other values for some fields."""
        return type(self)(**{**self.as_dict(), **changes})

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.as_dict() == other.as_dict()

    def __hash__(self) -> int:
        return hash((type(self), *self.as_dict().values()))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.as_dict().items())
        return f"{type(self).__name__}({shown})"
