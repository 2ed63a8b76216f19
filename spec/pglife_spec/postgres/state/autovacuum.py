"""Autovacuum: what launcher and postmaster tell each other, and the entries of the workers."""

from pglife_spec.lang.expr import BOOL, INT, Var

START_AUTOVAC_LAUNCHER = Var(
    "START_AUTOVAC_LAUNCHER", BOOL, "PMSignal flag, not read yet (PG-06)", initial=False
)
START_AUTOVAC_WORKER = Var(
    "START_AUTOVAC_WORKER", BOOL, "PMSignal flag, not read yet (PG-07)", initial=False
)
START_LAUNCHER = Var(
    "start_autovac_launcher",
    BOOL,
    "a launcher is wanted although autovacuum is off (SV-08)",
    initial=False,
)
NEEDS_SIGNAL = Var(
    "avlauncher_needs_signal",
    BOOL,
    "the launcher is signalled at the end of this iteration: a worker could not be started (SV-09)",
    initial=False,
)
FORK_FAILED = Var(
    "AutoVacForkFailed", BOOL, "in shared memory: a worker could not be started", initial=False
)
STARTING = Var(
    "av_startingWorker", BOOL, "in shared memory: the entry of the worker to come", initial=False
)
WORKING = Var(
    "av_working",
    INT,
    "entries that a worker has taken",
    bound="autovac_entries",
    initial=0,
)
LOST = Var(
    "av_lost",
    INT,
    "entries that no worker will take, and that are not free",
    bound="autovac_entries",
    initial=0,
)
