"""The table of functions and aggregates, and the choice of an overload.

Begin with FUNCTIONS, then find(). Functions that act on processes are in signalling.py.
Source: catalog/pg_proc.dat; parser/parse_func.c: ParseFuncOrColumn().
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from pglife_impl import MAJOR_VERSION, SERVER_VERSION
from pglife_impl.protocol import SqlState
from pglife_impl.protocol.report import error
from pglife_impl.session.queries import signalling, types
from pglife_impl.session.queries.operators import sort_key
from pglife_impl.session.queries.run import Run
from pglife_impl.session.queries.types import PgType, Value
from pglife_impl.session.zones import zone_named

MOST_CONCATENATED = 10
ANY = PgType("any", 2276, 4, types.Category.OTHER, "any")


@dataclass(frozen=True)
class Function:
    """One overload; a strict function returns null if an argument is null."""

    arguments: tuple[PgType, ...]
    result: PgType
    call: Callable[..., Value]
    strict: bool = True
    returns_set: bool = False


@dataclass(frozen=True)
class Aggregate:
    """One aggregate; `result` maps the argument's type to its own."""

    result: Callable[[PgType], PgType]
    call: Callable[[Sequence[Any]], Value]
    takes: frozenset[types.Category] | None = None


def find(name: str, given: Sequence[PgType]) -> Function:
    """Return the overload for these argument types; SqlError 42883 if none matches."""
    candidates = [
        function
        for function in FUNCTIONS.get(name, ())
        if len(function.arguments) == len(given)
        and all(
            want is ANY or types.coerces_implicitly(have, want)
            for have, want in zip(given, function.arguments, strict=True)
        )
    ]
    if not candidates:
        raise no_such_function(name, given)
    return max(
        candidates, key=lambda f: sum(h is w for h, w in zip(given, f.arguments, strict=True))
    )


def no_such_function(name: str, given: Iterable[PgType]) -> Exception:
    """Return the ERROR of a call that matches no function."""
    signature = f"{name}({', '.join(each.shown for each in given)})"
    return error(
        SqlState.UNDEFINED_FUNCTION,
        f"function {signature} does not exist",
        hint="No function matches the given name and argument types."
        " You might need to add explicit type casts.",
    )


def moment(epoch_seconds: float) -> Value:
    """Return a timestamptz; zero, which means "never", is null."""
    return datetime.fromtimestamp(epoch_seconds, UTC) if epoch_seconds else None


def _version(run: Run) -> str:
    return f"PostgreSQL {SERVER_VERSION} on Python, pglife, process architecture of {MAJOR_VERSION}"


def _current_setting(run: Run, name: str, missing_ok: bool = False) -> Value:
    if missing_ok and name.lower() not in run.session.settings.gucs.definitions:
        return None
    return run.session.settings.show(name)


def _set_config(run: Run, name: str, value: str | None, local: bool | None) -> Value:
    run.session.settings.set(name, value, local=bool(local))
    return run.session.settings.show(name)


def _generate_series(run: Run, start: int, stop: int, step: int = 1) -> Any:
    """Return a range, not a list, so that a long series can be interrupted."""
    if step == 0:
        raise error(SqlState.INVALID_PARAMETER_VALUE, "step size cannot equal zero")
    return range(start, stop + (1 if step > 0 else -1), step)


def _extract(run: Run, field: str, value: Any) -> Value:
    if field == "epoch":
        seconds = value.timestamp() if isinstance(value, datetime) else value.total_seconds()
        return Decimal(str(round(seconds, 6))).quantize(Decimal("0.000001"))
    if isinstance(value, datetime) and hasattr(value, field):
        return Decimal(getattr(value, field))
    raise error(SqlState.FEATURE_NOT_SUPPORTED, f'unit "{field}" is not supported by this server')


def _timezone(run: Run, zone: str, value: datetime) -> Value:
    return value.astimezone(zone_named(zone)).replace(tzinfo=None)


def _concat(run: Run, *values: Value) -> Value:
    """Concatenate the non-null values as text."""
    present = (value for value in values if value is not None)
    return "".join(types.write_text(value, types.TEXT, run.zone) for value in present)


def _integer_overloads(call: Callable[..., Value]) -> tuple[Function, ...]:
    return tuple(
        Function((each,), each, call)
        for each in (types.INT4, types.INT8, types.NUMERIC, types.FLOAT8)
    )


def _of_text(call: Callable[..., Value], result: PgType = types.TEXT) -> tuple[Function, ...]:
    return (Function((types.TEXT,), result, call),)


def _user(run: Run) -> Value:
    return run.session.context.user


def _database(run: Run) -> Value:
    return run.session.context.database


def _constant(result: PgType, call: Callable[[Run], Value]) -> tuple[Function, ...]:
    return (Function((), result, call),)


FUNCTIONS: dict[str, tuple[Function, ...]] = {
    "version": _constant(types.TEXT, _version),
    "current_user": _constant(types.NAME, _user),
    "session_user": _constant(types.NAME, _user),
    "user": _constant(types.NAME, _user),
    "current_role": _constant(types.NAME, _user),
    "current_database": _constant(types.NAME, _database),
    "current_catalog": _constant(types.NAME, _database),
    "current_schema": _constant(types.NAME, lambda run: "public"),
    "now": _constant(types.TIMESTAMPTZ, lambda run: moment(run.session.xact.transaction_start)),
    "current_timestamp": _constant(
        types.TIMESTAMPTZ, lambda run: moment(run.session.xact.transaction_start)
    ),
    "transaction_timestamp": _constant(
        types.TIMESTAMPTZ, lambda run: moment(run.session.xact.transaction_start)
    ),
    "statement_timestamp": _constant(
        types.TIMESTAMPTZ, lambda run: moment(run.session.xact.statement_start)
    ),
    "clock_timestamp": _constant(types.TIMESTAMPTZ, lambda run: moment(run.session.context.now())),
    "pg_postmaster_start_time": _constant(
        types.TIMESTAMPTZ, lambda run: moment(run.session.context.start_time)
    ),
    "pg_conf_load_time": _constant(
        types.TIMESTAMPTZ, lambda run: moment(run.session.context.conf_load_time)
    ),
    "pg_is_in_recovery": _constant(types.BOOL, signalling.is_in_recovery),
    "pg_backend_pid": _constant(types.INT4, lambda run: run.session.context.pid),
    "pg_reload_conf": _constant(types.BOOL, signalling.reload_conf),
    "pg_rotate_logfile": _constant(types.BOOL, signalling.rotate_logfile),
    "pg_cancel_backend": (Function((types.INT4,), types.BOOL, signalling.cancel_backend),),
    "pg_terminate_backend": (
        Function((types.INT4,), types.BOOL, signalling.terminate_backend),
        Function((types.INT4, types.INT8), types.BOOL, signalling.terminate_backend),
    ),
    "pg_sleep": (Function((types.FLOAT8,), types.VOID, signalling.sleep),),
    "current_setting": (
        Function((types.TEXT,), types.TEXT, _current_setting),
        Function((types.TEXT, types.BOOL), types.TEXT, _current_setting),
    ),
    "set_config": (
        Function((types.TEXT, types.TEXT, types.BOOL), types.TEXT, _set_config, strict=False),
    ),
    "generate_series": tuple(
        Function((each,) * count, each, _generate_series, returns_set=True)
        for each in (types.INT4, types.INT8)
        for count in (2, 3)
    ),
    "extract": tuple(
        Function((types.TEXT, each), types.NUMERIC, _extract)
        for each in (types.TIMESTAMPTZ, types.INTERVAL)
    ),
    "timezone": (Function((types.TEXT, types.TIMESTAMPTZ), types.TIMESTAMP, _timezone),),
    "length": _of_text(lambda run, text: len(text), types.INT4),
    "upper": _of_text(lambda run, text: text.upper()),
    "lower": _of_text(lambda run, text: text.lower()),
    "concat": tuple(
        Function((ANY,) * count, types.TEXT, _concat, strict=False)
        for count in range(1, MOST_CONCATENATED)
    ),
    "abs": _integer_overloads(lambda run, value: abs(value)),
}


def _non_null(values: Sequence[Any]) -> list[Any]:
    return [value for value in values if value is not None]


def _sum(values: Sequence[Any]) -> Value:
    present = _non_null(values)
    return sum(present[1:], present[0]) if present else None


def _average(values: Sequence[Any]) -> Value:
    present = [Decimal(value) for value in _non_null(values)]
    if not present:
        return None
    return (sum(present, Decimal(0)) / len(present)).quantize(Decimal("1e-16"))


def _extreme(choose: Callable[..., Any]) -> Callable[[Sequence[Any]], Value]:
    def call(values: Sequence[Any]) -> Value:
        present = _non_null(values)
        return choose(present, key=sort_key) if present else None

    return call


def _sum_type(argument: PgType) -> PgType:
    if argument in (types.INT2, types.INT4):
        return types.INT8
    return types.NUMERIC if argument is types.INT8 else argument


_NUMBERS = frozenset((types.Category.NUMBER,))
_BOOLEANS = frozenset((types.Category.BOOLEAN,))
AGGREGATES: dict[str, Aggregate] = {
    "count": Aggregate(lambda _: types.INT8, lambda values: len(_non_null(values))),
    "sum": Aggregate(_sum_type, _sum, _NUMBERS | {types.Category.SPAN}),
    "avg": Aggregate(lambda _: types.NUMERIC, _average, _NUMBERS),
    "min": Aggregate(lambda argument: argument, _extreme(min)),
    "max": Aggregate(lambda argument: argument, _extreme(max)),
    "bool_and": Aggregate(
        lambda _: types.BOOL, lambda v: all(_non_null(v)) if _non_null(v) else None, _BOOLEANS
    ),
    "bool_or": Aggregate(
        lambda _: types.BOOL, lambda v: any(_non_null(v)) if _non_null(v) else None, _BOOLEANS
    ),
}
