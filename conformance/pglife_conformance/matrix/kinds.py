"""Sets of kinds that the rules of the matrix name."""

from pglife_conformance.observation.kinds import Kind

ALL = frozenset(
    {
        Kind.STARTUP,
        Kind.CHECKPOINTER,
        Kind.BACKGROUND_WRITER,
        Kind.WALWRITER,
        Kind.AUTOVACUUM_LAUNCHER,
        Kind.LOGICAL_REPLICATION_LAUNCHER,
        Kind.ARCHIVER,
        Kind.IO_WORKER,
        Kind.CLIENT_BACKEND,
        Kind.UNAUTHENTICATED,
        Kind.DEAD_END,
    }
)
"""The kinds that occur in the matrix."""

CLIENTS = frozenset({Kind.CLIENT_BACKEND, Kind.UNAUTHENTICATED})
"""Normal backends of SM-20: an unauthenticated one counts."""

TARGETS = CLIENTS | {
    Kind.AUTOVACUUM_LAUNCHER,
    Kind.LOGICAL_REPLICATION_LAUNCHER,
    Kind.WALWRITER,
    Kind.BACKGROUND_WRITER,
    Kind.STARTUP,
}
"""SM-02: sent SIGTERM in PM_STOP_BACKENDS and waited for in PM_WAIT_BACKENDS."""

RELOAD_TARGETS = ALL - {Kind.DEAD_END}
"""SG-02: sent SIGHUP at a reload."""
