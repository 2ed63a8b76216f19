"""Time zones by name."""

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pglife_impl.protocol import SqlState
from pglife_impl.protocol.report import error


def zone_named(name: str) -> ZoneInfo:
    """Return a time zone; SqlError 22023 if the name is unknown."""
    try:
        return ZoneInfo("UTC" if name.upper() in ("GMT", "UTC") else name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        message = f'time zone "{name}" not recognized'
        raise error(SqlState.INVALID_PARAMETER_VALUE, message) from None
