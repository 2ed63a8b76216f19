"""How the other children exit: at the signal of their kind, by themselves, or at SIGQUIT.

Source: each XxxMain(); postmaster/interrupt.c; storage/aio/method_worker.c.
"""

from pglife_spec.lang.declare import Step, action
from pglife_spec.lang.machine import Actor, Effect, emit
from pglife_spec.postgres.state.children import COUNT, LIFE, some_in
from pglife_spec.postgres.words import Kind, Life
from pglife_spec.postgres.words.kinds import (
    AFTER_WAL,
    ALL_BUT_LOGGER,
    BACKGROUND,
    COUNTED,
    KINDS,
    WORKERS,
)


@action(
    Actor.CHILD,
    "postmaster/interrupt.c: SignalHandlerForShutdownRequest()",
    "SG-12",
    "SG-13",
    "SG-15",
    "SG-22",
    "BG-18",
    kind=(*BACKGROUND, *WORKERS),
)
def background_process_exits_at_sigterm(kind: Kind) -> Step:
    """At SIGTERM a background process exits with 0, a background worker with 1."""
    return Step(
        when=[LIFE[kind] == Life.TERMINATING],
        then=[LIFE[kind].becomes(KINDS[kind].exit_status)],
    )


@action(
    Actor.CHILD,
    "tcop/postgres.c: ProcessInterrupts()",
    "SG-28",
    "SG-30",
    "SG-20",
    kind=tuple(k for k in COUNTED if k not in AFTER_WAL and k is not Kind.AUTOVAC_WORKER),
)
def signaled_child_exits(kind: Kind) -> Step:
    """A backend or dead-end child exits at SIGTERM, an io worker at SIGUSR2; none is a crash."""
    signaled, exited = COUNT[kind, Life.TERMINATING], COUNT[kind, KINDS[kind].exit_status]
    return Step(
        when=[signaled >= 1],
        then=[signaled.becomes(signaled - 1), exited.becomes(exited + 1)],
    )


@action(Actor.CHILD, "tcop/backend_startup.c: BackendInitialize()", "CN-12", "CN-13", "INV-104")
def dead_end_child_exits() -> Step:
    """A dead-end child exits after it has sent the refusal, when its client disconnects, or at
    authentication_timeout."""
    running = COUNT[Kind.DEAD_END_BACKEND, Life.RUNNING]
    exited = COUNT[Kind.DEAD_END_BACKEND, Life.EXITED_0]
    return Step(
        when=[running >= 1],
        then=[running.becomes(running - 1), exited.becomes(exited + 1)],
    )


@action(
    Actor.CHILD,
    "postmaster/interrupt.c: SignalHandlerForCrashExit()",
    "SG-40",
    "SG-42",
    "PR-27",
    kind=ALL_BUT_LOGGER,
)
def child_exits_at_sigquit(kind: Kind) -> Step:
    """At SIGQUIT a child exits with 2 and cleans nothing up."""
    if kind in LIFE:
        effects: list[Effect] = [LIFE[kind].becomes(Life.CRASHED)]
    else:
        quitting, crashed = COUNT[kind, Life.QUITTING], COUNT[kind, Life.CRASHED]
        effects = [quitting.becomes(quitting - 1), crashed.becomes(crashed + 1)]
    return Step(when=[some_in(kind, Life.QUITTING)], then=[*effects, emit("death", kind.name)])


ACTIONS = [
    *background_process_exits_at_sigterm,
    *signaled_child_exits,
    *dead_end_child_exits,
    *child_exits_at_sigquit,
]
