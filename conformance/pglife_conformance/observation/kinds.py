"""Kinds of process, as their titles tell them.

Begin with   kind_of_title().
Owns         Kind and the table from title to kind.
Leaves out   the reading of titles (processes.py).
Source       rules TI-01 to TI-32 (init_ps_display and set_ps_display in each process's main).
"""

from __future__ import annotations

import re
from enum import Enum

PREFIX = "postgres: "

#: User, database, and where from: a title read while it is being written has less (TI-20).
_SESSION = re.compile(r".+ .+ (\[local\]|\S+\(\d+\))( .*)?", re.DOTALL)


class Kind(Enum):
    """What a process is, under the name its title gives it."""

    UNKNOWN = "unknown"
    """A child that has not set its title: before its startup packet, or dead-end (TI-22, 23)."""
    STARTUP = "startup"
    CHECKPOINTER = "checkpointer"
    BACKGROUND_WRITER = "background writer"
    WALWRITER = "walwriter"
    AUTOVACUUM_LAUNCHER = "autovacuum launcher"
    AUTOVACUUM_WORKER = "autovacuum worker"
    ARCHIVER = "archiver"
    WALRECEIVER = "walreceiver"
    WALSUMMARIZER = "walsummarizer"
    SLOTSYNC_WORKER = "slotsync worker"
    IO_WORKER = "io worker"
    LOGGER = "logger"
    LOGICAL_REPLICATION_LAUNCHER = "logical replication launcher"
    LOGICAL_REPLICATION_WORKER = "logical replication worker"
    PARALLEL_WORKER = "parallel worker"
    AUTOPREWARM_LEADER = "autoprewarm leader"
    AUTOPREWARM_WORKER = "autoprewarm worker"
    WALSENDER = "walsender"
    CLIENT_BACKEND = "client backend"

    def __str__(self) -> str:
        return self.value


_BY_FIRST_WORDS: tuple[tuple[str, Kind], ...] = (
    ("startup", Kind.STARTUP),
    ("checkpointer", Kind.CHECKPOINTER),
    ("background writer", Kind.BACKGROUND_WRITER),
    ("walwriter", Kind.WALWRITER),
    ("autovacuum launcher", Kind.AUTOVACUUM_LAUNCHER),
    ("autovacuum worker", Kind.AUTOVACUUM_WORKER),
    ("archiver", Kind.ARCHIVER),
    ("walreceiver", Kind.WALRECEIVER),
    ("walsummarizer", Kind.WALSUMMARIZER),
    ("slotsync worker", Kind.SLOTSYNC_WORKER),
    ("io worker", Kind.IO_WORKER),
    ("logger", Kind.LOGGER),
    ("logical replication launcher", Kind.LOGICAL_REPLICATION_LAUNCHER),
    ("logical replication worker", Kind.LOGICAL_REPLICATION_WORKER),
    ("logical replication apply worker", Kind.LOGICAL_REPLICATION_WORKER),
    ("logical replication tablesync worker", Kind.LOGICAL_REPLICATION_WORKER),
    ("logical replication parallel apply worker", Kind.LOGICAL_REPLICATION_WORKER),
    ("parallel worker", Kind.PARALLEL_WORKER),
    ("autoprewarm leader", Kind.AUTOPREWARM_LEADER),
    ("autoprewarm worker", Kind.AUTOPREWARM_WORKER),
    ("walsender", Kind.WALSENDER),
)


def kind_of_title(title: str, cluster_name: str = "") -> Kind:
    """The kind that a title names; whatever else follows the prefix is a client's backend.

    A role called like a background process would deceive us; the suite names its roles itself.
    """
    if not title.startswith(PREFIX):
        return Kind.UNKNOWN
    rest = title.removeprefix(PREFIX)
    if cluster_name:
        rest = rest.removeprefix(f"{cluster_name}: ")
    for words, kind in _BY_FIRST_WORDS:
        if rest == words or rest.startswith(words + " "):
            return kind
    return Kind.CLIENT_BACKEND if _SESSION.fullmatch(rest) else Kind.UNKNOWN


def as_kind(name: Kind | str) -> Kind:
    """A kind by PostgreSQL's name for it."""
    return name if isinstance(name, Kind) else Kind(name)
