"""What the postmaster does to its children and to itself, as effects that actions share.

Begin with   advance_to(), signal(), crash().
Owns         how each signal changes each kind of child (table 3.3), what a crash does (5.1).
Leaves out   when any of it happens: that is in the actions.
Source       postmaster.c: UpdatePMState(), signal_child(), HandleChildCrash(), HandleFatalError().
"""

from __future__ import annotations

from pglife_spec.lang.expr import Expr, in_
from pglife_spec.lang.machine import Effect, emit, flatten, when
from pglife_spec.postgres.state import (
    ABORT_CLOCK,
    COUNT,
    EXIT,
    FATAL_ERROR,
    FORK_FAILS,
    FORKED_LATE,
    LAST_ACCEPT,
    LIFE,
    PID_FILE,
    REPAIR_CRASH_IN_CRASH_STARTUP,
    REPAIR_LAST_ACCEPT,
    REPAIR_STARTUP_FORK_FAILURE,
    ROUND,
    SCARCE,
    SHUTDOWN,
    STARTUP_STATUS,
    STATE,
    TAINTED,
    TWO_ROUNDS,
    V18,
    alive,
    recorded,
    state_is,
)
from pglife_spec.postgres.words import (
    COUNTED,
    PM,
    Exit,
    Kind,
    Life,
    PidFile,
    Shutdown,
    Signal,
    StartupStatus,
)

Effects = tuple[Effect, ...]

#: What SIGTERM ends, and with it a shutdown's first round (SG-10 ff). The others ignore it.
HONOURS_SIGTERM = (
    Kind.STARTUP,
    Kind.BG_WRITER,
    Kind.WAL_WRITER,
    Kind.AUTOVAC_LAUNCHER,
    Kind.BG_WORKER,
    Kind.BACKEND,
    Kind.DEAD_END_BACKEND,
)


def advance_to(state: PM) -> Effects:
    """Assign pmState; 18 says so at DEBUG1, also when nothing changes (PM-01)."""
    served: Effects = ()
    if state is PM.PM_WAIT_DEAD_END:
        served = (LAST_ACCEPT.becomes(V18 & ~REPAIR_LAST_ACCEPT),)
    return flatten([emit("pmstate", STATE, state.name), STATE.becomes(state), served])


def log(text: str) -> Effect:
    """A line of the postmaster at LOG."""
    return emit("log", text)


def write_pid_file(status: PidFile) -> Effects:
    """Write line 8 of postmaster.pid (SH-40)."""
    return flatten([emit("pidfile", status.value), PID_FILE.becomes(status)])


def _move(kind: Kind, sources: tuple[Life, ...], target: Life) -> Effects:
    """Every child of the kind that is in one of the sources goes to the target."""
    if kind in LIFE:
        life = LIFE[kind]
        return (when(in_(life, *sources), life.becomes(target)),)
    moves: list[Effect] = []
    for source in sources:
        if (kind, source) in COUNT:
            count = COUNT[kind, source]
            moves.append(COUNT[kind, target].becomes(COUNT[kind, target] + count))
            moves.append(count.becomes(0))
    return tuple(moves)


def signal(signal_: Signal, *kinds: Kind) -> Effects:
    """Send a signal to every living child of the kinds; what it does to each is table 3.3."""
    effects: list[Effect] = []
    for kind in kinds:
        effects.append(when(alive(kind), emit("signal", signal_.name, kind.name)))
        effects.extend(_reaction(signal_, kind))
    return tuple(effects)


def _reaction(signal_: Signal, kind: Kind) -> Effects:
    if kind is Kind.LOGGER:
        return ()
    match signal_:
        case Signal.SIGTERM if kind in HONOURS_SIGTERM:
            return _move(kind, (Life.RUNNING,), Life.TERMINATING)
        case Signal.SIGQUIT:
            awake = (Life.RUNNING, Life.TERMINATING, Life.CHECKPOINTING, Life.XLOG_SHUT_DOWN)
            return _move(kind, awake, Life.QUITTING)
        case Signal.SIGKILL:
            living = (
                Life.RUNNING,
                Life.TERMINATING,
                Life.CHECKPOINTING,
                Life.XLOG_SHUT_DOWN,
                Life.QUITTING,
            )
            return _move(kind, living, Life.CRASHED)
        case Signal.SIGUSR2 if kind is Kind.IO_WORKER:
            return _move(kind, (Life.RUNNING,), Life.TERMINATING)
        case Signal.SIGUSR2 if kind is Kind.CHECKPOINTER:
            return (
                when(
                    V18,
                    _move(kind, (Life.RUNNING, Life.XLOG_SHUT_DOWN), Life.TERMINATING),
                    _move(kind, (Life.RUNNING,), Life.CHECKPOINTING),
                ),
            )
        case Signal.SIGINT if kind is Kind.CHECKPOINTER:
            return (when(V18, _move(kind, (Life.RUNNING,), Life.CHECKPOINTING)),)
        case _:
            return ()


ALL_BUT_LOGGER = tuple(kind for kind in Kind if kind is not Kind.LOGGER)


def terminate_children(signal_: Signal, *, dead_end: Expr | bool) -> Effects:
    """Signal all but the logger, dead-end children only if told so; note it for the startup.

    Source: postmaster.c: TerminateChildren().
    """
    others = tuple(k for k in ALL_BUT_LOGGER if k is not Kind.DEAD_END_BACKEND)
    return flatten(
        [
            when(recorded(Kind.STARTUP), STARTUP_STATUS.becomes(StartupStatus.STARTUP_SIGNALED))
            if signal_ in (Signal.SIGQUIT, Signal.SIGKILL)
            else (),
            signal(signal_, *others),
            when(dead_end, signal(signal_, Kind.DEAD_END_BACKEND)),
        ]
    )


def fork(kind: Kind, allowed: Expr) -> Effects:
    """A new child, and a mark in the history if INV-33, INV-34 or INV-40 forbid it now.

    Args:
        kind: what is forked.
        allowed: where the invariants let this kind be forked.
    """
    made = (
        LIFE[kind].becomes(Life.RUNNING)
        if kind in LIFE
        else COUNT[kind, Life.RUNNING].becomes(COUNT[kind, Life.RUNNING] + 1)
    )
    return flatten([emit("fork", kind.name), made, when(~allowed, FORKED_LATE.becomes(True))])


def forget(kind: Kind, life: Life) -> Effects:
    """Strike a reaped child off the records."""
    if kind in COUNTED:
        count = COUNT[kind, life]
        return (count.becomes(count - 1),)
    return (LIFE[kind].becomes(Life.ABSENT),)


def clear_fatal_error() -> Effects:
    """The crash is over: FatalError and the SIGKILL clock are taken back (SV-02, SV-03)."""
    return (FATAL_ERROR.becomes(False), ABORT_CLOCK.becomes(False), ROUND.becomes(False))


_BEFORE_WAITING = (
    PM.PM_STARTUP,
    PM.PM_RECOVERY,
    PM.PM_HOT_STANDBY,
    PM.PM_RUN,
    PM.PM_STOP_BACKENDS,
)


def handle_fatal_error() -> Effects:
    """18: SIGQUIT to everybody, FatalError, the state by TR18-10 to -13, the clock if not armed.

    Source: postmaster.c: HandleFatalError().
    """
    return flatten(
        [
            terminate_children(Signal.SIGQUIT, dead_end=True),
            FATAL_ERROR.becomes(True),
            when(
                state_is(*_BEFORE_WAITING),
                advance_to(PM.PM_WAIT_BACKENDS),
                when(
                    state_is(
                        PM.PM_WAIT_XLOG_SHUTDOWN,
                        PM.PM_WAIT_XLOG_ARCHIVAL,
                        PM.PM_WAIT_CHECKPOINTER,
                        PM.PM_WAIT_IO_WORKERS,
                    ),
                    advance_to(PM.PM_WAIT_DEAD_END),
                ),
            ),
            ABORT_CLOCK.becomes(True),
        ]
    )


def crash(kind: Kind) -> Effects:
    """A child has died in a way that throws shared memory away (TR18-09 ff, TR17-09, TR17-10).

    18 does nothing at all if FatalError or an immediate shutdown is on; 15 then still sets the
    state and the clock (RP-05), but sends nothing.
    Source: postmaster.c: HandleChildCrash().
    """
    afresh = (~FATAL_ERROR & (SHUTDOWN != Shutdown.ImmediateShutdown)) | (
        REPAIR_CRASH_IN_CRASH_STARTUP & state_is(PM.PM_STARTUP) & FATAL_ERROR
    )
    announce = flatten(
        [
            emit("log", "crash", kind.name),
            log("terminating any other active server processes"),
            when(
                ROUND & (~REPAIR_CRASH_IN_CRASH_STARTUP | ~state_is(PM.PM_STARTUP)),
                TWO_ROUNDS.becomes(True),
            ),
            ROUND.becomes(True),
        ]
    )
    return flatten(
        [
            TAINTED.becomes(True),
            when(afresh, announce),
            when(
                V18,
                when(afresh, handle_fatal_error()),
                [
                    when(afresh, terminate_children(Signal.SIGQUIT, dead_end=True)),
                    when(SHUTDOWN != Shutdown.ImmediateShutdown, FATAL_ERROR.becomes(True)),
                    when(
                        state_is(*_BEFORE_WAITING, PM.PM_SHUTDOWN),
                        STATE.becomes(PM.PM_WAIT_BACKENDS),
                    ),
                    ABORT_CLOCK.becomes(True),
                ],
            ),
        ]
    )


def fork_startup() -> Effects:
    """The startup process, last of a new family; if it cannot be forked the postmaster just exits,
    whoever else it has forked already (ST-07). The repair handles it as a startup that failed.

    Source: postmaster.c: StartChildProcess().
    """
    failed = flatten(
        [
            log('could not fork "startup" process'),
            when(
                REPAIR_STARTUP_FORK_FAILURE & recorded(*ALL_BUT_LOGGER),
                [
                    STARTUP_STATUS.becomes(StartupStatus.STARTUP_CRASHED),
                    handle_fatal_error(),
                ],
                exit_postmaster(Exit.EXITED_1),
            ),
        ]
    )
    return (
        when(
            FORK_FAILS | SCARCE,
            failed,
            [
                fork(Kind.STARTUP, state_is(PM.PM_STARTUP)),
                STARTUP_STATUS.becomes(StartupStatus.STARTUP_RUNNING),
            ],
        ),
    )


def exit_postmaster(status: Exit) -> Effects:
    """The postmaster ends: the pid file goes last, with a line (SH-11, SH-12)."""
    return flatten(
        [
            write_pid_file(PidFile.NONE),
            log("database system is shut down"),
            emit("exit", status.name),
            EXIT.becomes(status),
        ]
    )
