"""The "Database cluster state" of pg_controldata.

Begin with   ControlState.
Owns         the names of the states and where they stand in pg_controldata's output.
Leaves out   how the program is run (targets/).
Source       CT-20; src/bin/pg_controldata/pg_controldata.c: dbState().
"""

from __future__ import annotations

from enum import Enum

_LABEL = "Database cluster state:"


class ControlState(Enum):
    """What the control file says of the cluster."""

    STARTING_UP = "starting up"
    SHUT_DOWN = "shut down"
    SHUT_DOWN_IN_RECOVERY = "shut down in recovery"
    SHUTTING_DOWN = "shutting down"
    IN_CRASH_RECOVERY = "in crash recovery"
    IN_ARCHIVE_RECOVERY = "in archive recovery"
    IN_PRODUCTION = "in production"


def parse_control_state(output: str) -> ControlState | None:
    """The state in pg_controldata's output (run in the C locale), or None if there is none."""
    for line in output.splitlines():
        if line.startswith(_LABEL):
            try:
                return ControlState(line.removeprefix(_LABEL).strip())
            except ValueError:
                return None
    return None
