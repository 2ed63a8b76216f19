"""The settings of one run: GUCs, limits, and what the environment may do."""

from pglife_spec.lang.expr import BOOL, INT, EnumSort, Param, in_
from pglife_spec.postgres.words import ArchiveMode
from pglife_spec.postgres.words.recovery import Target
from pglife_spec.postgres.words.releases import VERIFIED, VERSION, Feature, has
from pglife_spec.postgres.words.workers import WorkerStart

RESTART_AFTER_CRASH = Param("restart_after_crash", BOOL, "GUC restart_after_crash")
LOGGING_COLLECTOR = Param("logging_collector", BOOL, "GUC logging_collector")
AUTOVACUUM = Param("autovacuum", BOOL, "GUCs autovacuum and track_counts")
LOGICAL_LAUNCHER = Param("logical_launcher", BOOL, "max_logical_replication_workers > 0")
HOT_STANDBY = Param("hot_standby", BOOL, "GUC hot_standby")
STANDBY = Param("standby", BOOL, "standby.signal exists at the first start (RC-01)")
TARGET = Param(
    "recovery_target",
    EnumSort(Target),
    "recovery_target_action, if there is a target; without standby.signal there is recovery.signal",
)
STREAMING = Param("streaming", BOOL, "primary_conninfo is set: a standby wants a walreceiver")
SYNC_SLOTS = Param("sync_slots", BOOL, "GUC sync_replication_slots, with all that it needs (WS-20)")
ANY_START = Param(
    "any_start",
    BOOL,
    "the control file may be in any state at the start; otherwise shut down or in production",
)
WRITERS = Param(
    "writers", BOOL, "background writer and walwriter exist; off only to leave them out"
)
IO_WORKERS = Param("io_workers", INT, "GUC io_workers; 0 stands for io_method other than worker")
ARCHIVE_MODE = Param("archive_mode", EnumSort(ArchiveMode), "GUC archive_mode")
WAL_SENDERS = Param("wal_senders", BOOL, "whether clients may ask for replication (CN-32)")
SUMMARIZE_WAL = Param("summarize_wal", BOOL, "GUC summarize_wal")
AUTOVAC_WORKERS = Param(
    "autovac_workers", INT, "GUC autovacuum_max_workers, and of 18 autovacuum_worker_slots"
)
WRAPAROUND = Param("wraparound", BOOL, "whether a database is near wraparound (AV-14)")
WORKER_START = Param(
    "worker_start", EnumSort(WorkerStart), "bgw_start_time of a worker of shared_preload_libraries"
)
WORKER_RESTARTS = Param(
    "worker_restarts", BOOL, "whether that worker is restarted after exit code 1 (BG-04)"
)
POOL_CHANGES = Param(
    "pool_changes", BOOL, "whether the operator may change io_workers, up to its first value"
)
CHILD_SLOTS = Param("child_slots", INT, "slots for client backends (SV-40)")
FORK_FAULTS = Param("fork_faults", BOOL, "whether the environment may make fork() fail")
RELOADS = Param("reloads", BOOL, "whether the operator may send SIGHUP to the postmaster")
STRAY_SIGNALS = Param(
    "stray_signals", BOOL, "whether the operator may send SIGINT or SIGUSR2 to the checkpointer"
)

ASSUMPTIONS = (
    in_(VERSION, *(release.number for release in VERIFIED)),
    IO_WORKERS >= 0,
    has(Feature.IO_WORKERS) | (IO_WORKERS == 0),
    CHILD_SLOTS >= 1,
    AUTOVAC_WORKERS >= 0,
    has(Feature.WAL_SUMMARIZER) | ~SUMMARIZE_WAL,
    has(Feature.SLOTSYNC_WORKER) | ~SYNC_SLOTS,
)
