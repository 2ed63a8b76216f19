"""The "Database cluster state", as pg_controldata prints it or as the control file has it.

Source: CT-20; src/bin/pg_controldata/pg_controldata.c: dbState(); src/include/catalog/pg_control.h.
"""

import struct
from enum import Enum
from pathlib import Path

_LABEL = "Database cluster state:"


class ControlState(Enum):
    """The state in the control file, in the order of DBState."""

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


_FILE = Path("global", "pg_control")
_BEGINNING = struct.Struct("=QIII")
"""Of ControlFileData: system_identifier, pg_control_version, catalog_version_no, state."""
_VERSIONS = range(1300, 2000)
"""pg_control_version, 14 and later."""


def read_control_state(data: Path) -> ControlState:
    """The state in the control file of a data directory, where there is no pg_controldata.

    Raises:
        ValueError: if this is not the control file of a PostgreSQL since 14.
        OSError: if it cannot be read.
    """
    version: int
    state: int
    _, version, _, state = _BEGINNING.unpack_from((data / _FILE).read_bytes())
    if version not in _VERSIONS or state >= len(ControlState):
        raise ValueError(f"{data / _FILE}: pg_control_version {version}, state {state}")
    return list(ControlState)[state]
