"""Claims about evidence: which steps send which signal to which children.

Begin with WATCHES. Each says of one signal by which steps each kind is sent it, and that nothing
else sends it.
"""

from collections.abc import Callable, Sequence

from pglife_spec.lang.declare import watch
from pglife_spec.lang.expr import FALSE, TRUE, Expr, any_of
from pglife_spec.lang.watch import Automaton, before, exactly, never, noted, seen
from pglife_spec.postgres.claims.common import (
    AT_TARGET,
    CHECKPOINT_STATES,
    NO_FORK,
    THROUGH,
    reaped,
)
from pglife_spec.postgres.state.autovacuum import (
    NEEDS_SIGNAL,
    START_AUTOVAC_LAUNCHER,
    START_AUTOVAC_WORKER,
)
from pglife_spec.postgres.state.children import alive
from pglife_spec.postgres.state.postmaster import (
    ABORT_TIMER,
    CRASH_OR_IMMEDIATE,
    EXITED,
    FATAL_ERROR,
    IMMEDIATE,
    PENDING,
    PROMOTE_REQUEST,
    state_is,
)
from pglife_spec.postgres.state.shared import (
    ADVANCE_STATE_MACHINE,
    BEGIN_HOT_STANDBY,
    PROMOTE_FILE,
    RECOVERY_STARTED,
    START_WALRECEIVER,
    XLOG_IS_SHUTDOWN,
)
from pglife_spec.postgres.words import PM, Kind, Life, Signal
from pglife_spec.postgres.words.kinds import AFTER_WAL, LATER_TARGETS, TARGETS
from pglife_spec.postgres.words.releases import Feature, has
from pglife_spec.postgres.words.repairs import (
    REPAIR_KILL_DEAD_END,
    REPAIR_SHUTDOWN_IN_CRASH_STARTUP,
)

_SM = "postmaster.c: PostmasterStateMachine()"
_MESSAGES = (
    RECOVERY_STARTED,
    BEGIN_HOT_STANDBY,
    START_WALRECEIVER,
    XLOG_IS_SHUTDOWN,
    ADVANCE_STATE_MACHINE,
    START_AUTOVAC_LAUNCHER,
    START_AUTOVAC_WORKER,
)
_ANNOUNCED = noted("announced", seen("log", "terminating any other active server processes"))
_KILLS = noted("kills", seen("log", "issuing SIGKILL to recalcitrant children"))
_SHRINKS = noted("shrinks", seen("pool", "shrinks"))
_RELOADS = noted("reloads", seen("log", "received SIGHUP, reloading configuration files"))


def _sent(signal: Signal, where: Callable[[Kind], Expr]) -> list[Automaton]:
    """Each live child of a kind is sent the signal once where a condition holds of its kind, and
    never elsewhere. Dead-end children may be sent it twice in one step."""
    conditions = {kind: where(kind) for kind in Kind}
    return [
        *(
            exactly(
                seen("signal", signal.name, kind.name),
                (before(alive(kind)) | alive(kind)) & condition,
                f"{signal.name} {kind.name}",
                or_more=kind is Kind.DEAD_END_BACKEND,
            )
            for kind, condition in conditions.items()
            if condition is not FALSE
        ),
        never(
            f"{signal.name} to others",
            (seen("signal", signal.name, k.name) for k, c in conditions.items() if c is FALSE),
        ),
    ]


def _passes(*states: PM) -> Expr:
    return any_of(*(THROUGH[state].register for state in states))


_REACHES_DEAD_END = has(Feature.DEAD_END_IS_A_KIND) | REPAIR_KILL_DEAD_END


def _reachable(kind: Kind) -> Expr:
    return _REACHES_DEAD_END if kind is Kind.DEAD_END_BACKEND else TRUE


@watch("SM-02", "SH-04", "SH-06", "TR18-28", source=_SM, reaches=PENDING)
def each_shutdown_target_is_sent_sigterm_once() -> Sequence[Automaton]:
    """In PM_STOP_BACKENDS each live shutdown target is sent SIGTERM, once; dead-end children when
    the checkpointer has exited as the last of the others; all children at the recovery target."""
    here = state_is(PM.PM_STOP_BACKENDS)
    stops = (THROUGH[PM.PM_STOP_BACKENDS].register | before(here)) & ~here
    last = reaped(Kind.CHECKPOINTER, Life.EXITED_0) & before(state_is(PM.PM_WAIT_CHECKPOINTER))

    def where(kind: Kind) -> Expr:
        if kind is Kind.LOGGER:
            return FALSE
        always = last | AT_TARGET.register
        if kind in TARGETS:
            return stops | always
        if kind in LATER_TARGETS:
            crash = has(Feature.AWAITED_ARE_SIGNALED) & CRASH_OR_IMMEDIATE
            return (stops & crash) | always
        return always

    return [AT_TARGET, THROUGH[PM.PM_STOP_BACKENDS], *_sent(Signal.SIGTERM, where)]


@watch("CR-02", "SH-07", "SM-04", source="postmaster.c: TerminateChildren()", reaches=FATAL_ERROR)
def a_crash_or_an_immediate_request_sends_sigquit() -> Sequence[Automaton]:
    """A crash and an immediate request send SIGQUIT to each live child but the logger, once."""
    immediate = ~before(IMMEDIATE) & IMMEDIATE
    repaired = (
        REPAIR_SHUTDOWN_IN_CRASH_STARTUP
        & FATAL_ERROR
        & ~before(PENDING)
        & PENDING
        & before(state_is(PM.PM_STARTUP))
    )
    crash = any_of(
        ~before(FATAL_ERROR) & FATAL_ERROR,
        _ANNOUNCED.register,
        NO_FORK.register & ~EXITED,
        repaired,
    )

    def where(kind: Kind) -> Expr:
        if kind is Kind.LOGGER:
            return FALSE
        if kind is not Kind.DEAD_END_BACKEND:
            return crash | immediate
        # 15: they are not signaled when the checkpointer could not be forked.
        drains = _passes(PM.PM_WAIT_DEAD_END)
        is_a_kind = has(Feature.DEAD_END_IS_A_KIND)
        return any_of(
            crash & (is_a_kind | ~drains),
            immediate & _REACHES_DEAD_END,
            is_a_kind & drains & CRASH_OR_IMMEDIATE,
        )

    return [_ANNOUNCED, NO_FORK, THROUGH[PM.PM_WAIT_DEAD_END], *_sent(Signal.SIGQUIT, where)]


@watch("SL-05", "CR-07", "CR-08", source="postmaster.c: ServerLoop()", reaches=ABORT_TIMER)
def a_sigkill_round_reaches_each_child_once() -> Sequence[Automaton]:
    """A SIGKILL round sends SIGKILL to each live child but the logger, once; nothing else does."""

    def where(kind: Kind) -> Expr:
        return FALSE if kind is Kind.LOGGER else _KILLS.register & _reachable(kind)

    return [_KILLS, *_sent(Signal.SIGKILL, where)]


@watch("SM-08", "SM-05", "TR17-19", source=_SM, reaches=PENDING)
def sigusr2_ends_what_outlives_the_backends() -> Sequence[Automaton]:
    """Entering the state that waits for archiver and walsenders sends them SIGUSR2, entering
    PM_WAIT_IO_WORKERS each io worker, entering PM_WAIT_CHECKPOINTER (15: PM_SHUTDOWN) the
    checkpointer; the autovacuum launcher when a worker could not be started, the startup process
    with a message that finds the file promote, and an io worker when the pool shrinks."""
    flags = (*_MESSAGES, PROMOTE_REQUEST)
    reads = any_of(*(before(flag) & ~flag for flag in flags)) & ~_passes(PM.PM_STARTUP)
    in_recovery = state_is(PM.PM_STARTUP, PM.PM_RECOVERY, PM.PM_HOT_STANDBY)
    ends = {
        Kind.IO_WORKER: _passes(PM.PM_WAIT_IO_WORKERS) | _SHRINKS.register,
        Kind.CHECKPOINTER: _passes(PM.PM_WAIT_CHECKPOINTER, PM.PM_SHUTDOWN),
        Kind.AUTOVAC_LAUNCHER: before(NEEDS_SIGNAL) & ~NEEDS_SIGNAL,
        Kind.STARTUP: reads & PROMOTE_FILE & in_recovery,
        **dict.fromkeys(AFTER_WAL, _passes(PM.PM_WAIT_XLOG_ARCHIVAL, PM.PM_SHUTDOWN_2)),
    }
    return [
        _SHRINKS,
        *(THROUGH[state] for state in (*CHECKPOINT_STATES, PM.PM_STARTUP)),
        *_sent(Signal.SIGUSR2, lambda kind: ends.get(kind, FALSE)),
    ]


@watch("SM-05", "SG-11", "CK-06", source=_SM, reaches=PENDING)
def sigint_asks_the_checkpointer_for_the_last_checkpoint() -> Sequence[Automaton]:
    """18: entering PM_WAIT_XLOG_SHUTDOWN sends SIGINT to the checkpointer, nothing else does."""
    asks = _passes(PM.PM_WAIT_XLOG_SHUTDOWN)
    return [
        THROUGH[PM.PM_WAIT_XLOG_SHUTDOWN],
        *_sent(Signal.SIGINT, lambda kind: asks if kind is Kind.CHECKPOINTER else FALSE),
    ]


@watch("SG-02", "MM-22", source="postmaster.c: process_pm_reload_request()")
def a_reload_sends_sighup_to_each_child_once() -> Sequence[Automaton]:
    """A reload sends SIGHUP to each live child but dead-end children, once; nothing else does."""

    def where(kind: Kind) -> Expr:
        return FALSE if kind is Kind.DEAD_END_BACKEND else _RELOADS.register

    return [_RELOADS, *_sent(Signal.SIGHUP, where)]


WATCHES = (
    each_shutdown_target_is_sent_sigterm_once,
    a_crash_or_an_immediate_request_sends_sigquit,
    a_sigkill_round_reaches_each_child_once,
    sigusr2_ends_what_outlives_the_backends,
    sigint_asks_the_checkpointer_for_the_last_checkpoint,
    a_reload_sends_sighup_to_each_child_once,
)
