"""Claims about the life of each kind of child: when it is on record, and in which states of life.

Begin with CLAIMS. A table for each question has one row for each kind; each row is a claim.
"""

from collections.abc import Iterator

from pglife_spec.lang.expr import FALSE, Expr, any_of, implies, in_
from pglife_spec.lang.machine import Claim
from pglife_spec.postgres.state.children import (
    ALIVE_LIVES,
    COUNT,
    LIFE,
    none_recorded,
    recorded,
    some_in,
)
from pglife_spec.postgres.state.postmaster import (
    ALIVE,
    CRASH_OR_IMMEDIATE,
    FATAL_ERROR,
    PENDING,
    STARTUP_STATUS,
    state_is,
)
from pglife_spec.postgres.state.shared import REDO
from pglife_spec.postgres.words import PM, Kind, Life, StartupStatus
from pglife_spec.postgres.words.kinds import KINDS, TARGETS, UP, short
from pglife_spec.postgres.words.parameters import (
    AUTOVACUUM,
    IO_WORKERS,
    STRAY_SIGNALS,
    WAL_SENDERS,
    WRAPAROUND,
)
from pglife_spec.postgres.words.releases import Feature, has
from pglife_spec.postgres.words.repairs import REPAIR_STARTUP_EXIT_IN_CRASH

_OUTLIVES_WAL = has(Feature.CHECKPOINTER_OUTLIVES_WAL)
_SINGLE_LIVES = (Life.ABSENT, *ALIVE_LIVES, Life.EXITED_0, Life.EXITED_1, Life.CRASHED)
#: The states of life that a kind may have other than running, sent SIGQUIT, and crashed.
_OTHER_LIVES: dict[Kind, tuple[Life, ...]] = {
    Kind.STARTUP: (Life.TERMINATING, Life.EXITED_0, Life.EXITED_1),
    Kind.CHECKPOINTER: (
        Life.TERMINATING,
        Life.CHECKPOINTING,
        Life.XLOG_SHUT_DOWN,
        Life.EXITED_0,
    ),
    Kind.BG_WRITER: (Life.TERMINATING, Life.EXITED_0),
    Kind.WAL_WRITER: (Life.TERMINATING, Life.EXITED_0),
    Kind.AUTOVAC_LAUNCHER: (Life.TERMINATING, Life.EXITED_0),
    Kind.BG_WORKER: (Life.TERMINATING, Life.EXITED_1),
    Kind.WAL_SUMMARIZER: (Life.TERMINATING, Life.EXITED_0),
    Kind.ARCHIVER: (Life.TERMINATING, Life.EXITED_0, Life.EXITED_1),
}
_ALWAYS = (Life.ABSENT, Life.RUNNING, Life.QUITTING, Life.CRASHED)
#: Where a kind may be on record while no crash is handled and no immediate shutdown is pending.
_RUN_TO_WAIT = (PM.PM_HOT_STANDBY, PM.PM_RUN, PM.PM_STOP_BACKENDS, PM.PM_WAIT_BACKENDS)
_ORDERLY: dict[Kind, tuple[PM, ...]] = {
    Kind.STARTUP: (*UP[:3], PM.PM_STOP_BACKENDS, PM.PM_WAIT_BACKENDS),
    Kind.BG_WRITER: (*UP, PM.PM_STOP_BACKENDS, PM.PM_WAIT_BACKENDS),
    Kind.WAL_WRITER: _RUN_TO_WAIT,
    Kind.AUTOVAC_LAUNCHER: _RUN_TO_WAIT,
    Kind.BG_WORKER: _RUN_TO_WAIT,
    Kind.WAL_SUMMARIZER: _RUN_TO_WAIT,
    Kind.BACKEND: _RUN_TO_WAIT,
}


_F04 = (
    "without the repair a startup process that finishes after SIGQUIT opens a server whose "
    "children are being killed"
)


def _claim(
    name: str,
    doc: str,
    holds: Expr,
    reaches: Expr,
    *ids: str,
    source: str,
    exception: str = "",
) -> Claim:
    return Claim(name, ids, doc, source, holds, reaches, exception)


def _lives() -> Iterator[Claim]:
    for kind, others in _OTHER_LIVES.items():
        never = [life for life in _SINGLE_LIVES if life not in (*_ALWAYS, *others)]
        yield _claim(
            f"the_{short(kind)}_exits_as_its_kind_does",
            f"The {kind.value} never is in a state of life that its kind does not have.",
            ~some_in(kind, *never),
            some_in(kind, *others),
            "MM-10",
            "SG-12",
            source="each process's main function",
        )


def _states() -> Iterator[Claim]:
    for kind, states in _ORDERLY.items():
        here = recorded(kind) & ~CRASH_OR_IMMEDIATE & ALIVE
        yield _claim(
            f"the_{short(kind)}_keeps_to_its_states",
            f"Outside of a crash and an immediate shutdown a {kind.value} is on record only in "
            f"{', '.join(state.name for state in states)}.",
            implies(here, state_is(*states)),
            here,
            "INV-41",
            "INV-42",
            source="postmaster.c: LaunchMissingBackgroundProcesses()",
        )


def _settings() -> Iterator[Claim]:
    wanted = {kind: row.wanted for kind, row in KINDS.items() if isinstance(row.wanted, Expr)}
    wanted[Kind.IO_WORKER] = IO_WORKERS >= 1
    wanted[Kind.WAL_SENDER] = WAL_SENDERS
    # Near wraparound a launcher is started although autovacuum is off.
    wanted[Kind.AUTOVAC_LAUNCHER] = AUTOVACUUM | WRAPAROUND
    for kind in (
        Kind.AUTOVAC_LAUNCHER,
        Kind.BG_WORKER,
        Kind.LOGGER,
        Kind.IO_WORKER,
        Kind.WAL_SENDER,
    ):
        yield _claim(
            f"the_setting_of_the_{short(kind)}_is_on",
            f"A {kind.value} is on record only if its setting is on.",
            implies(recorded(kind), wanted[kind]),
            recorded(kind),
            "PR-05",
            "IO-02",
            source="postmaster.c: LaunchMissingBackgroundProcesses()",
        )


def _counts() -> Iterator[Claim]:
    for kind in (Kind.BACKEND, Kind.DEAD_END_BACKEND, Kind.IO_WORKER):
        quitting = COUNT[kind, Life.QUITTING] >= 1
        armed = CRASH_OR_IMMEDIATE | (
            state_is(PM.PM_WAIT_DEAD_END) if kind is Kind.DEAD_END_BACKEND else FALSE
        )
        yield _claim(
            f"only_a_crash_or_an_immediate_shutdown_quits_a_{short(kind)}",
            f"A {kind.value} was sent SIGQUIT only in a crash or an immediate shutdown"
            + ("." if kind is not Kind.DEAD_END_BACKEND else ", or in PM_WAIT_DEAD_END."),
            implies(REPAIR_STARTUP_EXIT_IN_CRASH & quitting & ALIVE, armed),
            quitting,
            "CR-02",
            "SH-07",
            source="postmaster.c: TerminateChildren()",
            exception=_F04,
        )


def _quits() -> Iterator[Claim]:
    for kind in LIFE:
        if kind is Kind.LOGGER:
            continue
        here = (LIFE[kind] == Life.QUITTING) & ALIVE
        yield _claim(
            f"only_a_crash_or_an_immediate_shutdown_quits_the_{short(kind)}",
            f"The {kind.value} was sent SIGQUIT only in a crash or an immediate shutdown.",
            implies(REPAIR_STARTUP_EXIT_IN_CRASH & here, CRASH_OR_IMMEDIATE),
            here,
            "CR-02",
            "SH-07",
            source="postmaster.c: TerminateChildren()",
            exception=_F04,
        )


_CHECKPOINTER = LIFE[Kind.CHECKPOINTER]
_STARTUP = LIFE[Kind.STARTUP]
_ORDERED = ~STRAY_SIGNALS & ALIVE

_SINGLE = (
    _claim(
        "the_logger_is_never_signaled_to_end",
        "No signal of the postmaster ends the logger: it is running, or was killed.",
        in_(LIFE[Kind.LOGGER], Life.ABSENT, Life.RUNNING, Life.CRASHED),
        some_in(Kind.LOGGER, Life.CRASHED),
        "LG-02",
        "LG-04",
        source="syslogger.c: SysLoggerMain()",
    ),
    _claim(
        "the_shutdown_checkpoint_is_asked_for_in_its_state",
        "The checkpointer writes the shutdown checkpoint only in the state that waits for it, "
        "unless an operator signaled it.",
        implies(
            _ORDERED & (_CHECKPOINTER == Life.CHECKPOINTING),
            state_is(PM.PM_WAIT_XLOG_SHUTDOWN, PM.PM_SHUTDOWN),
        ),
        _ORDERED & (_CHECKPOINTER == Life.CHECKPOINTING),
        "SM-05",
        "CK-06",
        source="postmaster.c: PostmasterStateMachine()",
    ),
    _claim(
        "the_checkpointer_that_reported_waits_for_its_end",
        "18: the checkpointer has reported the shutdown checkpoint only from PM_WAIT_XLOG_SHUTDOWN "
        "to PM_WAIT_IO_WORKERS, unless an operator signaled it.",
        implies(
            _ORDERED & (_CHECKPOINTER == Life.XLOG_SHUT_DOWN),
            _OUTLIVES_WAL
            & state_is(PM.PM_WAIT_XLOG_SHUTDOWN, PM.PM_WAIT_XLOG_ARCHIVAL, PM.PM_WAIT_IO_WORKERS),
        ),
        ~_OUTLIVES_WAL | (_ORDERED & (_CHECKPOINTER == Life.XLOG_SHUT_DOWN)),
        "TR18-24",
        "CK-07",
        source="checkpointer.c: CheckpointerMain()",
    ),
    _claim(
        "the_checkpointer_is_ended_last",
        "18: SIGUSR2 was sent to the checkpointer only in PM_WAIT_CHECKPOINTER, unless an operator "
        "signaled it; 15 has no such signal.",
        implies(
            _ORDERED & (_CHECKPOINTER == Life.TERMINATING),
            _OUTLIVES_WAL & state_is(PM.PM_WAIT_CHECKPOINTER),
        ),
        ~_OUTLIVES_WAL | (_ORDERED & (_CHECKPOINTER == Life.TERMINATING)),
        "SM-08",
        "SG-11",
        source="postmaster.c: PostmasterStateMachine()",
    ),
    _claim(
        "a_starting_server_has_no_walsender",
        "Before PM_HOT_STANDBY there is no walsender, and it needs wal_senders.",
        implies(
            state_is(PM.PM_INIT, PM.PM_STARTUP, PM.PM_RECOVERY), none_recorded(Kind.WAL_SENDER)
        ),
        state_is(PM.PM_RECOVERY),
        "INV-42",
        "CN-32",
        source="walsender.c: InitWalSender()",
    ),
    _claim(
        "recovery_has_a_live_startup_status",
        "While a startup process is alive StartupStatus is RUNNING, or SIGNALED once SIGQUIT or "
        "SIGKILL was sent.",
        implies(
            ALIVE & (_STARTUP == Life.QUITTING),
            STARTUP_STATUS == StartupStatus.STARTUP_SIGNALED,
        ),
        _STARTUP == Life.QUITTING,
        "SV-07",
        "INV-13",
        source="postmaster.c: TerminateChildren()",
    ),
    _claim(
        "pm_recovery_follows_redo",
        "In PM_RECOVERY redo has begun.",
        implies(state_is(PM.PM_RECOVERY), REDO),
        state_is(PM.PM_RECOVERY),
        "RC-02",
        "TR18-02",
        source="postmaster.c: process_pm_pmsignal()",
    ),
    _claim(
        "orderly_wait_for_backends_has_a_request",
        "PM_WAIT_BACKENDS and PM_STOP_BACKENDS have a crash or a request.",
        implies(ALIVE & state_is(PM.PM_STOP_BACKENDS, PM.PM_WAIT_BACKENDS), PENDING | FATAL_ERROR),
        state_is(PM.PM_WAIT_BACKENDS) & ~FATAL_ERROR,
        "SM-02",
        "TR18-15",
        source="postmaster.c: process_pm_shutdown_request()",
    ),
    _claim(
        "no_orderly_target_runs_unsignaled",
        "In PM_WAIT_BACKENDS without a crash no shutdown target is running unsignaled.",
        implies(
            ALIVE & ~CRASH_OR_IMMEDIATE & state_is(PM.PM_WAIT_BACKENDS),
            ~any_of(*(some_in(kind, Life.RUNNING) for kind in TARGETS)),
        ),
        ALIVE & ~CRASH_OR_IMMEDIATE & state_is(PM.PM_WAIT_BACKENDS),
        "SM-02",
        "SM-03",
        source="postmaster.c: PostmasterStateMachine()",
    ),
    _claim(
        "releases_without_io_workers_have_none",
        "15 has no io worker on record.",
        implies(~has(Feature.IO_WORKERS), none_recorded(Kind.IO_WORKER)),
        recorded(Kind.IO_WORKER) | ~has(Feature.IO_WORKERS),
        "IO-01",
        source="postmaster.c: maybe_adjust_io_workers()",
    ),
)

CLAIMS = (*_lives(), *_states(), *_settings(), *_counts(), *_quits(), *_SINGLE)
