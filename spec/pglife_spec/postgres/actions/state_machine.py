"""PostmasterStateMachine: what is tried, in order, after a request, a reaping or a message.

Begin with   state_machine(), which is 2.8 from SM-01 to SM-13.
Owns         whom a shutdown tells to end, whom it waits for, where it goes next.
Source       postmaster.c: PostmasterStateMachine(), 15.18 and 18.6.
"""

from __future__ import annotations

from pglife_spec.lang.expr import Expr, ite
from pglife_spec.lang.machine import flatten, when
from pglife_spec.postgres.effects import (
    ALL_BUT_LOGGER,
    Effects,
    advance_to,
    exit_postmaster,
    fork,
    fork_startup,
    handle_fatal_error,
    log,
    signal,
)
from pglife_spec.postgres.state import (
    ABORT_CLOCK,
    CONNS_ALLOWED,
    COUNT,
    CRASHY,
    EXIT,
    FATAL_ERROR,
    FORK_FAILS,
    IO_WORKERS,
    LIFE,
    RECOVERED,
    RECOVERY_STARTED,
    REDO,
    REPAIR_CHECKPOINTER_FORK_FAILURE,
    REPAIR_KILL_DEAD_END,
    RESTART_AFTER_CRASH,
    SHUTDOWN,
    STARTUP_STATUS,
    TAINTED,
    V15,
    V18,
    XLOG_IS_SHUTDOWN,
    none_recorded,
    recorded,
    state_is,
)
from pglife_spec.postgres.words import PM, Exit, Kind, Life, Shutdown, Signal, StartupStatus

#: Told to end at PM_STOP_BACKENDS, and waited for in PM_WAIT_BACKENDS (SM-02, SM-03).
TARGETS = (
    Kind.BACKEND,
    Kind.AUTOVAC_LAUNCHER,
    Kind.BG_WORKER,
    Kind.WAL_WRITER,
    Kind.BG_WRITER,
    Kind.STARTUP,
)
#: Joins them in a crash or an immediate shutdown, 18; of these 15 knows the checkpointer only.
TARGETS_IF_CRASHY = (Kind.CHECKPOINTER, Kind.IO_WORKER)


def targets_are_gone() -> Expr:
    """Whether nobody is left whom PM_WAIT_BACKENDS waits for (SM-03).

    15 waits for the checkpointer in a crash but does not signal it; 18 signals whom it waits for,
    with a SIGTERM that checkpointer and io workers ignore (MM-02).
    """
    return none_recorded(*TARGETS) & (~CRASHY | none_recorded(*TARGETS_IF_CRASHY))


def _count_normal_backends() -> Effects:
    """SM-01: a smart shutdown goes on when the last normal backend has gone."""
    return (
        when(
            state_is(PM.PM_RUN, PM.PM_HOT_STANDBY) & ~CONNS_ALLOWED & none_recorded(Kind.BACKEND),
            advance_to(PM.PM_STOP_BACKENDS),
        ),
    )


def _stop_backends() -> Effects:
    """SM-02: tell the target set to end."""
    return (
        when(
            state_is(PM.PM_STOP_BACKENDS),
            [
                signal(Signal.SIGTERM, *TARGETS),
                when(V18 & CRASHY, signal(Signal.SIGTERM, *TARGETS_IF_CRASHY)),
                advance_to(PM.PM_WAIT_BACKENDS),
            ],
        ),
    )


def _enter_wait_dead_end() -> Effects:
    """SM-04: 18 also gets rid of the refused clients that came since the first round."""
    return flatten(
        [
            advance_to(PM.PM_WAIT_DEAD_END),
            when(V18, signal(Signal.SIGQUIT, Kind.DEAD_END_BACKEND)),
            when(
                V18 & REPAIR_KILL_DEAD_END & recorded(Kind.DEAD_END_BACKEND),
                ABORT_CLOCK.becomes(True),
            ),
        ]
    )


def _ask_for_shutdown_checkpoint() -> Effects:
    """SM-05: INT (18) or USR2 (15) to the checkpointer, and wait for it."""
    return (
        when(
            V18,
            [
                signal(Signal.SIGINT, Kind.CHECKPOINTER),
                advance_to(PM.PM_WAIT_XLOG_SHUTDOWN),
            ],
            [signal(Signal.SIGUSR2, Kind.CHECKPOINTER), advance_to(PM.PM_SHUTDOWN)],
        ),
    )


def _checkpointer_cannot_be_forked() -> Effects:
    """SM-06: go the way of a crash. 18 leaves the state as it is and comes back only when somebody
    dies; 15 sends no second signal and sets no clock."""
    eighteen = flatten(
        [
            handle_fatal_error(),
            when(
                REPAIR_CHECKPOINTER_FORK_FAILURE & targets_are_gone(),
                _enter_wait_dead_end(),
            ),
        ]
    )
    fifteen = flatten(
        [
            FATAL_ERROR.becomes(True),
            advance_to(PM.PM_WAIT_DEAD_END),
            signal(Signal.SIGQUIT, Kind.BACKEND, Kind.BG_WORKER),
        ]
    )
    return (when(V18, eighteen, fifteen),)


def _leave_wait_backends() -> Effects:
    """SM-03 to SM-06: where PM_WAIT_BACKENDS leads when its targets are gone."""
    missing = LIFE[Kind.CHECKPOINTER] == Life.ABSENT
    return (
        when(
            state_is(PM.PM_WAIT_BACKENDS) & targets_are_gone(),
            when(
                CRASHY,
                _enter_wait_dead_end(),
                [
                    when(
                        missing & ~FORK_FAILS,
                        fork(Kind.CHECKPOINTER, state_is(PM.PM_WAIT_BACKENDS)),
                    ),
                    when(
                        LIFE[Kind.CHECKPOINTER] == Life.ABSENT,
                        _checkpointer_cannot_be_forked(),
                        _ask_for_shutdown_checkpoint(),
                    ),
                ],
            ),
        ),
    )


def _late_states() -> Effects:
    """SM-07 and SM-08: archiver and walsenders, then io workers, then the checkpointer."""
    workers_gone = none_recorded(Kind.IO_WORKER)
    nobody_else = none_recorded(
        *(
            kind
            for kind in ALL_BUT_LOGGER
            if kind not in (Kind.CHECKPOINTER, Kind.IO_WORKER, Kind.DEAD_END_BACKEND)
        )
    )
    return (
        when(
            V15 & state_is(PM.PM_SHUTDOWN_2) & none_recorded(Kind.BACKEND, Kind.BG_WORKER),
            advance_to(PM.PM_WAIT_DEAD_END),
        ),
        when(
            V18 & state_is(PM.PM_WAIT_XLOG_ARCHIVAL) & nobody_else,
            [
                advance_to(PM.PM_WAIT_IO_WORKERS),
                signal(Signal.SIGUSR2, Kind.IO_WORKER),
            ],
        ),
        when(
            V18 & state_is(PM.PM_WAIT_IO_WORKERS) & workers_gone,
            [
                advance_to(PM.PM_WAIT_CHECKPOINTER),
                signal(Signal.SIGUSR2, Kind.CHECKPOINTER),
            ],
        ),
    )


def _dead_end() -> Effects:
    """SM-09: 15 looks at its list of backends only, 18 at everybody but the logger."""
    gone = none_recorded(Kind.DEAD_END_BACKEND, Kind.BACKEND, Kind.BG_WORKER)
    others = (
        Kind.STARTUP,
        Kind.CHECKPOINTER,
        Kind.BG_WRITER,
        Kind.WAL_WRITER,
        Kind.AUTOVAC_LAUNCHER,
        Kind.IO_WORKER,
    )
    return (
        when(
            state_is(PM.PM_WAIT_DEAD_END) & gone & (V15 | none_recorded(*others)),
            advance_to(PM.PM_NO_CHILDREN),
        ),
    )


def reinitialize() -> Effects:
    """SM-13, CR-20: shared memory is made anew, and recovery begins; FatalError stays (MM-01)."""
    workers = COUNT[Kind.IO_WORKER, Life.RUNNING]
    return flatten(
        [
            log("all server processes terminated; reinitializing"),
            RECOVERY_STARTED.becomes(False),
            XLOG_IS_SHUTDOWN.becomes(False),
            REDO.becomes(False),
            RECOVERED.becomes(False),
            TAINTED.becomes(False),
            advance_to(PM.PM_STARTUP),
            workers.becomes(ite(FORK_FAILS, workers, IO_WORKERS)),
            ABORT_CLOCK.becomes(False),
            fork_startup(),
        ]
    )


def _no_children() -> Effects:
    """SM-10 to SM-13: how the postmaster ends, or begins again."""
    ends = when(
        FATAL_ERROR,
        [log("abnormal database system shutdown"), exit_postmaster(Exit.EXITED_1)],
        exit_postmaster(Exit.EXITED_0),
    )
    fails = flatten(
        [
            log("shutting down due to startup process failure"),
            exit_postmaster(Exit.EXITED_1),
        ]
    )
    gives_up = flatten(
        [
            log('shutting down because "restart_after_crash" is off'),
            exit_postmaster(Exit.EXITED_1),
        ]
    )
    here = state_is(PM.PM_NO_CHILDREN) & (EXIT == Exit.ALIVE)
    return (
        when(here & (SHUTDOWN != Shutdown.NoShutdown), ends),
        when(here & (STARTUP_STATUS == StartupStatus.STARTUP_CRASHED), fails),
        when(here & ~RESTART_AFTER_CRASH, gives_up),
        when(here & FATAL_ERROR, reinitialize()),
    )


def state_machine() -> Effects:
    """All steps in their order, each at most once: one call can fall through many states."""
    return flatten(
        [
            _count_normal_backends(),
            _stop_backends(),
            _leave_wait_backends(),
            _late_states(),
            _dead_end(),
            _no_children(),
        ]
    )
