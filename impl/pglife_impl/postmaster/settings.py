"""From settings to what decisions and shared memory need of them.

Begin with   config_of().
Owns         nothing.
Leaves out   the settings themselves (guc.py).
Source       utils/init/postinit.c: InitializeMaxBackends(); rules SV-40..43.
"""

from __future__ import annotations

from pglife_impl.config.guc import Gucs
from pglife_impl.postmaster.state import Config, slot_count
from pglife_impl.shmem.segment import Sizes


def config_of(gucs: Gucs) -> Config:
    """What decisions look at, as it is now."""
    return Config(
        max_connections=gucs.integer("max_connections"),
        max_wal_senders=gucs.integer("max_wal_senders"),
        max_worker_processes=gucs.integer("max_worker_processes"),
        max_logical_replication_workers=gucs.integer("max_logical_replication_workers"),
        io_method=gucs.text("io_method"),
        io_workers=gucs.integer("io_workers"),
        autovacuum=gucs.boolean("autovacuum"),
        track_counts=gucs.boolean("track_counts"),
        logging_collector=gucs.boolean("logging_collector"),
        restart_after_crash=gucs.boolean("restart_after_crash"),
        send_abort_for_crash=gucs.boolean("send_abort_for_crash"),
        send_abort_for_kill=gucs.boolean("send_abort_for_kill"),
        hot_standby=gucs.boolean("hot_standby"),
    )


def sizes_of(gucs: Gucs) -> Sizes:
    """How large shared memory must be. Two more than the slots: launcher and slotsync worker."""
    return Sizes(
        child_slots=slot_count(config_of(gucs)),
        backends=gucs.integer("max_connections"),
        autovacuum=gucs.integer("autovacuum_worker_slots") + 2,
        workers=gucs.integer("max_worker_processes"),
    )
