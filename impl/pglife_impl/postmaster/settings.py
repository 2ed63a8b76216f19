"""What decisions and shared memory need to know of the settings.

Source: utils/init/postinit.c: InitializeMaxBackends(); rules SV-40..43.
"""

from pglife_impl.config.guc import Gucs
from pglife_impl.postmaster.state import Config, IoMethod, all_slots
from pglife_impl.shmem.segment import Sizes


def config_of(gucs: Gucs) -> Config:
    """The settings that decisions depend on, with their present values."""
    return Config(
        max_connections=gucs.integer("max_connections"),
        max_wal_senders=gucs.integer("max_wal_senders"),
        max_worker_processes=gucs.integer("max_worker_processes"),
        max_logical_replication_workers=gucs.integer("max_logical_replication_workers"),
        io_method=IoMethod(gucs.text("io_method")),
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
    """How large shared memory must be. The autovacuum launcher and the slotsync worker draw from
    the autovacuum list too, hence the two more."""
    return Sizes(
        child_slots=sum(len(slots) for slots in all_slots(config_of(gucs)).values()),
        backends=gucs.integer("max_connections"),
        autovacuum=gucs.integer("autovacuum_worker_slots") + 2,
        workers=gucs.integer("max_worker_processes"),
    )
