"""The "Database cluster state" that pg_controldata prints.

Source: CT-20; src/bin/pg_controldata/pg_controldata.c: dbState().
"""

from enum import Enum

_LABEL = "Database cluster state:"


class ControlState(Enum):
    """The state in the control file."""

    STARTING_UP = "starting up"
    SHUT_DOWN = "shut down"
    SHUT_DOWN_IN_RECOVERY = "shut down in recovery"
    SHUTTING_DOWN = "shutting down"
    IN_CRASH_RECOVERY = "in crash recovery"
    IN_ARCHIVE_RECOVERY = "in archive recovery"
    IN_PRODUCTION = "in production"


def parse_control_state(output: str) -> ControlState | None:
    """The state in pg_controldata's output (in the C locale); None if it has no known one."""
    for line in output.splitlines():
        if line.startswith(_LABEL):
            try:
                return ControlState(line.removeprefix(_LABEL).strip())
            except ValueError:
                return None
    return None
