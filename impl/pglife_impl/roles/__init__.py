"""The background processes, one module each. Importing this package registers them all."""

from pglife_impl.roles import autovacuum, checkpointer, io_worker, logger, logical, startup, writers

__all__ = ["autovacuum", "checkpointer", "io_worker", "logger", "logical", "startup", "writers"]
