"""What the postmaster does to its children and to itself: effects that several actions share.

Begin with advance_to(), signal() and crash(). The actions say when each of them happens.

Source: postmaster.c: UpdatePMState(), signal_child(), HandleChildCrash(), HandleFatalError().
"""

from pglife_spec.lang.expr import Expr, in_
from pglife_spec.lang.machine import Effect, emit, flatten, when
from pglife_spec.postgres.state.children import (
    ALIVE_LIVES,
    CHECKPOINTER_MAY_EXIT,
    COUNT,
    LIFE,
    UNQUIT_LIVES,
    alive,
    number,
    recorded,
)
from pglife_spec.postgres.state.history import FORKED_LATE, ROUND, TWO_ROUNDS
from pglife_spec.postgres.state.io_pool import WANTED
from pglife_spec.postgres.state.postmaster import (
    ABORT_TIMER,
    EXIT,
    FATAL_ERROR,
    FORK_FAILS,
    IMMEDIATE,
    LAST_ACCEPT,
    LISTENING,
    PID_FILE,
    STARTUP_FORK_FAILS,
    STARTUP_STATUS,
    STATE,
    state_is,
)
from pglife_spec.postgres.words import PM, Exit, Kind, Life, PidFile, Signal, StartupStatus
from pglife_spec.postgres.words.kinds import AFTER_WAL, ALL_BUT_LOGGER, KINDS, UP
from pglife_spec.postgres.words.releases import Feature, has
from pglife_spec.postgres.words.repairs import (
    REPAIR_CRASH_IN_CRASH_STARTUP,
    REPAIR_LAST_ACCEPT,
    REPAIR_STARTUP_FORK_FAILURE,
)

Effects = tuple[Effect, ...]
_OUTLIVES_WAL = has(Feature.CHECKPOINTER_OUTLIVES_WAL)


def advance_to(state: PM) -> Effects:
    """Assign pmState; 18 logs it at DEBUG1, also when nothing changes (PM-01).

    With PM_WAIT_DEAD_END 18 takes the sockets out of the wait set. A client that the last wait
    reported is still served.
    """
    stops: Effects = ()
    if state is PM.PM_WAIT_DEAD_END:
        served = LISTENING & ~REPAIR_LAST_ACCEPT
        stops = (
            when(
                has(Feature.WAIT_EVENT_SET),
                [when(served, LAST_ACCEPT.becomes(True)), LISTENING.becomes(False)],
            ),
        )
    return flatten([emit("pmstate", STATE, state.name), STATE.becomes(state), stops])


def log(text: str) -> Effect:
    """The postmaster logs a line at LOG."""
    return emit("log", text)


def write_pid_file(status: PidFile) -> Effects:
    """Write line 8 of postmaster.pid (SH-40)."""
    return flatten([emit("pidfile", status.value), PID_FILE.becomes(status)])


def _move(kind: Kind, sources: tuple[Life, ...], target: Life) -> Effects:
    """Every child of the kind that is in one of the sources changes to the target."""
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
    """Send a signal to every live child of the kinds, with its effect on each."""
    effects: list[Effect] = []
    for kind in kinds:
        effects.append(when(alive(kind), emit("signal", signal_.name, kind.name)))
        effects.extend(_reaction(signal_, kind))
    return tuple(effects)


def _reaction(signal_: Signal, kind: Kind) -> Effects:
    running = (Life.RUNNING,)
    if kind is Kind.LOGGER:
        return ()
    if signal_ is KINDS[kind].ends_at:
        return _move(kind, running, Life.TERMINATING)
    match signal_:
        case Signal.SIGQUIT:
            return _move(kind, UNQUIT_LIVES, Life.QUITTING)
        case Signal.SIGKILL:
            return _move(kind, ALIVE_LIVES, Life.CRASHED)
        case Signal.SIGUSR2 if kind is Kind.CHECKPOINTER:
            return (
                when(
                    _OUTLIVES_WAL,
                    _move(kind, (Life.RUNNING, Life.XLOG_SHUT_DOWN), Life.TERMINATING),
                    _move(kind, running, Life.CHECKPOINTING),
                ),
            )
        case Signal.SIGTERM if kind in AFTER_WAL:
            return _move(kind, running, Life.TERMINATING)
        case Signal.SIGINT if kind is Kind.CHECKPOINTER:
            return (when(_OUTLIVES_WAL, _move(kind, running, Life.CHECKPOINTING)),)
        case _:
            return ()


def terminate_children(signal_: Signal, *, dead_end: Expr | bool) -> Effects:
    """Signal all children but the logger; dead-end children only under a condition.

    SIGQUIT and SIGKILL to the startup process are recorded in StartupStatus.

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
    """Fork a child; record it in the history if INV-33, INV-34 or INV-40 forbid it now.

    Args:
        kind: what is forked.
        allowed: where the invariants allow a fork of this kind.
    """
    made = (
        LIFE[kind].becomes(Life.RUNNING)
        if kind in LIFE
        else COUNT[kind, Life.RUNNING].becomes(COUNT[kind, Life.RUNNING] + 1)
    )
    return flatten([emit("fork", kind.name), made, when(~allowed, FORKED_LATE.becomes(True))])


#: maybe_adjust_io_workers() does nothing while the server is shutting down.
MAY_ADJUST_IO_WORKERS = (
    has(Feature.IO_WORKERS),
    STATE != PM.PM_INIT,
    STATE < PM.PM_WAIT_IO_WORKERS,
    ~IMMEDIATE,
    ~(FATAL_ERROR & (STATE >= PM.PM_STOP_BACKENDS)),
)
#: Otherwise it launches until there are enough.
IO_WORKER_IS_MISSING = (~FORK_FAILS, *MAY_ADJUST_IO_WORKERS, number(Kind.IO_WORKER) < WANTED)


def fork_io_worker() -> Effects:
    """Fork one io worker."""
    late = (PM.PM_WAIT_IO_WORKERS, PM.PM_WAIT_CHECKPOINTER, PM.PM_WAIT_DEAD_END, PM.PM_NO_CHILDREN)
    return fork(Kind.IO_WORKER, ~state_is(PM.PM_INIT, *late))


def forget(kind: Kind, life: Life) -> Effects:
    """Delete the record of a reaped child."""
    if kind not in LIFE:
        count = COUNT[kind, life]
        return (count.becomes(count - 1),)
    forgotten = LIFE[kind].becomes(Life.ABSENT)
    if kind is Kind.CHECKPOINTER:
        return (forgotten, CHECKPOINTER_MAY_EXIT.becomes(False))
    return (forgotten,)


def clear_fatal_error() -> Effects:
    """The crash is over: reset FatalError and the SIGKILL timer (SV-02, SV-03)."""
    return (FATAL_ERROR.becomes(False), ABORT_TIMER.becomes(False), ROUND.becomes(False))


_BEFORE_WAITING = (*UP, PM.PM_STOP_BACKENDS)


def handle_fatal_error() -> Effects:
    """Send SIGQUIT to all children but the logger, set FatalError and the state, arm the timer.

    The state changes by TR18-10 to TR18-13.

    Source: postmaster.c: HandleFatalError(), 18 only.
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
            ABORT_TIMER.becomes(True),
        ]
    )


def crash(kind: Kind) -> Effects:
    """A child exited in a way that requires new shared memory (TR18-09, TR17-09, TR17-10).

    With FatalError set or in an immediate shutdown 18 does nothing; 15 still sets the state and
    the timer (RP-05), but sends no signal.

    Source: postmaster.c: HandleChildCrash().
    """
    afresh = (~FATAL_ERROR & ~IMMEDIATE) | (
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
            when(afresh, announce),
            when(
                has(Feature.HANDLE_FATAL_ERROR),
                when(afresh, handle_fatal_error()),
                [
                    when(afresh, terminate_children(Signal.SIGQUIT, dead_end=True)),
                    when(~IMMEDIATE, FATAL_ERROR.becomes(True)),
                    when(
                        state_is(*_BEFORE_WAITING, PM.PM_SHUTDOWN),
                        STATE.becomes(PM.PM_WAIT_BACKENDS),
                    ),
                    ABORT_TIMER.becomes(True),
                ],
            ),
        ]
    )


def fork_startup() -> Effects:
    """Fork the startup process, after the other first children.

    If that fails the postmaster exits at once and leaves the others behind (ST-07). The repair
    handles it as a startup process that failed.

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
            FORK_FAILS | STARTUP_FORK_FAILS,
            failed,
            [
                fork(Kind.STARTUP, state_is(PM.PM_STARTUP)),
                STARTUP_STATUS.becomes(StartupStatus.STARTUP_RUNNING),
            ],
        ),
    )


def exit_postmaster(status: Exit) -> Effects:
    """The postmaster exits: it removes the pid file last, and logs it (SH-11, SH-12)."""
    return flatten(
        [
            write_pid_file(PidFile.NONE),
            log("database system is shut down"),
            emit("exit", status.name),
            EXIT.becomes(status),
        ]
    )
