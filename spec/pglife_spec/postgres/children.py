"""What children do by themselves: recover, write the shutdown checkpoint, end when told to.

Begin with   the startup process, then the checkpointer, then how each kind ends.
Owns         each child's own steps (3.3, 8.1, 9) as far as the postmaster can tell them apart.
Leaves out   crashes and stray signals, which are faults.py.
Source       access/transam/xlog.c: StartupXLOG(), ShutdownXLOG(); postmaster/startup.c,
             checkpointer.c; storage/aio/method_worker.c; each XxxMain().
"""

from __future__ import annotations

from pglife_spec.lang.declare import Step, action
from pglife_spec.lang.expr import Expr, in_, ite
from pglife_spec.lang.machine import Actor, Effect, emit, when
from pglife_spec.postgres.state import (
    CONTROL,
    COUNT,
    LIFE,
    RECOVERED,
    RECOVERY_STARTED,
    REDO,
    V18,
    XLOG_IS_SHUTDOWN,
)
from pglife_spec.postgres.words import COUNTED, Control, Kind, Life

STARTUP = LIFE[Kind.STARTUP]
CHECKPOINTER = LIFE[Kind.CHECKPOINTER]
CLEAN = in_(CONTROL, Control.SHUT_DOWN)


@action(Actor.CHILD, "xlogrecovery.c: PerformWalRecovery()", "RC-01", "RC-02", "PG-01", "TR-90")
def startup_begins_redo() -> Step:
    """After an unclean end the startup process notes crash recovery on disk and reports redo."""
    return Step(
        when=[in_(STARTUP, Life.RUNNING, Life.TERMINATING), ~REDO, ~CLEAN, ~RECOVERED],
        then=[
            REDO.becomes(True),
            CONTROL.becomes(Control.IN_CRASH_RECOVERY),
            RECOVERY_STARTED.becomes(True),
        ],
    )


_HEEDLESS = in_(STARTUP, Life.RUNNING, Life.TERMINATING, Life.QUITTING)


@action(Actor.CHILD, "xlog.c: PerformRecoveryXLogAction()", "CR-23", "CK-04", "PG-33")
def recovery_ends() -> Step:
    """Redo is over, or none was needed, and the control file says "in production".

    After redo the checkpointer has to write a checkpoint first: one that is there and still takes
    requests. The startup process may get here although told to end, and although SIGQUIT was sent
    (SG-44, MM-32).
    """
    return Step(
        when=[
            _HEEDLESS,
            ~RECOVERED,
            (REDO & (CHECKPOINTER == Life.RUNNING)) | (~REDO & CLEAN),
        ],
        then=[CONTROL.becomes(Control.IN_PRODUCTION), RECOVERED.becomes(True)],
    )


@action(Actor.CHILD, "startup.c: StartupProcessMain()", "TR18-04", "MM-32")
def startup_finishes() -> Step:
    """After the end of recovery the startup process exits 0, whatever it was told meanwhile."""
    return Step(
        when=[_HEEDLESS, RECOVERED],
        then=[STARTUP.becomes(Life.EXITED_0)],
    )


@action(Actor.CHILD, "startup.c: ProcessStartupProcInterrupts()", "SG-10", "RC-16")
def startup_ends_when_told() -> Step:
    """SIGTERM ends the startup process with exit code 1."""
    return Step(
        when=[STARTUP == Life.TERMINATING],
        then=[STARTUP.becomes(Life.EXITED_1)],
    )


@action(Actor.CHILD, "xlog.c: ShutdownXLOG()", "SH-14", "SH-15", "CK-06")
def shutdown_checkpoint_begins() -> Step:
    """The control file says "shutting down" while the shutdown checkpoint is being written."""
    return Step(
        when=[
            CHECKPOINTER == Life.CHECKPOINTING,
            RECOVERED,
            CONTROL == Control.IN_PRODUCTION,
        ],
        then=[CONTROL.becomes(Control.SHUTTING_DOWN)],
    )


def _written() -> Effect:
    return CONTROL.becomes(ite(RECOVERED, Control.SHUT_DOWN, Control.SHUT_DOWN_IN_RECOVERY))


@action(Actor.CHILD, "checkpointer.c: CheckpointerMain()", "SH-13", "CK-06", "PG-09", "RC-18")
def shutdown_checkpoint_ends() -> Step:
    """The shutdown checkpoint is on disk: 18 reports it and waits for SIGUSR2, 15 exits 0."""
    ready = ~RECOVERED | in_(CONTROL, Control.SHUTTING_DOWN, Control.SHUT_DOWN)
    return Step(
        when=[CHECKPOINTER == Life.CHECKPOINTING, ready],
        then=[
            _written(),
            when(
                V18,
                [XLOG_IS_SHUTDOWN.becomes(True), CHECKPOINTER.becomes(Life.XLOG_SHUT_DOWN)],
                CHECKPOINTER.becomes(Life.EXITED_0),
            ),
        ],
    )


@action(Actor.CHILD, "checkpointer.c: CheckpointerMain()", "TR18-28", "CK-07", "SG-11")
def checkpointer_ends_when_told() -> Step:
    """18: after SIGUSR2 the checkpointer exits 0."""
    return Step(
        when=[V18, CHECKPOINTER == Life.TERMINATING],
        then=[CHECKPOINTER.becomes(Life.EXITED_0)],
    )


ENDS_WITH_0 = (Kind.BG_WRITER, Kind.WAL_WRITER, Kind.AUTOVAC_LAUNCHER)


@action(
    Actor.CHILD,
    "postmaster/interrupt.c: SignalHandlerForShutdownRequest()",
    "SG-12",
    "SG-13",
    "SG-15",
    "SG-22",
    "BG-18",
    kind=(*ENDS_WITH_0, Kind.BG_WORKER),
)
def background_process_ends_when_told(kind: Kind) -> Step:
    """SIGTERM ends a background process: exit code 0, the logical replication launcher 1."""
    end = Life.EXITED_1 if kind is Kind.BG_WORKER else Life.EXITED_0
    return Step(when=[LIFE[kind] == Life.TERMINATING], then=[LIFE[kind].becomes(end)])


@action(
    Actor.CHILD, "tcop/postgres.c: ProcessInterrupts()", "SG-28", "SG-30", "SG-20", kind=COUNTED
)
def told_child_ends(kind: Kind) -> Step:
    """A session, a refused client's child or an io worker that was told to end, ends cleanly."""
    told, ended = COUNT[kind, Life.TERMINATING], COUNT[kind, Life.EXITED_0]
    return Step(
        when=[told >= 1],
        then=[told.becomes(told - 1), ended.becomes(ended + 1)],
    )


@action(Actor.CHILD, "tcop/backend_startup.c: BackendInitialize()", "CN-12", "CN-13", "INV-104")
def refused_client_goes() -> Step:
    """A dead-end child ends after its answer, with its client, or at authentication_timeout."""
    here = COUNT[Kind.DEAD_END_BACKEND, Life.RUNNING]
    ended = COUNT[Kind.DEAD_END_BACKEND, Life.EXITED_0]
    return Step(
        when=[here >= 1],
        then=[here.becomes(here - 1), ended.becomes(ended + 1)],
    )


def _quitting(kind: Kind) -> Expr:
    return LIFE[kind] == Life.QUITTING if kind in LIFE else COUNT[kind, Life.QUITTING] >= 1


@action(
    Actor.CHILD,
    "postmaster/interrupt.c: SignalHandlerForCrashExit()",
    "SG-40",
    "SG-42",
    "PR-27",
    kind=tuple(k for k in Kind if k is not Kind.LOGGER),
)
def child_quits(kind: Kind) -> Step:
    """SIGQUIT ends a child with exit code 2, nothing cleaned up."""
    if kind in LIFE:
        effects: list[Effect] = [LIFE[kind].becomes(Life.CRASHED)]
    else:
        quitting, crashed = COUNT[kind, Life.QUITTING], COUNT[kind, Life.CRASHED]
        effects = [quitting.becomes(quitting - 1), crashed.becomes(crashed + 1)]
    return Step(when=[_quitting(kind)], then=[*effects, emit("death", kind.name)])


ACTIONS = [
    *startup_begins_redo,
    *recovery_ends,
    *startup_finishes,
    *startup_ends_when_told,
    *shutdown_checkpoint_begins,
    *shutdown_checkpoint_ends,
    *checkpointer_ends_when_told,
    *background_process_ends_when_told,
    *told_child_ends,
    *refused_client_goes,
    *child_quits,
]
