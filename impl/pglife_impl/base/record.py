"""Records: classes of named and typed fields that never change, cheap to define.

Begin with   Record.
Owns         what a record does: made by place or by name, compared by type and values, matched,
             shown, copied with changes.
Rejected     dataclasses and NamedTuple, which compile source for each class: of the processor time
             that the postmaster takes to load its fifty, and all else, it was a half and a third.
             msgspec makes classes as fast as this, but takes as long to be imported itself.
"""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn, Self, dataclass_transform


@dataclass_transform(frozen_default=True)
class RecordType(type):
    """Makes slots of the annotations; what a field is set to in the class is its default."""

    def __new__(
        cls, name: str, bases: tuple[type, ...], space: dict[str, Any], **options: Any
    ) -> RecordType:
        """A class of records; its fields are its own annotations, in their order."""
        if bases and bases != (Record,):
            raise TypeError(f"{name} would lose the fields of what it inherits from")
        fields = tuple(space.get("__annotations__", ())) if bases else ()
        space["defaults"] = {field: space.pop(field) for field in fields if field in space}
        space["fields"] = space["__slots__"] = space["__match_args__"] = fields
        return super().__new__(cls, name, bases, space, **options)


class Record(metaclass=RecordType):
    """The base of all records; a class of records is not inherited from."""

    fields: ClassVar[tuple[str, ...]]
    defaults: ClassVar[dict[str, Any]]

    def __init__(self, *values: Any, **named: Any) -> None:
        """Fields by place, then by name. TypeError if one is missing, unknown or given twice."""
        by_place = dict(zip(self.fields, values, strict=False))
        given = {**self.defaults, **by_place, **named}
        wrong = len(values) > len(self.fields) or by_place.keys() & named.keys()
        if wrong or given.keys() != set(self.fields):
            raise TypeError(
                f"{type(self).__name__} takes {', '.join(self.fields) or 'nothing'};"
                f" got {len(values)} by place and {', '.join(named) or 'none'} by name"
            )
        for field in self.fields:
            object.__setattr__(self, field, given[field])

    def __setattr__(self, name: str, _: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name} never changes")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name} never goes")

    def as_dict(self) -> dict[str, Any]:
        """The values by name."""
        return {field: getattr(self, field) for field in self.fields}

    def replace(self, **changes: Any) -> Self:
        """The same with other values for some fields."""
        return type(self)(**{**self.as_dict(), **changes})

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.as_dict() == other.as_dict()

    def __hash__(self) -> int:
        return hash((type(self), *self.as_dict().values()))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.as_dict().items())
        return f"{type(self).__name__}({shown})"
