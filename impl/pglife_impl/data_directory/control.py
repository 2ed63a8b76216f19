"""The control file global/pg_control: cluster state and latest checkpoint.

Begin with read() and Control.write().
Source: catalog/pg_control.h, access/transam/xlog.c: UpdateControlFile(); rules ST-02, ST-08, SH-13,
SH-14, CT-20.

DIFFERS: the layout is pglife's own (magic, fields, CRC), so PostgreSQL's pg_controldata cannot read
it and pglife's cannot read PostgreSQL's. The file is replaced by rename instead of being
overwritten, so that a reader never sees half of it.
"""

from __future__ import annotations

import os
import struct
import zlib
from enum import IntEnum

from pglife_impl import ImplError
from pglife_impl.base.record import Record

MAGIC = b"PGLF"
VERSION = 1800
CATALOG_VERSION = 202506291
LAYOUT = struct.Struct("<4sIIQIddQQBiiii")
CRC = struct.Struct("<I")
PATH = os.path.join("global", "pg_control")


class DbState(IntEnum):
    """Database cluster state."""

    STARTUP = 0
    SHUTDOWNED = 1
    SHUTDOWNED_IN_RECOVERY = 2
    SHUTDOWNING = 3
    IN_CRASH_RECOVERY = 4
    IN_ARCHIVE_RECOVERY = 5
    IN_PRODUCTION = 6


STATE_NAMES = {
    DbState.STARTUP: "starting up",
    DbState.SHUTDOWNED: "shut down",
    DbState.SHUTDOWNED_IN_RECOVERY: "shut down in recovery",
    DbState.SHUTDOWNING: "shutting down",
    DbState.IN_CRASH_RECOVERY: "in crash recovery",
    DbState.IN_ARCHIVE_RECOVERY: "in archive recovery",
    DbState.IN_PRODUCTION: "in production",
}


class ControlError(ImplError):
    """The control file is missing, unreadable or broken."""


class BrokenControl(ControlError):
    """The checksum is wrong. Each program reports this with a message of its own."""


class Control(Record):
    """The contents of the control file."""

    system_identifier: int
    state: DbState
    time: float  # last written
    checkpoint_time: float
    checkpoint: int  # location of the latest checkpoint record
    redo: int
    wal_level: int = 1  # minimal, replica, logical
    max_connections: int = 100
    max_worker_processes: int = 8
    max_wal_senders: int = 10
    max_prepared_transactions: int = 0

    def with_state(self, state: DbState, now: float) -> Control:
        """Return a copy in another state."""
        return self.replace(state=state, time=now)

    def write(self, data_directory: str, *, sync: bool) -> None:
        """Replace the file; with `sync`, durably."""
        body = LAYOUT.pack(
            MAGIC,
            VERSION,
            CATALOG_VERSION,
            self.system_identifier,
            self.state,
            self.time,
            self.checkpoint_time,
            self.checkpoint,
            self.redo,
            self.wal_level,
            self.max_connections,
            self.max_worker_processes,
            self.max_wal_senders,
            self.max_prepared_transactions,
        )
        path = os.path.join(data_directory, PATH)
        temporary = f"{path}.new"
        with open(temporary, "wb") as file:
            file.write(body + CRC.pack(zlib.crc32(body)))
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.rename(temporary, path)
        if sync:
            sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    """Make a rename in the directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read(data_directory: str) -> Control:
    """Read the control file of a data directory; ControlError if it is missing or invalid."""
    path = os.path.join(data_directory, PATH)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as e:
        raise ControlError(f'could not open file "{path}" for reading: {e.strerror}') from e
    if len(data) != LAYOUT.size + CRC.size:
        raise ControlError(f'could not read file "{path}": not a control file of this server')
    body, crc = data[: LAYOUT.size], CRC.unpack(data[LAYOUT.size :])[0]
    magic, version, _, system_identifier, state, *rest = LAYOUT.unpack(body)
    if magic != MAGIC or version != VERSION:
        raise ControlError("database files are incompatible with server")
    if crc != zlib.crc32(body):
        raise BrokenControl("incorrect checksum in control file")
    return Control(system_identifier, DbState(state), *rest)


def show_lsn(lsn: int) -> str:
    """Return a WAL location in PostgreSQL's notation."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
