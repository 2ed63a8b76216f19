"""Values of settings: how PostgreSQL reads, checks and prints them.

Begin with Definition.parse() and Definition.show(). settings.tsv is a copy of 18.6's pg_settings.
Source: utils/misc/guc.c: parse_int(), parse_bool(), convert_to_base_unit(),
convert_from_base_unit(), parse_and_validate_value().
"""

import os
import re
from enum import Enum

from pglife_impl import SERVER_VERSION, SERVER_VERSION_NUM, ImplError
from pglife_impl.base.record import Record
from pglife_impl.base.texts import parse_bool

Value = bool | int | float | str

INVALID_PARAMETER_VALUE = "22023"
UNDEFINED_OBJECT = "42704"
CANT_CHANGE_RUNTIME_PARAM = "55P02"
INSUFFICIENT_PRIVILEGE = "42501"


class GucError(ImplError):
    """A value that a setting cannot take, with PostgreSQL's message."""

    def __init__(self, sqlstate: str, message: str, detail: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.message = message
        self.detail = detail
        self.hint = hint


class Context(Enum):
    """When a setting may change."""

    INTERNAL = "internal"
    POSTMASTER = "postmaster"
    SIGHUP = "sighup"
    SU_BACKEND = "superuser-backend"
    BACKEND = "backend"
    SUSET = "superuser"
    USER = "user"


class ValueType(Enum):
    """The type of a setting, by pg_settings.vartype."""

    BOOL = "bool"
    INTEGER = "integer"
    REAL = "real"
    STRING = "string"
    ENUM = "enum"


MEMORY_UNITS = {"B": 1, "kB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}
TIME_UNITS = {"us": 1, "ms": 1000, "s": 10**6, "min": 60 * 10**6, "h": 3600 * 10**6}
TIME_UNITS["d"] = 24 * TIME_UNITS["h"]
MEMORY_HINT = 'Valid units for this parameter are "B", "kB", "MB", "GB", and "TB".'
TIME_HINT = 'Valid units for this parameter are "us", "ms", "s", "min", "h", and "d".'
ALONE = frozenset({"off", "false", "no", "0", "on", "true", "yes", "1"})
ASPECTS = frozenset({"receipt", "authentication", "authorization", "setup_durations", "all"})
NUMBER = re.compile(r"\s*([+-]?(?:0[xX][0-9a-fA-F]+|\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+))\s*(\S*)\s*$")


class Definition(Record):
    """One known setting."""

    name: str
    type: ValueType
    context: Context
    unit: str
    low: float
    high: float
    choices: tuple[str, ...]
    boot: str

    def parse(self, text: str) -> Value:
        """Return the value of a text, in base units; GucError if it is invalid."""
        match self.type:
            case ValueType.BOOL:
                return self._bool(text)
            case ValueType.INTEGER:
                return self._integer(text)
            case ValueType.REAL:
                return self._real(text)
            case ValueType.ENUM:
                return self._enum(text)
            case _:
                return self._string(text)

    def _bool(self, text: str) -> bool:
        value = parse_bool(text.strip())
        if value is None:
            raise GucError(
                INVALID_PARAMETER_VALUE, f'parameter "{self.name}" requires a Boolean value'
            )
        return value

    def _integer(self, text: str) -> int:
        value = round(self._number(text))
        if not self.low <= value <= self.high:
            raise self._out_of_range(str(value), str(int(self.low)), str(int(self.high)))
        return value

    def _real(self, text: str) -> float:
        value = self._number(text)
        if not self.low <= value <= self.high:
            raise self._out_of_range(f"{value:g}", f"{self.low:g}", f"{self.high:g}")
        return value

    def _out_of_range(self, value: str, low: str, high: str) -> GucError:
        unit = f" {self.unit}" if self.unit else ""
        return GucError(
            INVALID_PARAMETER_VALUE,
            f'{value}{unit} is outside the valid range for parameter "{self.name}"'
            f" ({low}{unit} .. {high}{unit})",
        )

    def _number(self, text: str) -> float:
        """Return a number in base units, whatever its unit in the text."""
        match = NUMBER.match(text)
        if not match:
            raise self._invalid(text)
        digits, unit = match.groups()
        hexadecimal = "x" in digits.lower()
        if "." in digits or (not hexadecimal and "e" in digits.lower()):
            number = float(digits)
        elif hexadecimal:
            number = int(digits, 16)
        elif self.type is ValueType.INTEGER and len(digits) > 1 and digits.startswith("0"):
            number = int(digits, 8) if set(digits) <= set("01234567") else int(digits)
        else:
            number = int(digits)
        if not unit:
            return number
        factor = self._factor(unit)
        if factor is None:
            raise self._invalid(text, hint=self._unit_hint())
        return number * factor

    def _factor(self, unit: str) -> float | None:
        """Return the size of a unit in base units."""
        base = base_unit(self.unit)
        if base is None:
            return None
        units, one = base
        return units[unit] / one if unit in units else None

    def _unit_hint(self) -> str:
        base = base_unit(self.unit)
        if base is None:
            return ""
        return MEMORY_HINT if base[0] is MEMORY_UNITS else TIME_HINT

    def _invalid(self, text: str, detail: str = "", hint: str = "") -> GucError:
        message = f'invalid value for parameter "{self.name}": "{text}"'
        return GucError(INVALID_PARAMETER_VALUE, message, detail, hint)

    def _enum(self, text: str) -> str:
        for choice in self.choices:
            if choice.lower() == text.lower():
                return choice
        if "on" in self.choices and (value := parse_bool(text.strip())) is not None:
            return "on" if value else "off"
        raise self._invalid(text, hint=f"Available values: {', '.join(self.choices)}.")

    def _string(self, text: str) -> str:
        if self.name == "log_destination":
            for word in text.split(","):
                if word.strip().lower() not in ("stderr", "csvlog", "jsonlog", "syslog"):
                    raise self._invalid(text, detail=f'Unrecognized key word: "{word.strip()}".')
        if self.name == "log_connections" and (detail := complaint_about_aspects(text)):
            raise self._invalid(text, detail=detail)
        return text

    def show(self, value: Value) -> str:
        """Return a value as SHOW prints it: in the largest unit that leaves a whole number."""
        if isinstance(value, bool):
            return "on" if value else "off"
        if isinstance(value, float):
            return f"{value:g}" + (self._plain_unit() if value > 0 else "")
        base = base_unit(self.unit)
        if isinstance(value, str) or base is None or value <= 0:
            return str(value)
        units, one = base
        total = value * one
        for unit in reversed(units):
            if total % units[unit] == 0:
                return f"{int(total // units[unit])}{unit}"
        return f"{value}{self.unit}"

    def _plain_unit(self) -> str:
        return self.unit if self.unit in TIME_UNITS else ""


def complaint_about_aspects(text: str) -> str:
    """Return the error in a list of aspects for log_connections (CN-22), or ""."""
    words = [word.strip() for word in text.split(",")] if text.strip() else []
    if not all(words):
        return 'Invalid list syntax in parameter "log_connections".'
    if words and words[0].lower() in ALONE:
        alone = f'Cannot specify log_connections option "{words[0]}" in a list with other options.'
        return alone if len(words) > 1 else ""
    wrong = next((word for word in words if word.lower() not in ASPECTS), None)
    return "" if wrong is None else f'Invalid option "{wrong}".'


def base_unit(unit: str) -> tuple[dict[str, int], int] | None:
    """Return the kind of units and the size of the base unit, which may be "8kB"."""
    if unit in TIME_UNITS:
        return TIME_UNITS, TIME_UNITS[unit]
    match = re.fullmatch(r"(\d*)(B|kB|MB)", unit)
    if match:
        return MEMORY_UNITS, int(match[1] or 1) * MEMORY_UNITS[match[2]]
    return None


# These depend on the server; the table was printed by another one.
OURS = {
    "server_version": SERVER_VERSION,
    "server_version_num": str(SERVER_VERSION_NUM),
    "log_line_prefix": "%m [%p] ",
    "unix_socket_directories": "/tmp",
    "max_stack_depth": "2048",
}


def load_definitions() -> dict[str, Definition]:
    """Return the table of known settings, by lower-case name."""
    path = os.path.join(os.path.dirname(__file__), "settings.tsv")
    definitions = {}
    with open(path, encoding="utf-8") as table:
        for line in table:
            if line.startswith("#"):
                continue
            name, kind, context, unit, low, high, choices, boot = line.rstrip("\n").split("\t")
            definitions[name.lower()] = Definition(
                name,
                ValueType(kind),
                Context(context),
                unit,
                float(low or 0),
                float(high or 0),
                tuple(c.strip('"') for c in choices.strip("{}").split(",")) if choices else (),
                OURS.get(name, boot),
            )
    return definitions
