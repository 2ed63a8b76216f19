"""Who is who in the matrix: a process's kind, and for a client's child how far it has come.

Begin with   Role.
Owns         names in the log, signals that a role ignores, and the sets that the rules name.
Leaves out   states and events.
Source       tables 3.3 and 3.4; SM-02.
"""

from __future__ import annotations

from enum import Enum
from signal import SIGHUP, SIGINT, SIGTERM, Signals

from pglife_conformance.observation.kinds import Kind


class Role(Enum):
    """A process of the family."""

    STARTUP = "startup"
    CHECKPOINTER = "checkpointer"
    BACKGROUND_WRITER = "background writer"
    WALWRITER = "walwriter"
    AUTOVACUUM_LAUNCHER = "autovacuum launcher"
    LOGICAL_REPLICATION_LAUNCHER = "logical replication launcher"
    ARCHIVER = "archiver"
    IO_WORKER = "io worker"
    BACKEND = "client backend"
    SILENT = "unauthenticated backend"
    DEAD_END = "dead-end child"

    def __str__(self) -> str:
        return self.value


BY_KIND: dict[Kind, Role] = {
    Kind.STARTUP: Role.STARTUP,
    Kind.CHECKPOINTER: Role.CHECKPOINTER,
    Kind.BACKGROUND_WRITER: Role.BACKGROUND_WRITER,
    Kind.WALWRITER: Role.WALWRITER,
    Kind.AUTOVACUUM_LAUNCHER: Role.AUTOVACUUM_LAUNCHER,
    Kind.LOGICAL_REPLICATION_LAUNCHER: Role.LOGICAL_REPLICATION_LAUNCHER,
    Kind.ARCHIVER: Role.ARCHIVER,
    Kind.IO_WORKER: Role.IO_WORKER,
    Kind.CLIENT_BACKEND: Role.BACKEND,
}
"""A child of kind UNKNOWN is SILENT or DEAD_END: only who connected knows."""

_LOG_NAMES: dict[Role, tuple[str, str]] = {
    Role.STARTUP: ("startup process", "startup process"),
    Role.CHECKPOINTER: ("checkpointer process", "checkpointer process"),
    Role.BACKGROUND_WRITER: ("background writer process", "background writer process"),
    Role.WALWRITER: ("WAL writer process", "WAL writer process"),
    Role.AUTOVACUUM_LAUNCHER: ("autovacuum launcher process", "autovacuum launcher process"),
    Role.LOGICAL_REPLICATION_LAUNCHER: (
        'background worker "logical replication launcher"',
        'background worker "logical replication launcher"',
    ),
    Role.ARCHIVER: ("archiver process", "archiver process"),
    Role.IO_WORKER: ("io worker", "io worker"),
    Role.BACKEND: ("client backend", "server process"),
    Role.SILENT: ("client backend", "server process"),
    Role.DEAD_END: ("dead-end client backend", "server process"),
}
"""RP-10 to RP-26: in 18, before."""


def name_in_log(role: Role, major: int) -> str:
    """What the postmaster calls it when it tells of its end."""
    return _LOG_NAMES[role][0 if major >= 18 else 1]


IGNORES: dict[Role, frozenset[Signals]] = {
    Role.STARTUP: frozenset({SIGINT}),
    Role.CHECKPOINTER: frozenset({SIGTERM}),
    Role.BACKGROUND_WRITER: frozenset({SIGINT}),
    Role.ARCHIVER: frozenset({SIGINT}),
    Role.IO_WORKER: frozenset({SIGTERM}),
}
"""SG-10 to SG-20: what the kernel throws away, so that nobody can see it was sent."""

CLIENTS = frozenset({Role.BACKEND, Role.SILENT})
"""Normal backends of SM-20: an unauthenticated one counts."""

TARGETS = CLIENTS | {
    Role.AUTOVACUUM_LAUNCHER,
    Role.LOGICAL_REPLICATION_LAUNCHER,
    Role.WALWRITER,
    Role.BACKGROUND_WRITER,
    Role.STARTUP,
}
"""SM-02: told TERM at STOP_BACKENDS and waited for in WAIT_BACKENDS."""

GOOD_ENDS: dict[Role, frozenset[int]] = {
    Role.BACKGROUND_WRITER: frozenset({0}),
    Role.WALWRITER: frozenset({0}),
    Role.AUTOVACUUM_LAUNCHER: frozenset({0}),
    Role.LOGICAL_REPLICATION_LAUNCHER: frozenset({0, 1}),
    Role.ARCHIVER: frozenset({0, 1}),
    Role.IO_WORKER: frozenset({0, 1}),
    Role.BACKEND: frozenset({0, 1}),
    Role.SILENT: frozenset({0, 1}),
    Role.DEAD_END: frozenset({0, 1}),
}
"""Table 3.4. The startup process and the checkpointer have rules of their own."""

HEARS_RELOAD = {role: frozenset({SIGHUP}) for role in Role if role is not Role.DEAD_END}
"""SG-02."""
