"""Operators: resolution by operand types, and their evaluation.

Begin with resolve(). AND, OR, NOT and IS are in analysis.py.
Source: parser/parse_oper.c; utils/adt/int.c, numeric.c, like.c, timestamp.c.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from operator import add, mul, sub
from typing import Any

from pglife_impl.protocol import SqlState
from pglife_impl.protocol.report import SqlError, error
from pglife_impl.session.queries import types
from pglife_impl.session.queries.types import Category, PgType, Value

Binary = Callable[[Any, Any], Value]
_ARITHMETIC = frozenset("+-*/%")
_COMPARISON: dict[str, Binary] = {
    "=": lambda a, b: a == b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
_MIN_SIGNIFICANT_DIGITS = 16
_DIGITS_IN_A_GROUP = 4


@dataclass(frozen=True)
class Operator:
    """A resolved operator: types to convert the operands to, result type, function."""

    left: PgType | None
    right: PgType
    result: PgType
    apply: Callable[..., Value]


def resolve(name: str, left: PgType | None, right: PgType) -> Operator:
    """Return the operator for these operand types; SqlError 42883 if none matches."""
    found = _prefix(name, right) if left is None else _binary(name, left, right)
    if found is None:
        signature = f"{name} {right}" if left is None else f"{left} {name} {right}"
        raise error(
            SqlState.UNDEFINED_FUNCTION,
            f"operator does not exist: {signature}",
            hint="No operator matches the given name and argument types."
            " You might need to add explicit type casts.",
        )
    return found


def _prefix(name: str, right: PgType) -> Operator | None:
    if name in "+-" and (right.category is Category.NUMBER or right is types.INTERVAL):
        negate = name == "-"
        return Operator(None, right, right, lambda value: -value if negate else value)
    return None


def _binary(name: str, left: PgType, right: PgType) -> Operator | None:
    if name in ("~~", "~~*", "~", "~*"):
        return _matching(name, left, right)
    if name == "||":
        return _joining(left, right)
    moments = _moment_arithmetic(name, left, right)
    if moments is not None:
        return moments
    common = common_type(left, right)
    if common is None:
        return None
    if name in _COMPARISON:
        return Operator(common, common, types.BOOL, _COMPARISON[name])
    if name in _ARITHMETIC and common.category is Category.NUMBER:
        return Operator(common, common, common, _arithmetic(name, common))
    return None


def common_type(left: PgType, right: PgType) -> PgType | None:
    """Return the type that both sides convert to implicitly, or None."""
    if left is types.UNKNOWN and right is types.UNKNOWN:
        return types.TEXT
    if types.coerces_implicitly(left, right):
        return right
    if types.coerces_implicitly(right, left):
        return left
    return None


def _matching(name: str, left: PgType, right: PgType) -> Operator | None:
    for side in (left, right):
        if side.category is not Category.TEXT and side is not types.UNKNOWN:
            return None
    flags = re.DOTALL | (re.IGNORECASE if name.endswith("*") else 0)
    if name.startswith("~~"):
        return Operator(
            types.TEXT,
            types.TEXT,
            types.BOOL,
            lambda text, pattern: re.fullmatch(like_to_regex(pattern), text, flags) is not None,
        )
    return Operator(
        types.TEXT,
        types.TEXT,
        types.BOOL,
        lambda text, pattern: re.search(pattern, text, flags) is not None,
    )


def like_to_regex(pattern: str) -> str:
    """Translate the pattern of LIKE: `%`, `_` and the backslash."""
    parts = []
    characters = iter(pattern)
    for character in characters:
        if character == "%":
            parts.append(".*")
        elif character == "_":
            parts.append(".")
        elif character == "\\":
            parts.append(re.escape(next(characters, "\\")))
        else:
            parts.append(re.escape(character))
    return "".join(parts)


def _joining(left: PgType, right: PgType) -> Operator | None:
    if Category.ARRAY in (left.category, right.category):
        return None  # concatenation of arrays is not supported
    if any(side.category is Category.TEXT or side is types.UNKNOWN for side in (left, right)):
        return Operator(types.TEXT, types.TEXT, types.TEXT, lambda a, b: a + b)
    return None


def _moment_arithmetic(name: str, left: PgType, right: PgType) -> Operator | None:
    if name not in "+-*/":
        return None
    if left.category is Category.MOMENT and right.category is Category.MOMENT and name == "-":
        common = types.TIMESTAMPTZ if types.TIMESTAMPTZ in (left, right) else types.TIMESTAMP
        return Operator(common, common, types.INTERVAL, lambda a, b: a - b)
    if left.category is Category.MOMENT and right in (types.INTERVAL, types.UNKNOWN):
        if name not in "+-":
            return None
        if right is types.UNKNOWN and name == "-":
            return Operator(left, left, types.INTERVAL, lambda a, b: a - b)
        sign = 1 if name == "+" else -1
        return Operator(left, types.INTERVAL, left, lambda a, b: a + sign * b)
    if left is types.INTERVAL and right.category is Category.MOMENT and name == "+":
        return Operator(types.INTERVAL, right, right, lambda a, b: b + a)
    if left is types.INTERVAL and right in (types.INTERVAL, types.UNKNOWN) and name in "+-":
        sign = 1 if name == "+" else -1
        return Operator(types.INTERVAL, types.INTERVAL, types.INTERVAL, lambda a, b: a + sign * b)
    if right is types.INTERVAL and left.category is Category.NUMBER and name == "*":
        return Operator(types.FLOAT8, right, right, lambda factor, span: span * factor)
    if left is types.INTERVAL and right.category is Category.NUMBER and name in "*/":
        return Operator(types.INTERVAL, types.FLOAT8, types.INTERVAL, _scale_interval(name))
    return None


def _scale_interval(name: str) -> Binary:
    def apply(span: timedelta, factor: float) -> Value:
        if name == "*":
            return span * factor
        if factor == 0:
            raise division_by_zero()
        return span / factor

    return apply


def division_by_zero() -> SqlError:
    """Return the ERROR of a division by zero."""
    return error(SqlState.DIVISION_BY_ZERO, "division by zero")


def _arithmetic(name: str, of: PgType) -> Binary:
    if of in (types.FLOAT4, types.FLOAT8):
        return _float_arithmetic(name)
    if of is types.NUMERIC:
        return _numeric_arithmetic(name)
    integer = _INTEGER_OPERATIONS[name]

    def apply(a: int, b: int) -> Value:
        return types.check_integer(integer(a, b), of)

    return apply


def _truncating_division(a: int, b: int) -> int:
    if b == 0:
        raise division_by_zero()
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


_SIMPLE: dict[str, Callable[[Any, Any], Any]] = {"+": add, "-": sub, "*": mul}
_INTEGER_OPERATIONS: dict[str, Callable[[int, int], int]] = {
    **_SIMPLE,
    "/": _truncating_division,
    "%": lambda a, b: a - b * _truncating_division(a, b),
}


def _float_arithmetic(name: str) -> Binary:
    def apply(a: float, b: float) -> Value:
        if b == 0:
            raise division_by_zero()
        return a / b if name == "/" else a - b * int(a / b)

    return _SIMPLE.get(name, apply)


def _numeric_arithmetic(name: str) -> Binary:
    def apply(a: Decimal, b: Decimal) -> Value:
        if b == 0:
            raise division_by_zero()
        if name == "%":
            return a % b
        quotient = a / b
        group = quotient.adjusted() // _DIGITS_IN_A_GROUP if quotient else 0
        scales = [_scale(a), _scale(b), _MIN_SIGNIFICANT_DIGITS - group * _DIGITS_IN_A_GROUP]
        return quotient.quantize(Decimal(1).scaleb(-max(*scales, 0)))

    return _SIMPLE.get(name, apply)


def _scale(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def sort_key(value: Value) -> Any:
    """Return the sort key of a value; the C collation orders text by its bytes."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, datetime):
        return value.timestamp()
    return value
