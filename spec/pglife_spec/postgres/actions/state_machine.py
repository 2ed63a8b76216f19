"""PostmasterStateMachine(): what it tries, in order, after a request, a reaping or a message.

Begin with state_machine(). It says which children a shutdown signals, which it waits for, and what
the next state is (SM-01 to SM-13).

Source: postmaster.c: PostmasterStateMachine(), 15.18 and 18.6.
"""

from pglife_spec.lang.expr import Expr, ite
from pglife_spec.lang.machine import flatten, when
from pglife_spec.postgres.actions.autovacuum import forget_entries
from pglife_spec.postgres.actions.effects import (
    Effects,
    advance_to,
    exit_postmaster,
    fork,
    fork_startup,
    handle_fatal_error,
    log,
    signal,
)
from pglife_spec.postgres.actions.workers import reset_crash_times
from pglife_spec.postgres.state.children import COUNT, LIFE, none_recorded, recorded
from pglife_spec.postgres.state.history import TAINTED
from pglife_spec.postgres.state.io_pool import WANTED
from pglife_spec.postgres.state.postmaster import (
    ABORT_TIMER,
    ALIVE,
    CONNS_ALLOWED,
    CRASH_OR_IMMEDIATE,
    FATAL_ERROR,
    FORK_FAILS,
    LAST_ACCEPT,
    LISTENING,
    PENDING,
    STARTUP_STATUS,
    state_is,
)
from pglife_spec.postgres.state.shared import (
    ADVANCE_STATE_MACHINE,
    BEGIN_HOT_STANDBY,
    PROMOTE_SIGNALED,
    RECOVERED,
    RECOVERY_STARTED,
    REDO,
    REPLAY,
    SLOT_SYNC,
    START_WALRECEIVER,
    STOP_SIGNALED,
    WALRCV,
    XLOG_IS_SHUTDOWN,
)
from pglife_spec.postgres.words import PM, Exit, Kind, Life, Signal, StartupStatus
from pglife_spec.postgres.words.kinds import (
    AFTER_WAL,
    ALL_BUT_LOGGER,
    LATER_TARGETS,
    LISTED,
    TARGETS,
)
from pglife_spec.postgres.words.parameters import RESTART_AFTER_CRASH
from pglife_spec.postgres.words.recovery import Replay, SlotSync, WalRcv
from pglife_spec.postgres.words.releases import Feature, has
from pglife_spec.postgres.words.repairs import (
    REPAIR_CHECKPOINTER_FORK_FAILURE,
    REPAIR_KILL_DEAD_END,
)

_OUTLIVES_WAL = has(Feature.CHECKPOINTER_OUTLIVES_WAL)
_DEAD_END_IS_A_KIND = has(Feature.DEAD_END_IS_A_KIND)


def targets_have_exited() -> Expr:
    """Whether no child is left that PM_WAIT_BACKENDS waits for (SM-03).

    In a crash 15 waits for the checkpointer but sends it nothing, and does not wait for archiver
    and walsenders; 18 signals what it waits for, with a SIGTERM that checkpointer and io workers
    ignore (MM-02).
    """
    after_wal = ~has(Feature.ONE_CHILD_LIST) | none_recorded(*AFTER_WAL)
    others = none_recorded(*(kind for kind in LATER_TARGETS if kind not in AFTER_WAL))
    return none_recorded(*TARGETS) & (~CRASH_OR_IMMEDIATE | (others & after_wal))


def _count_normal_backends() -> Effects:
    """SM-01: a smart shutdown continues when the last normal backend was reaped."""
    return (
        when(
            state_is(PM.PM_RUN, PM.PM_HOT_STANDBY) & ~CONNS_ALLOWED & none_recorded(Kind.BACKEND),
            advance_to(PM.PM_STOP_BACKENDS),
        ),
    )


def _stop_backends() -> Effects:
    """SM-02: send SIGTERM to the target set."""
    return (
        when(
            state_is(PM.PM_STOP_BACKENDS),
            [
                signal(Signal.SIGTERM, *TARGETS),
                when(
                    has(Feature.AWAITED_ARE_SIGNALED) & CRASH_OR_IMMEDIATE,
                    signal(Signal.SIGTERM, *LATER_TARGETS),
                ),
                advance_to(PM.PM_WAIT_BACKENDS),
            ],
        ),
    )


def _enter_wait_dead_end() -> Effects:
    """SM-04: 18 also sends SIGQUIT to the dead-end children forked since the first round."""
    return flatten(
        [
            advance_to(PM.PM_WAIT_DEAD_END),
            when(_DEAD_END_IS_A_KIND, signal(Signal.SIGQUIT, Kind.DEAD_END_BACKEND)),
            when(
                _DEAD_END_IS_A_KIND & REPAIR_KILL_DEAD_END & recorded(Kind.DEAD_END_BACKEND),
                ABORT_TIMER.becomes(True),
            ),
        ]
    )


def _ask_for_shutdown_checkpoint() -> Effects:
    """SM-05: send SIGINT (18) or SIGUSR2 (15) to the checkpointer, and wait for it."""
    return (
        when(
            _OUTLIVES_WAL,
            [
                signal(Signal.SIGINT, Kind.CHECKPOINTER),
                advance_to(PM.PM_WAIT_XLOG_SHUTDOWN),
            ],
            [signal(Signal.SIGUSR2, Kind.CHECKPOINTER), advance_to(PM.PM_SHUTDOWN)],
        ),
    )


def _checkpointer_cannot_be_forked() -> Effects:
    """SM-06: handle it as a crash. 18 keeps the state, which only the exit of a child advances;
    15 enters PM_WAIT_DEAD_END and arms no timer."""
    as_fatal_error = flatten(
        [
            handle_fatal_error(),
            when(
                REPAIR_CHECKPOINTER_FORK_FAILURE & targets_have_exited(),
                _enter_wait_dead_end(),
            ),
        ]
    )
    by_hand = flatten(
        [
            FATAL_ERROR.becomes(True),
            advance_to(PM.PM_WAIT_DEAD_END),
            signal(Signal.SIGQUIT, *(k for k in LISTED if k is not Kind.DEAD_END_BACKEND)),
            signal(Signal.SIGQUIT, Kind.ARCHIVER),
        ]
    )
    return (when(has(Feature.HANDLE_FATAL_ERROR), as_fatal_error, by_hand),)


def _leave_wait_backends() -> Effects:
    """SM-03 to SM-06: what follows PM_WAIT_BACKENDS when the target set was reaped."""
    missing = LIFE[Kind.CHECKPOINTER] == Life.ABSENT
    return (
        when(
            state_is(PM.PM_WAIT_BACKENDS) & targets_have_exited(),
            when(
                CRASH_OR_IMMEDIATE,
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
    """SM-07 and SM-08: wait for archiver and walsenders, then io workers, then the checkpointer."""
    backends_exited = none_recorded(*TARGETS, *AFTER_WAL)
    listed = tuple(kind for kind in LISTED if kind is not Kind.DEAD_END_BACKEND)
    return (
        when(
            ~_OUTLIVES_WAL & state_is(PM.PM_SHUTDOWN_2) & none_recorded(Kind.ARCHIVER, *listed),
            advance_to(PM.PM_WAIT_DEAD_END),
        ),
        when(
            _OUTLIVES_WAL & state_is(PM.PM_WAIT_XLOG_ARCHIVAL) & backends_exited,
            [
                advance_to(PM.PM_WAIT_IO_WORKERS),
                signal(Signal.SIGUSR2, Kind.IO_WORKER),
            ],
        ),
        when(
            _OUTLIVES_WAL & state_is(PM.PM_WAIT_IO_WORKERS) & none_recorded(Kind.IO_WORKER),
            [
                advance_to(PM.PM_WAIT_CHECKPOINTER),
                signal(Signal.SIGUSR2, Kind.CHECKPOINTER),
            ],
        ),
    )


def _wait_dead_end() -> Effects:
    """SM-09: 15 looks at its list of backends and the archiver, 18 at all but the logger."""
    listed = (*LISTED, Kind.ARCHIVER)
    others = tuple(kind for kind in ALL_BUT_LOGGER if kind not in listed)
    return (
        when(
            state_is(PM.PM_WAIT_DEAD_END)
            & none_recorded(*listed)
            & (~has(Feature.ONE_CHILD_LIST) | none_recorded(*others)),
            advance_to(PM.PM_NO_CHILDREN),
        ),
    )


def reinitialize() -> Effects:
    """SM-13, CR-20: make new shared memory and begin recovery; FatalError stays set (MM-01)."""
    workers = COUNT[Kind.IO_WORKER, Life.RUNNING]
    return flatten(
        [
            log("all server processes terminated; reinitializing"),
            reset_crash_times(),
            RECOVERY_STARTED.becomes(False),
            XLOG_IS_SHUTDOWN.becomes(False),
            ADVANCE_STATE_MACHINE.becomes(False),
            forget_entries(),
            REDO.becomes(False),
            RECOVERED.becomes(False),
            BEGIN_HOT_STANDBY.becomes(False),
            START_WALRECEIVER.becomes(False),
            REPLAY.becomes(Replay.INCONSISTENT),
            WALRCV.becomes(WalRcv.STOPPED),
            SLOT_SYNC.becomes(SlotSync.STOPPED),
            STOP_SIGNALED.becomes(False),
            PROMOTE_SIGNALED.becomes(False),
            TAINTED.becomes(False),
            advance_to(PM.PM_STARTUP),
            workers.becomes(ite(FORK_FAILS, workers, WANTED)),
            ABORT_TIMER.becomes(False),
            fork_startup(),
            LISTENING.becomes(True),
            LAST_ACCEPT.becomes(False),
        ]
    )


def _no_children() -> Effects:
    """SM-10 to SM-13: the postmaster exits, or reinitializes."""
    exits = when(
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
    here = state_is(PM.PM_NO_CHILDREN) & ALIVE
    return (
        when(here & PENDING, exits),
        when(here & (STARTUP_STATUS == StartupStatus.STARTUP_CRASHED), fails),
        when(here & ~RESTART_AFTER_CRASH, gives_up),
        when(here & FATAL_ERROR, reinitialize()),
    )


def state_machine() -> Effects:
    """All steps in order, each at most once: one call can pass through several states."""
    return flatten(
        [
            _count_normal_backends(),
            _stop_backends(),
            _leave_wait_backends(),
            _late_states(),
            _wait_dead_end(),
            _no_children(),
        ]
    )
