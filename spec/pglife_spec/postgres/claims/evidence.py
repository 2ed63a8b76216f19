"""Claims about evidence: which steps log a line, write the pid file, fork, refuse a client.

Begin with WATCHES. Each says of one sort of evidence by which steps it is left, and that no other
step leaves it. The condition looks at the state before the step and after it. Signals are in
`signals.py`.
"""

import enum
from collections.abc import Sequence

from pglife_spec.lang.declare import watch
from pglife_spec.lang.expr import BOOL, TRUE, EnumSort, Expr, all_of
from pglife_spec.lang.watch import (
    BEGIN,
    END,
    Automaton,
    Edge,
    before,
    exactly,
    noted,
    register,
    seen,
)
from pglife_spec.postgres.claims.common import AT_TARGET, NO_FORK, THROUGH, reaped
from pglife_spec.postgres.state.children import COUNT, LIFE, alive, number
from pglife_spec.postgres.state.postmaster import (
    ABORT_TIMER,
    CONNS_ALLOWED,
    CRASH_OR_IMMEDIATE,
    EXIT,
    EXITED,
    FATAL_ERROR,
    FORK_FAILS,
    IMMEDIATE,
    PENDING,
    PID_FILE,
    RELOAD,
    SHUTDOWN,
    STARTUP_STATUS,
    STATE,
    state_is,
)
from pglife_spec.postgres.state.shared import RECOVERY_STARTED, XLOG_IS_SHUTDOWN
from pglife_spec.postgres.words import (
    PM,
    Exit,
    Kind,
    Life,
    PidFile,
    Shutdown,
    StartupStatus,
)
from pglife_spec.postgres.words.kinds import ALL_BUT_LOGGER, WORKERS
from pglife_spec.postgres.words.parameters import HOT_STANDBY, RESTART_AFTER_CRASH
from pglife_spec.postgres.words.releases import Feature, has
from pglife_spec.postgres.words.repairs import (
    REPAIR_CRASH_IN_CRASH_STARTUP,
    REPAIR_XLOG_IN_CRASH_STARTUP,
)


class Exiting(enum.Enum):
    """How far a step has come with the postmaster's exit."""

    NOT_YET = "nothing seen"
    REMOVED = "the pid file is removed"
    LOGGED = "the last line is logged"


_OPEN = state_is(PM.PM_RUN, PM.PM_HOT_STANDBY)
_REQUEST = "postmaster.c: process_pm_shutdown_request()"
_SM = "postmaster.c: PostmasterStateMachine()"


def _log(text: str, where: Expr) -> Automaton:
    return exactly(seen("log", text), where, f"logged {text}")


def _enters(*states: PM) -> Expr:
    return ~before(state_is(*states)) & state_is(*states)


_BY_CLIENT = noted("by a client", seen(BEGIN, "client"))
_BY_CHILD = noted("by a child", seen(BEGIN, "child"))
_CRASH_LINE = noted("crash line", seen("log", "crash"))


@watch("PM-01", source="postmaster.c: UpdatePMState()", reaches=state_is(PM.PM_RUN))
def each_change_of_pmstate_is_logged() -> Sequence[Automaton]:
    """18 logs each change of pmState, from the state that is left to the one that is entered."""
    last = register("last pmState", EnumSort(PM))
    logged = has(Feature.PM_STATE_IS_LOGGED)
    return [
        Automaton(
            last,
            (
                Edge(seen(BEGIN), STATE),
                *(Edge(seen("pmstate", last, state.name), state) for state in PM),
                Edge(seen("pmstate"), guard=logged, wrong=True),
                Edge(seen(END), guard=logged & (STATE != last), wrong=True),
            ),
        )
    ]


@watch("SH-02", "SG-01", source=_REQUEST, reaches=PENDING)
def each_request_is_logged_once() -> Sequence[Automaton]:
    """A request that raises the shutdown mode is logged once, and nothing else logs one."""
    modes = {
        "smart": Shutdown.SmartShutdown,
        "fast": Shutdown.FastShutdown,
        "immediate": Shutdown.ImmediateShutdown,
    }
    return [
        AT_TARGET,
        *(
            _log(
                f"received {word} shutdown request",
                (before(SHUTDOWN) != mode) & (SHUTDOWN == mode) & ~AT_TARGET.register,
            )
            for word, mode in modes.items()
        ),
    ]


@watch("SH-06", "TR18-15", source=_REQUEST, reaches=SHUTDOWN == Shutdown.FastShutdown)
def a_fast_request_to_an_open_server_aborts_transactions() -> Sequence[Automaton]:
    """A fast request in PM_RUN or PM_HOT_STANDBY logs that it aborts transactions."""
    fast = (before(SHUTDOWN) != Shutdown.FastShutdown) & (SHUTDOWN == Shutdown.FastShutdown)
    return [_log("aborting any active transactions", fast & before(_OPEN))]


@watch("SH-40", "SH-42", source="miscinit.c: AddToDataDirLockFile()", reaches=EXITED)
def the_pid_file_is_written_when_its_line_changes() -> Sequence[Automaton]:
    """Line 8 is written by a request ("stopping"), by the end of recovery ("ready"), at the begin
    of a recovery without hot standby ("standby"), and the file is removed at the exit."""
    last = register("last line 8", EnumSort(PidFile))
    opens = THROUGH[PM.PM_RUN].register | THROUGH[PM.PM_HOT_STANDBY].register
    written = {
        PidFile.STOPPING: (before(SHUTDOWN) != SHUTDOWN) & ~AT_TARGET.register,
        PidFile.READY: opens,
        PidFile.STANDBY: THROUGH[PM.PM_RECOVERY].register & ~HOT_STANDBY,
        PidFile.NONE: EXITED & ~before(EXITED),
    }
    follows = Automaton(
        last,
        (
            Edge(seen(BEGIN), PID_FILE),
            *(Edge(seen("pidfile", line.value), line) for line in PidFile),
            Edge(seen(END), guard=PID_FILE != last, wrong=True),
        ),
    )
    writes = [
        exactly(seen("pidfile", line.value), where, f"wrote {line.name}")
        for line, where in written.items()
    ]
    states = (PM.PM_RECOVERY, PM.PM_HOT_STANDBY, PM.PM_RUN)
    return [AT_TARGET, *(THROUGH[state] for state in states), follows, *writes]


@watch("SH-11", "SH-12", "SM-10", source="miscinit.c: UnlinkLockFiles()", reaches=EXITED)
def an_exit_is_logged_after_the_pid_file_is_removed() -> Sequence[Automaton]:
    """The postmaster's exit removes the pid file, then logs "database system is shut down"."""
    exits = EXITED & ~before(EXITED)
    done = register("exit so far", EnumSort(Exiting))
    says = seen("log", "database system is shut down")
    in_order = Automaton(
        done,
        (
            Edge(seen("pidfile", PidFile.NONE.value), Exiting.REMOVED),
            Edge(says, Exiting.LOGGED, guard=done == Exiting.REMOVED),
            Edge(says, wrong=True),
            Edge(seen("exit"), guard=done != Exiting.LOGGED, wrong=True),
        ),
    )
    return [
        in_order,
        _log("database system is shut down", exits),
        *(exactly(seen("exit", e.name), exits & (EXIT == e), f"exit {e.name}") for e in Exit),
    ]


@watch("SM-10", "SM-11", "SM-12", "PR-20", source=_SM, reaches=EXIT == Exit.EXITED_1)
def an_exit_with_1_says_why() -> Sequence[Automaton]:
    """The line before an exit with 1 names the reason: a crash during a shutdown, a startup process
    that failed or could not be forked, or restart_after_crash."""
    exits = (EXIT == Exit.EXITED_1) & ~before(EXITED) & ~NO_FORK.register
    failed = STARTUP_STATUS == StartupStatus.STARTUP_CRASHED
    return [
        NO_FORK,
        _log("abnormal database system shutdown", exits & PENDING),
        _log("shutting down due to startup process failure", exits & ~PENDING & failed),
        _log(
            'shutting down because "restart_after_crash" is off',
            exits & ~PENDING & ~failed & ~RESTART_AFTER_CRASH,
        ),
    ]


@watch("SM-13", "CR-20", source=_SM, reaches=FATAL_ERROR & state_is(PM.PM_STARTUP))
def new_shared_memory_is_logged() -> Sequence[Automaton]:
    """Each start of recovery after the first is announced by "all server processes terminated;
    reinitializing"."""
    again = THROUGH[PM.PM_STARTUP].register & ~before(state_is(PM.PM_INIT))
    said = "all server processes terminated; reinitializing"
    done = register("reinitializing", BOOL)
    unsaid = ~done & ~before(state_is(PM.PM_INIT))
    in_order = Automaton(
        done,
        (
            Edge(seen("log", said), TRUE),
            Edge(seen("fork", Kind.STARTUP.name), guard=unsaid, wrong=True),
        ),
    )
    return [THROUGH[PM.PM_STARTUP], in_order, _log(said, again)]


@watch("TR18-04", "RP-10", source="postmaster.c: process_pm_child_exit()", reaches=_OPEN)
def an_opening_is_logged_once() -> Sequence[Automaton]:
    """Each opening of the server logs that it is ready to accept connections, and each opening for
    readers that it is ready to accept read-only connections."""
    readers = THROUGH[PM.PM_HOT_STANDBY]
    return [
        readers,
        _log("database system is ready to accept connections", _enters(PM.PM_RUN)),
        _log("database system is ready to accept read-only connections", readers.register),
    ]


@watch("SL-05", "CR-07", source="postmaster.c: ServerLoop()", reaches=ABORT_TIMER)
def a_sigkill_round_is_logged() -> Sequence[Automaton]:
    """When the timer ends during a crash or an immediate shutdown, the SIGKILL round is logged."""
    ended = before(ABORT_TIMER) & ~ABORT_TIMER & CRASH_OR_IMMEDIATE & (STATE == before(STATE))
    return [_log("issuing SIGKILL to recalcitrant children", ended)]


@watch("SG-02", "MM-22", source="postmaster.c: process_pm_reload_request()")
def a_reload_is_logged_until_a_fast_shutdown() -> Sequence[Automaton]:
    """A reload is logged, except in a fast or immediate shutdown."""
    taken = before(RELOAD) & ~RELOAD & (SHUTDOWN <= Shutdown.SmartShutdown)
    return [_log("received SIGHUP, reloading configuration files", taken)]


@watch("TR18-25", "PG-09", source="postmaster.c: process_pm_pmsignal()")
def an_unexpected_end_of_wal_is_logged() -> Sequence[Automaton]:
    """18: a shutdown checkpoint that nothing asked for is logged, outside of a crash."""
    read = before(XLOG_IS_SHUTDOWN) & ~XLOG_IS_SHUTDOWN & ~THROUGH[PM.PM_STARTUP].register
    over = before(RECOVERY_STARTED & state_is(PM.PM_STARTUP) & ~PENDING)
    crash = before(FATAL_ERROR) & ~over
    afresh = REPAIR_XLOG_IN_CRASH_STARTUP & before(state_is(PM.PM_STARTUP))
    return [
        THROUGH[PM.PM_STARTUP],
        _log(
            "WAL was shut down unexpectedly",
            read & ~before(state_is(PM.PM_WAIT_XLOG_SHUTDOWN) | IMMEDIATE) & (~crash | afresh),
        ),
    ]


def _reaps_a_crash(kind: Kind) -> Expr:
    crashed = reaped(kind, Life.CRASHED)
    if kind is Kind.STARTUP:
        return crashed | (reaped(kind, Life.EXITED_1) & ~before(PENDING))
    if kind is Kind.CHECKPOINTER:
        wanted = before(state_is(PM.PM_WAIT_CHECKPOINTER, PM.PM_SHUTDOWN))
        return crashed | (reaped(kind, Life.EXITED_0) & ~wanted)
    return crashed


@watch("CR-02", "CR-48", "RP-02", source="postmaster.c: LogChildExit()", reaches=FATAL_ERROR)
def a_crash_names_the_child_that_crashed() -> Sequence[Automaton]:
    """The first child that is reaped with a crash is named in the log, followed by the line that
    ends all others; those that follow it are not."""
    afresh = before(~FATAL_ERROR & ~IMMEDIATE) | (
        REPAIR_CRASH_IN_CRASH_STARTUP & before(state_is(PM.PM_STARTUP) & FATAL_ERROR)
    )
    return [
        _CRASH_LINE,
        *(
            exactly(
                seen("log", "crash", kind.name),
                _reaps_a_crash(kind) & afresh,
                f"crash {kind.name}",
            )
            for kind in ALL_BUT_LOGGER
        ),
        _log("terminating any other active server processes", _CRASH_LINE.register),
    ]


@watch("RP-22", "BG-14", source="bgworker.c: ReportBackgroundWorkerExit()")
def an_exit_of_a_background_worker_is_logged() -> Sequence[Automaton]:
    """The exit of a background worker with code 1 is logged when it is reaped."""
    return [
        exactly(
            seen("log", "bgworker exited", kind.name),
            reaped(kind, Life.EXITED_1),
            f"bgworker exited {kind.name}",
        )
        for kind in WORKERS
    ]


@watch("PR-01", "SL-03", source="postmaster.c: StartChildProcess()", reaches=_OPEN)
def each_fork_makes_one_child() -> Sequence[Automaton]:
    """Each fork makes one child of its kind, and children come by forks only."""
    made = [
        exactly(seen("fork", kind.name), ~before(alive(kind)) & alive(kind), f"fork {kind.name}")
        for kind in LIFE
        if kind is not Kind.LOGGER
    ]
    made += [
        exactly(seen("fork", kind.name), number(kind) > before(number(kind)), f"fork {kind.name}")
        for kind in (Kind.BACKEND, Kind.DEAD_END_BACKEND)
    ]
    return made


@watch(
    "CN-01",
    "CN-02",
    "CN-03",
    "CN-04",
    "CN-05",
    "CN-06",
    "SE-34",
    source="postmaster.c: BackendStartup()",
)
def each_client_is_admitted_or_gets_the_right_refusal() -> Sequence[Automaton]:
    """A client is admitted, or refused with the message that belongs to the state of the server."""
    refused = number(Kind.DEAD_END_BACKEND) > before(number(Kind.DEAD_END_BACKEND))
    undisturbed = ~before(PENDING) & ~before(FATAL_ERROR)
    running = [COUNT[kind, Life.RUNNING] for kind in (Kind.BACKEND, Kind.WAL_SENDER)]
    nothing_changes = all_of(~refused, *(count == before(count) for count in running))
    reasons = {
        "the database system is shutting down": refused & before(PENDING),
        "the database system is starting up": refused
        & undisturbed
        & before(state_is(PM.PM_STARTUP)),
        "the database system is not yet accepting connections": refused
        & undisturbed
        & before(state_is(PM.PM_RECOVERY)),
        "the database system is in recovery mode": refused & before(~PENDING & FATAL_ERROR),
        "sorry, too many clients already": refused & before(_OPEN & CONNS_ALLOWED),
        "could not fork new process for connection": _BY_CLIENT.register
        & FORK_FAILS
        & nothing_changes,
    }
    admitted = number(Kind.BACKEND) > before(number(Kind.BACKEND))
    return [
        _BY_CLIENT,
        exactly(seen("admitted"), admitted, "admitted"),
        *(exactly(seen("refusal", text), where, f"said {text}") for text, where in reasons.items()),
    ]


@watch("SG-40", "SG-42", source="interrupt.c: SignalHandlerForCrashExit()")
def a_death_by_sigquit_is_seen() -> Sequence[Automaton]:
    """A child that exits at SIGQUIT was sent one."""

    def quits(kind: Kind) -> Expr:
        if kind in LIFE:
            return before(LIFE[kind] == Life.QUITTING) & (LIFE[kind] == Life.CRASHED)
        quitting = COUNT[kind, Life.QUITTING]
        return before(quitting) > quitting

    return [
        _BY_CHILD,
        *(
            exactly(
                seen("death", kind.name), _BY_CHILD.register & quits(kind), f"death {kind.name}"
            )
            for kind in ALL_BUT_LOGGER
        ),
    ]


WATCHES = (
    each_change_of_pmstate_is_logged,
    each_request_is_logged_once,
    a_fast_request_to_an_open_server_aborts_transactions,
    the_pid_file_is_written_when_its_line_changes,
    an_exit_is_logged_after_the_pid_file_is_removed,
    an_exit_with_1_says_why,
    new_shared_memory_is_logged,
    an_opening_is_logged_once,
    a_sigkill_round_is_logged,
    a_reload_is_logged_until_a_fast_shutdown,
    an_unexpected_end_of_wal_is_logged,
    a_crash_names_the_child_that_crashed,
    an_exit_of_a_background_worker_is_logged,
    each_fork_makes_one_child,
    each_client_is_admitted_or_gets_the_right_refusal,
    a_death_by_sigquit_is_seen,
)
