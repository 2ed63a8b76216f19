"""The SQL types: names, oids, input and output of values, casts.

Begin with PgType and BY_NAME, then coerce().
Source: catalog/pg_type.dat, pg_cast.dat; utils/adt/int.c, float.c, bool.c, timestamp.c.
"""

import struct
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from enum import Enum, auto

from pglife_impl.base.record import Record
from pglife_impl.base.texts import parse_bool
from pglife_impl.protocol import SqlError, SqlState
from pglife_impl.protocol.report import error
from pglife_impl.session.zones import zone_named

Value = bool | int | float | Decimal | str | datetime | date | timedelta | list[object] | None


class Category(Enum):
    """The categories of types; within one, values convert implicitly."""

    BOOLEAN = auto()
    NUMBER = auto()
    TEXT = auto()
    MOMENT = auto()
    SPAN = auto()
    ARRAY = auto()
    OTHER = auto()


class PgType(Record):
    """One row of pg_type; `rank` orders numeric types by range."""

    name: str
    oid: int
    size: int
    category: Category
    shown: str
    rank: int = 0

    def __str__(self) -> str:
        return self.shown


BOOL = PgType("bool", 16, 1, Category.BOOLEAN, "boolean")
NAME = PgType("name", 19, 64, Category.TEXT, "name")
INT8 = PgType("int8", 20, 8, Category.NUMBER, "bigint", 3)
INT2 = PgType("int2", 21, 2, Category.NUMBER, "smallint", 1)
INT4 = PgType("int4", 23, 4, Category.NUMBER, "integer", 2)
TEXT = PgType("text", 25, -1, Category.TEXT, "text")
OID = PgType("oid", 26, 4, Category.NUMBER, "oid", 2)
XID = PgType("xid", 28, 4, Category.OTHER, "xid")
FLOAT4 = PgType("float4", 700, 4, Category.NUMBER, "real", 5)
FLOAT8 = PgType("float8", 701, 8, Category.NUMBER, "double precision", 6)
UNKNOWN = PgType("unknown", 705, -2, Category.OTHER, "unknown")
INET = PgType("inet", 869, -1, Category.OTHER, "inet")
VARCHAR = PgType("varchar", 1043, -1, Category.TEXT, "character varying")
DATE = PgType("date", 1082, 4, Category.MOMENT, "date", 1)
TIMESTAMP = PgType("timestamp", 1114, 8, Category.MOMENT, "timestamp without time zone", 2)
TIMESTAMPTZ = PgType("timestamptz", 1184, 8, Category.MOMENT, "timestamp with time zone", 3)
INTERVAL = PgType("interval", 1186, 16, Category.SPAN, "interval")
NUMERIC = PgType("numeric", 1700, -1, Category.NUMBER, "numeric", 4)
VOID = PgType("void", 2278, 4, Category.OTHER, "void")
INT4_ARRAY = PgType("_int4", 1007, -1, Category.ARRAY, "integer[]")
INT2_ARRAY = PgType("_int2", 1005, -1, Category.ARRAY, "smallint[]")
INT8_ARRAY = PgType("_int8", 1016, -1, Category.ARRAY, "bigint[]")
TEXT_ARRAY = PgType("_text", 1009, -1, Category.ARRAY, "text[]")

ELEMENTS = {INT4_ARRAY: INT4, INT2_ARRAY: INT2, INT8_ARRAY: INT8, TEXT_ARRAY: TEXT}
ARRAYS = {element: array for array, element in ELEMENTS.items()}
_ALL = (
    *(BOOL, NAME, INT8, INT2, INT4, TEXT, OID, XID, FLOAT4, FLOAT8, UNKNOWN, INET, VARCHAR),
    *(DATE, TIMESTAMP, TIMESTAMPTZ, INTERVAL, NUMERIC, VOID, *ELEMENTS),
)
BY_OID = {each.oid: each for each in _ALL}
BY_NAME = {each.name: each for each in _ALL} | {each.shown: each for each in _ALL}
BY_NAME |= {"int": INT4, "decimal": NUMERIC, "int[]": INT4_ARRAY, "char": TEXT, "uinteger": OID}
BY_NAME |= {"timestamp with time zone": TIMESTAMPTZ, "float": FLOAT8, "real": FLOAT4}

_INTEGER_BITS = {INT2: 16, INT4: 32, INT8: 64}


def type_named(name: str) -> PgType:
    """Return the type that a cast names; types with a length are not supported."""
    if "(" in name:
        raise error(SqlState.FEATURE_NOT_SUPPORTED, f"type {name} is not supported by this server")
    known = BY_NAME.get(name)
    if known is None:
        raise error(SqlState.UNDEFINED_OBJECT, f'type "{name}" does not exist')
    return known


def coerces_implicitly(source: PgType, target: PgType) -> bool:
    """Return whether a value converts to the other type without a cast."""
    if source in (target, UNKNOWN):
        return True
    if source.category is not target.category or source.category is Category.OTHER:
        return source.category is Category.NUMBER and target is OID
    if source.category is Category.NUMBER:
        return source.rank <= target.rank or target is OID
    if source.category is Category.MOMENT:
        return source.rank <= target.rank
    return source.category is Category.TEXT


def can_be_cast(source: PgType, target: PgType) -> bool:
    """Return whether a cast exists; text can be cast to and from every type."""
    same = source.category is target.category and source.category is not Category.OTHER
    textual = Category.TEXT in (source.category, target.category)
    to_bool = {source.category, target.category} == {Category.NUMBER, Category.BOOLEAN}
    if to_bool:
        return INT4 in (source, target)
    return same or textual or source is UNKNOWN or source is target


def check_integer(value: int, target: PgType) -> int:
    """Return the value; SqlError 22003 if it is out of range for the type."""
    if target is OID:
        fits = 0 <= value < 1 << 32
    else:
        bits = _INTEGER_BITS[target]
        fits = -(1 << (bits - 1)) <= value < 1 << (bits - 1)
    if not fits:
        raise error(SqlState.NUMERIC_VALUE_OUT_OF_RANGE, f"{target.shown} out of range")
    return value


def coerce(value: Value, source: PgType, target: PgType, zone: str = "UTC") -> Value:
    """Cast a value to another type."""
    if value is None or source is target:
        return value
    if isinstance(value, str) and target.category is not Category.TEXT:
        return read_text(value, target, zone)
    if target.category is Category.TEXT:
        if isinstance(value, bool):
            return "true" if value else "false"
        return write_text(value, source, zone)
    if target in _INTEGER_BITS or target is OID:
        if isinstance(value, (float, Decimal)):
            # numeric rounds halves away from zero, floats round them to even.
            exact = isinstance(value, Decimal)
            value = int(value.quantize(Decimal(1), ROUND_HALF_UP)) if exact else round(value)  # type: ignore[union-attr]
        if isinstance(value, int):
            return check_integer(int(value), target)
    if isinstance(value, (int, float, Decimal)):
        if target is NUMERIC:
            return Decimal(str(value)) if isinstance(value, float) else Decimal(value)
        if target in (FLOAT4, FLOAT8):
            return float(value)
        if target is BOOL and isinstance(value, int):
            return value != 0
    if isinstance(value, datetime) and target in (TIMESTAMP, TIMESTAMPTZ, DATE):
        local = value.astimezone(zone_named(zone)) if value.tzinfo else value
        if target is DATE:
            return local.date()
        return local.replace(tzinfo=None if target is TIMESTAMP else zone_named(zone))
    raise error(SqlState.CANNOT_COERCE, f"cannot cast type {source.shown} to {target.shown}")


def _bad_input(text: str, target: PgType) -> SqlError:
    is_time = target.category in (Category.MOMENT, Category.SPAN)
    return error(
        SqlState.INVALID_DATETIME_FORMAT if is_time else SqlState.INVALID_TEXT_REPRESENTATION,
        f'invalid input syntax for type {target.shown}: "{text}"',
    )


def read_text(text: str, target: PgType, zone: str = "UTC") -> Value:
    """Read a value in text format; SqlError 22P02 if it is invalid."""
    stripped = text.strip()
    try:
        if target in _INTEGER_BITS or target in (OID, XID):
            return _read_integer(stripped, target)
        if target is BOOL:
            truth = parse_bool(stripped)
            if truth is None:
                raise _bad_input(text, target)
            return truth
        if target in (FLOAT4, FLOAT8):
            return float(stripped)
        if target is NUMERIC:
            return Decimal(stripped)
        if target is INTERVAL:
            return _read_interval(stripped)
        if target.category is Category.MOMENT:
            return _read_moment(stripped, target, zone)
        if target.category is Category.ARRAY:
            return _read_array(stripped, target, zone)
    except (ValueError, InvalidOperation, OverflowError):
        raise _bad_input(text, target) from None
    return text


def _read_integer(text: str, target: PgType) -> int:
    value = int(text)
    try:
        return value if target is XID else check_integer(value, target)
    except SqlError:
        raise error(
            SqlState.NUMERIC_VALUE_OUT_OF_RANGE,
            f'value "{text}" is out of range for type {target.shown}',
        ) from None


def _read_moment(text: str, target: PgType, zone: str) -> Value:
    if text == "now":
        moment = datetime.now(UTC)
    else:
        day, _, clock = text.partition(" ")
        short = clock[1:2] == ":"
        moment = datetime.fromisoformat(f"{day} 0{clock}" if short else text)
    if target is DATE:
        return moment.date()
    if target is TIMESTAMP:
        return moment.replace(tzinfo=None)
    return moment if moment.tzinfo else moment.replace(tzinfo=zone_named(zone))


_UNITS: dict[str, timedelta] = {
    "microsecond": timedelta(microseconds=1),
    "us": timedelta(microseconds=1),
    "millisecond": timedelta(milliseconds=1),
    "ms": timedelta(milliseconds=1),
    "second": timedelta(seconds=1),
    "sec": timedelta(seconds=1),
    "s": timedelta(seconds=1),
    "minute": timedelta(minutes=1),
    "min": timedelta(minutes=1),
    "m": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "h": timedelta(hours=1),
    "day": timedelta(days=1),
    "d": timedelta(days=1),
    "week": timedelta(days=7),
    "w": timedelta(days=7),
}


def _read_interval(text: str) -> timedelta:
    """Read an interval like `1 day 02:03:04.5`; months are not supported."""
    total = timedelta()
    words = text.lower().split()
    if not words:
        raise ValueError(text)
    index = 0
    while index < len(words):
        word = words[index]
        if ":" in word:
            hours, minutes, *seconds = word.split(":")
            clock = timedelta(minutes=int(minutes), seconds=float(seconds[0]) if seconds else 0)
            clock += timedelta(hours=abs(int(hours)))
            total += -clock if hours.startswith("-") else clock
            index += 1
            continue
        unit = words[index + 1] if index + 1 < len(words) else "second"
        length = _UNITS.get(unit) or _UNITS[unit.removesuffix("s")]
        total += float(word) * length
        index += 2
    return total


def _read_array(text: str, target: PgType, zone: str) -> list[object]:
    if not (text.startswith("{") and text.endswith("}")):
        raise error(
            SqlState.INVALID_TEXT_REPRESENTATION,
            f'malformed array literal: "{text}"',
            detail='Array value must start with "{" or dimension information.',
        )
    inner = text[1:-1].strip()
    parts = [part.strip() for part in inner.split(",")] if inner else []
    element = ELEMENTS[target]
    return [
        None if part.upper() == "NULL" else read_text(part.strip('"'), element, zone)
        for part in parts
    ]


def write_text(value: Value, of: PgType, zone: str = "UTC") -> str:
    """Write a non-null value in text format."""
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, float):
        return _write_float(value)
    if isinstance(value, datetime):
        return _write_moment(value.astimezone(zone_named(zone)) if value.tzinfo else value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return _write_interval(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, list):
        element = ELEMENTS.get(of, TEXT)
        cells = ("NULL" if v is None else write_text(v, element, zone) for v in value)  # type: ignore[arg-type]
        return "{" + ",".join(cells) + "}"
    return str(value)


def _write_float(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    if abs(value) < _FIRST_WITH_EXPONENT:
        return repr(value).removesuffix(".0")
    exponent = f"{value:e}".partition("e")[2]
    shortest = repr(value)
    if "e" in shortest:
        return shortest
    sign = "-" if value < 0 else ""
    digits = shortest.lstrip("-").removesuffix(".0").replace(".", "").rstrip("0")
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{exponent}"


_FIRST_WITH_EXPONENT = 1e15


def _write_moment(moment: datetime) -> str:
    text = moment.strftime("%Y-%m-%d %H:%M:%S")
    if moment.microsecond:
        text += f".{moment.microsecond:06d}".rstrip("0")
    offset = moment.utcoffset()
    if offset is None:
        return text
    minutes = round(offset.total_seconds() / 60)
    sign = "-" if minutes < 0 else "+"
    hours, rest = divmod(abs(minutes), 60)
    return f"{text}{sign}{hours:02d}" + (f":{rest:02d}" if rest else "")


def _write_interval(span: timedelta) -> str:
    microseconds = span // timedelta(microseconds=1)
    sign = -1 if microseconds < 0 else 1
    # PostgreSQL keeps days and time apart; a difference of two timestamps has days only beyond
    # 24 hours, and both parts carry the sign.
    days, rest = divmod(abs(microseconds), 86_400_000_000)
    seconds, fraction = divmod(rest, 1_000_000)
    parts = []
    if days:
        parts.append(f"{sign * days} day" + ("" if sign * days == 1 else "s"))
    if rest or not days:
        clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        clock += f".{fraction:06d}".rstrip("0") if fraction else ""
        parts.append(("-" if sign < 0 else "") + clock)
    return " ".join(parts)


_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_PACKED: dict[PgType, struct.Struct] = {
    INT2: struct.Struct("!h"),
    INT4: struct.Struct("!i"),
    INT8: struct.Struct("!q"),
    OID: struct.Struct("!I"),
    XID: struct.Struct("!I"),
    FLOAT4: struct.Struct("!f"),
    FLOAT8: struct.Struct("!d"),
    BOOL: struct.Struct("!?"),
}


def write_binary(value: Value, of: PgType, zone: str = "UTC") -> bytes:
    """Write a non-null value in binary format."""
    packed = _PACKED.get(of)
    if packed is not None:
        return packed.pack(value)
    if of is VOID:
        return b""
    if of.category is Category.TEXT or of is UNKNOWN:
        return write_text(value, of, zone).encode()
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return struct.pack("!q", (moment - _EPOCH) // _MICROSECOND)
    if isinstance(value, timedelta):
        return struct.pack("!qii", value // _MICROSECOND, 0, 0)
    if isinstance(value, Decimal):
        return _write_binary_numeric(value)
    raise error(
        SqlState.UNDEFINED_FUNCTION, f"no binary output function available for type {of.shown}"
    )


_NUMERIC_NEGATIVE = 0x4000


def _write_binary_numeric(value: Decimal) -> bytes:
    """Write digits to the base 10000, the weight of the first, and the display scale."""
    whole, _, decimals = format(abs(value), "f").partition(".")
    padded = whole.rjust(-(-len(whole) // 4) * 4, "0") + decimals.ljust(
        -(-len(decimals) // 4) * 4, "0"
    )
    digits = [int(padded[at : at + 4]) for at in range(0, len(padded), 4)]
    weight = -(-len(whole) // 4) - 1
    while digits and digits[0] == 0:
        del digits[0]
        weight -= 1
    while digits and digits[-1] == 0:
        del digits[-1]
    sign = _NUMERIC_NEGATIVE if value < 0 else 0
    head = struct.pack("!hhHh", len(digits), weight if digits else 0, sign, len(decimals))
    return head + struct.pack(f"!{len(digits)}h", *digits)


def read_binary(raw: bytes, target: PgType) -> Value:
    """Read a value in binary format."""
    packed = _PACKED.get(target)
    if packed is not None:
        if len(raw) < packed.size:
            raise error(SqlState.PROTOCOL_VIOLATION, "insufficient data left in message")
        if len(raw) > packed.size:
            raise error(SqlState.INVALID_BINARY_REPRESENTATION, "incorrect binary data format")
        value: Value = packed.unpack(raw)[0]
        return value
    if target.category is Category.TEXT or target is UNKNOWN:
        return raw.decode()
    if target is TIMESTAMPTZ:
        microseconds: int = struct.unpack("!q", raw)[0]
        return _EPOCH + microseconds * _MICROSECOND
    if target is INTERVAL:
        micros, days, _ = struct.unpack("!qii", raw)
        return timedelta(days=days, microseconds=micros)
    if target is NUMERIC:
        return _read_binary_numeric(raw)
    if target.category is Category.ARRAY:
        return _read_binary_array(raw, ELEMENTS[target])
    raise error(
        SqlState.UNDEFINED_FUNCTION, f"no binary input function available for type {target.shown}"
    )


def _read_binary_numeric(raw: bytes) -> Decimal:
    count, weight, sign, scale = struct.unpack_from("!hhHh", raw)
    digits = struct.unpack_from(f"!{count}h", raw, 8)
    total = sum(
        (Decimal(digit).scaleb(4 * (weight - place)) for place, digit in enumerate(digits)),
        Decimal(0),
    )
    return (-total if sign == _NUMERIC_NEGATIVE else total).quantize(Decimal(1).scaleb(-scale))


def _read_binary_array(raw: bytes, element: PgType) -> list[object]:
    dimensions = struct.unpack_from("!iii", raw)[0]
    if dimensions == 0:
        return []
    count = struct.unpack_from("!i", raw, 12)[0]
    offset = 20
    items: list[object] = []
    for _ in range(count):
        length = struct.unpack_from("!i", raw, offset)[0]
        offset += 4
        if length < 0:
            items.append(None)
            continue
        items.append(read_binary(raw[offset : offset + length], element))
        offset += length
    return items
