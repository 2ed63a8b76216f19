"""The variables and parameters of the machine.

Begin with   PARAMS (what stays the same in one run) and VARIABLES (what changes).
Owns         names, sorts, and the questions actions and claims ask about children: recorded,
             alive, dead and not yet reaped.
Source       postgres-lifecycle rules SV-01 ff; sections 1.2 and 3.1.
"""

from __future__ import annotations

from pglife_spec.lang.expr import (
    BOOL,
    INT,
    EnumSort,
    Expr,
    Param,
    Var,
    all_of,
    any_of,
    const,
    in_,
    total,
)
from pglife_spec.postgres.words import (
    COUNTED,
    PM,
    SINGLETONS,
    Control,
    Exit,
    Kind,
    Life,
    PidFile,
    Shutdown,
    StartupStatus,
)

# --- what stays the same in one run -----------------------------------------------------------

VERSION = Param("version", INT, "major version of PostgreSQL: 15 or 18")
RESTART_AFTER_CRASH = Param("restart_after_crash", BOOL, "GUC restart_after_crash")
LOGGING_COLLECTOR = Param("logging_collector", BOOL, "GUC logging_collector")
AUTOVACUUM = Param("autovacuum", BOOL, "GUCs autovacuum and track_counts")
LOGICAL_LAUNCHER = Param("logical_launcher", BOOL, "max_logical_replication_workers > 0")
HOT_STANDBY = Param("hot_standby", BOOL, "GUC hot_standby")
IO_WORKERS = Param("io_workers", INT, "GUC io_workers; 0 stands for io_method other than worker")
CHILD_SLOTS = Param("child_slots", INT, "slots for client backends (SV-40)")
FORK_FAULTS = Param("fork_faults", BOOL, "whether the environment may make fork fail")
RELOADS = Param("reloads", BOOL, "whether the operator may send SIGHUP")

STRAY_SIGNALS = Param(
    "stray_signals", BOOL, "whether somebody may send SIGINT or SIGUSR2 to the checkpointer by hand"
)

REPAIR_SHUTDOWN_IN_CRASH_STARTUP = Param(
    "repair.startup_shutdown_after_crash_quits",
    BOOL,
    "a shutdown request in PM_STARTUP with FatalError still set sends SIGQUIT, as a crash does",
)
REPAIR_CRASH_IN_CRASH_STARTUP = Param(
    "repair.crash_during_fatal_error_in_startup",
    BOOL,
    "a crash in PM_STARTUP with FatalError left over from the last one is a new crash",
)
REPAIR_CHECKPOINTER_FORK_FAILURE = Param(
    "repair.checkpointer_fork_failure_advances",
    BOOL,
    "the state machine goes on after the checkpointer could not be forked",
)
REPAIR_STARTUP_EXIT_IN_CRASH = Param(
    "repair.startup_exit_in_crash_not_run",
    BOOL,
    "a startup process that exits 0 after SIGQUIT was sent does not open the server",
)
REPAIR_KILL_DEAD_END = Param(
    "repair.sigkill_reaches_dead_end",
    BOOL,
    "SIGKILL reaches every dead-end child: up to 17 they are in the rounds, 18 arms the clock "
    "again for those that PM_WAIT_DEAD_END tells to end",
)

REPAIR_LAST_ACCEPT = Param(
    "repair.no_accept_after_wait_dead_end",
    BOOL,
    "18: no client is served in the turn that has entered PM_WAIT_DEAD_END",
)
REPAIR_STARTUP_FORK_FAILURE = Param(
    "repair.startup_fork_failure_is_crash",
    BOOL,
    "a startup process that cannot be forked is handled as one that failed",
)

REPAIR_XLOG_IN_CRASH_STARTUP = Param(
    "repair.xlog_shutdown_in_crash_startup_is_crash",
    BOOL,
    "a shutdown checkpoint reported in the PM_STARTUP after a crash is a crash, as elsewhere",
)

REPAIRS = (
    REPAIR_SHUTDOWN_IN_CRASH_STARTUP,
    REPAIR_CRASH_IN_CRASH_STARTUP,
    REPAIR_CHECKPOINTER_FORK_FAILURE,
    REPAIR_STARTUP_EXIT_IN_CRASH,
    REPAIR_KILL_DEAD_END,
    REPAIR_LAST_ACCEPT,
    REPAIR_STARTUP_FORK_FAILURE,
    REPAIR_XLOG_IN_CRASH_STARTUP,
)

PARAMS = (
    VERSION,
    RESTART_AFTER_CRASH,
    LOGGING_COLLECTOR,
    AUTOVACUUM,
    LOGICAL_LAUNCHER,
    HOT_STANDBY,
    IO_WORKERS,
    CHILD_SLOTS,
    FORK_FAULTS,
    RELOADS,
    STRAY_SIGNALS,
    *REPAIRS,
)

V18 = VERSION == 18
V15 = VERSION == 15

ASSUMPTIONS = (
    V15 | V18,
    IO_WORKERS >= 0,
    V18 | (IO_WORKERS == 0),
    CHILD_SLOTS >= 1,
)

# --- the postmaster ---------------------------------------------------------------------------

STATE = Var("pmState", EnumSort(PM), "where the postmaster is (1.1)")
SHUTDOWN = Var("Shutdown", EnumSort(Shutdown), "the strongest request so far (SV-01)")
FATAL_ERROR = Var("FatalError", BOOL, "a crash is being handled (SV-02)")
ABORT_CLOCK = Var("AbortStartTime", BOOL, "the SIGKILL clock is armed (SV-03)")
CONNS_ALLOWED = Var("connsAllowed", BOOL, "false during a smart shutdown (SV-04)")
STARTUP_STATUS = Var("StartupStatus", EnumSort(StartupStatus), "SV-07")
EXIT = Var("postmaster", EnumSort(Exit), "alive, or how it ended")
REAPING = Var("reaping", BOOL, "inside the waitpid loop: some deaths reaped, maybe more to come")
REQUEST = Var("pending_request", EnumSort(Shutdown), "strongest request not handled yet (SV-21)")
FAST_TOO = Var(
    "pending_fast_too", BOOL, "15: INT came besides QUIT, and is handled first (SG-08, pmdie())"
)
RELOAD = Var("pending_reload", BOOL, "SIGHUP came and was not handled yet (SV-21)")
FORK_FAILS = Var("fork_fails", BOOL, "fork() fails at present")
SCARCE = Var("scarce", BOOL, "the startup process is the one that fork() fails for")
LAST_ACCEPT = Var(
    "last_accept", BOOL, "a client noticed before PM_WAIT_DEAD_END was entered may still be served"
)
PID_FILE = Var("pid_file", EnumSort(PidFile), "line 8 of postmaster.pid (SH-40)")

# --- shared memory, disk, and history -----------------------------------------------------------

RECOVERY_STARTED = Var("RECOVERY_STARTED", BOOL, "PMSignal flag not looked at yet (PG-01)")
XLOG_IS_SHUTDOWN = Var("XLOG_IS_SHUTDOWN", BOOL, "PMSignal flag not looked at yet (PG-09)")
REDO = Var("redo", BOOL, "this generation's startup process has begun redo (RC-02)")
RECOVERED = Var("recovered", BOOL, "this generation's startup process has finished recovery")
CONTROL = Var("control", EnumSort(Control), "pg_controldata's cluster state (CT-20)")
TAINTED = Var("tainted", BOOL, "history: a child of this generation crashed")
FORKED_LATE = Var("forked_late", BOOL, "history: a child was forked where INV-33/34/40 forbid it")
TWO_ROUNDS = Var("two_rounds", BOOL, "history: two SIGQUIT rounds in one time of FatalError")
ROUND = Var("round", BOOL, "history: a SIGQUIT round was announced in this time of FatalError")

# --- children -----------------------------------------------------------------------------------

_SHORT = {
    Kind.STARTUP: "startup",
    Kind.CHECKPOINTER: "checkpointer",
    Kind.BG_WRITER: "bgwriter",
    Kind.WAL_WRITER: "walwriter",
    Kind.AUTOVAC_LAUNCHER: "avlauncher",
    Kind.BG_WORKER: "lrlauncher",
    Kind.LOGGER: "logger",
    Kind.BACKEND: "backend",
    Kind.DEAD_END_BACKEND: "dead_end",
    Kind.IO_WORKER: "io_worker",
}

#: Local states that a counted child can be in; exit codes 0 and 1 mean the same for all of them.
COUNTED_LIVES = (Life.RUNNING, Life.TERMINATING, Life.QUITTING, Life.EXITED_0, Life.CRASHED)
ALIVE_LIVES = (
    Life.RUNNING,
    Life.TERMINATING,
    Life.CHECKPOINTING,
    Life.XLOG_SHUT_DOWN,
    Life.QUITTING,
)
DEAD_LIVES = (Life.EXITED_0, Life.EXITED_1, Life.CRASHED)

LIFE: dict[Kind, Var] = {
    kind: Var(_SHORT[kind], EnumSort(Life), f"the {kind.value}") for kind in SINGLETONS
}
COUNT: dict[tuple[Kind, Life], Var] = {
    (kind, life): Var(
        f"{_SHORT[kind]}.{life.name.lower()}",
        INT,
        f"{kind.value}s: {life.value}",
        bound=_SHORT[kind],
    )
    for kind in COUNTED
    for life in COUNTED_LIVES
}

VARIABLES = (
    STATE,
    SHUTDOWN,
    FATAL_ERROR,
    ABORT_CLOCK,
    CONNS_ALLOWED,
    STARTUP_STATUS,
    EXIT,
    REAPING,
    REQUEST,
    FAST_TOO,
    RELOAD,
    FORK_FAILS,
    SCARCE,
    LAST_ACCEPT,
    PID_FILE,
    RECOVERY_STARTED,
    XLOG_IS_SHUTDOWN,
    REDO,
    RECOVERED,
    CONTROL,
    TAINTED,
    FORKED_LATE,
    ROUND,
    TWO_ROUNDS,
    *LIFE.values(),
    *COUNT.values(),
)

# --- questions ------------------------------------------------------------------------------------


def short(kind: Kind) -> str:
    """The kind's name as actions and variables carry it."""
    return _SHORT[kind]


def recorded(*kinds: Kind) -> Expr:
    """Whether the postmaster has a record of some child of these kinds (alive or unreaped)."""
    return ~none_recorded(*kinds)


def none_recorded(*kinds: Kind) -> Expr:
    """Whether the postmaster has no record of any child of these kinds."""
    parts: list[Expr] = []
    for kind in kinds:
        if kind in LIFE:
            parts.append(LIFE[kind] == Life.ABSENT)
        else:
            parts.extend(COUNT[kind, life] == 0 for life in COUNTED_LIVES)
    return all_of(*parts)


def number(kind: Kind) -> Expr:
    """How many children of a counted kind the postmaster has on record."""
    return total(COUNT[kind, life] for life in COUNTED_LIVES)


def alive(kind: Kind) -> Expr:
    """Whether a child of the kind lives."""
    if kind in LIFE:
        return in_(LIFE[kind], *ALIVE_LIVES)
    return any_of(*(COUNT[kind, life] >= 1 for life in COUNTED_LIVES if life in ALIVE_LIVES))


def dead(kind: Kind) -> Expr:
    """Whether a child of the kind is dead and not yet reaped."""
    if kind in LIFE:
        return in_(LIFE[kind], *DEAD_LIVES)
    return any_of(*(COUNT[kind, life] >= 1 for life in COUNTED_LIVES if life in DEAD_LIVES))


def state_is(*states: PM) -> Expr:
    """Whether pmState is one of these."""
    return in_(STATE, *states)


#: Kinds attached to shared memory: all but the logger and dead-end children (INV-48).
NOT_LOGGER = tuple(kind for kind in Kind if kind is not Kind.LOGGER)

CRASHY = FATAL_ERROR | (SHUTDOWN == Shutdown.ImmediateShutdown)
LIVES = EXIT == Exit.ALIVE
#: The postmaster is at the top of its loop: no event half handled.
READY = LIVES & ~REAPING
NOBODY_DEAD = ~any_of(*(dead(kind) for kind in Kind))
ZERO = const(0)
