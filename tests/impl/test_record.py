"""Records: construction, comparison, immutability."""

import pytest

from pglife_impl.base.record import Record


class Empty(Record):
    """No fields."""


class Other(Record):
    """No fields either."""


class Point(Record):
    """Two fields, one with a default."""

    x: int
    y: int = 2

    @property
    def sum(self) -> int:
        """Both together."""
        return self.x + self.y


class Pair(Record):
    """The fields of a point."""

    x: int
    y: int = 2


def test_fields_are_given_by_position_or_name() -> None:
    assert Point(1) == Point(1, 2) == Point(x=1, y=2) == Point(1, y=2)
    assert (Point(1).x, Point(1).y, Point(1).sum) == (1, 2, 3)


@pytest.mark.parametrize(
    ("values", "named"),
    [((), {}), ((), {"y": 1}), ((1, 2, 3), {}), ((1,), {"x": 1}), ((1,), {"z": 1})],
)
def test_each_field_is_given_once(values: tuple[int, ...], named: dict[str, int]) -> None:
    with pytest.raises(TypeError, match="Point takes x, y; got"):
        Point(*values, **named)


def test_records_of_two_classes_are_never_equal() -> None:
    assert Point(1) != Pair(1)
    assert Empty() != Other()
    assert Empty() == Empty()
    assert Point(1) != (1, 2)
    assert len({Point(1), Point(1, 2), Pair(1), Empty(), Other(), Empty()}) == 4


def test_a_record_never_changes() -> None:
    point = Point(1)
    with pytest.raises(AttributeError, match=r"Point\.x never changes"):
        point.x = 2
    with pytest.raises(AttributeError):
        del point.x
    with pytest.raises(AttributeError):
        point.z = 2
    assert point == Point(1)


def test_replace_copies_with_changes() -> None:
    point = Point(1)
    assert point.replace(y=5) == Point(1, 5)
    assert point == Point(1)
    with pytest.raises(TypeError):
        point.replace(z=1)
    assert point.as_dict() == {"x": 1, "y": 2}


def test_a_record_is_matched_by_position_and_has_a_repr() -> None:
    match Point(1):
        case Pair():
            raise AssertionError("it is a Point")
        case Point(x, y):
            assert (x, y) == (1, 2)
    assert repr(Point(1)) == "Point(x=1, y=2)"
    assert repr(Empty()) == "Empty()"


def test_a_record_is_not_inherited_from() -> None:
    with pytest.raises(TypeError, match="would lose the fields"):
        type(Point)("Further", (Point,), {})


def test_an_empty_record_is_true() -> None:
    assert Empty()
