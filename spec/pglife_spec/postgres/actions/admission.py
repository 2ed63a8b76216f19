"""Clients that connect: which are admitted, and which are refused with which message.

Begin with admit_client, then refuse_client.

Source: postmaster.c: canAcceptConnections(), BackendStartup().
"""

import enum

from pglife_spec.lang.declare import Step, action
from pglife_spec.lang.expr import Expr, ite, total
from pglife_spec.lang.machine import Actor, emit, when
from pglife_spec.postgres.actions.effects import fork
from pglife_spec.postgres.state.children import COUNT, LIFE, number
from pglife_spec.postgres.state.postmaster import (
    BETWEEN_EVENTS,
    CONNS_ALLOWED,
    FATAL_ERROR,
    FORK_FAILS,
    LAST_ACCEPT,
    LISTENING,
    PENDING,
    state_is,
)
from pglife_spec.postgres.words import PM, Kind, Life
from pglife_spec.postgres.words.kinds import WORKERS
from pglife_spec.postgres.words.parameters import CHILD_SLOTS
from pglife_spec.postgres.words.releases import Feature, has


class Refusal(enum.Enum):
    """Why a client is refused before authentication, with PostgreSQL's message for it."""

    CAC_SHUTDOWN = "the database system is shutting down"
    CAC_STARTUP = "the database system is starting up"
    CAC_NOTHOTSTANDBY = "the database system is not yet accepting connections"
    CAC_RECOVERY = "the database system is in recovery mode"
    CAC_TOOMANY = "sorry, too many clients already"


OPEN = state_is(PM.PM_RUN, PM.PM_HOT_STANDBY)
#: 18 asks for clients while the sockets are in the wait set, 15 in every state but one (SL-07).
ACCEPTING = (
    LISTENING
    & ~state_is(PM.PM_INIT, PM.PM_NO_CHILDREN)
    & (has(Feature.WAIT_EVENT_SET) | ~state_is(PM.PM_WAIT_DEAD_END))
)


def slots_are_free() -> Expr:
    """Whether a child slot is free; without pools, background workers use the same slots."""
    workers = total(ite(LIFE[kind] == Life.ABSENT, 0, 1) for kind in WORKERS)
    shared = number(Kind.AUTOVAC_WORKER) + workers
    others = number(Kind.WAL_SENDER) + ite(has(Feature.SLOT_POOLS), 0, shared)
    return number(Kind.BACKEND) + others < CHILD_SLOTS


def _reason(refusal: Refusal) -> Expr:
    match refusal:
        case Refusal.CAC_SHUTDOWN:
            return (~OPEN & PENDING) | (OPEN & ~CONNS_ALLOWED)
        case Refusal.CAC_STARTUP:
            return ~PENDING & ~FATAL_ERROR & state_is(PM.PM_STARTUP)
        case Refusal.CAC_NOTHOTSTANDBY:
            return ~PENDING & ~FATAL_ERROR & state_is(PM.PM_RECOVERY)
        case Refusal.CAC_RECOVERY:
            opening = ~FATAL_ERROR & state_is(PM.PM_STARTUP, PM.PM_RECOVERY)
            return ~OPEN & ~PENDING & ~opening
        case Refusal.CAC_TOOMANY:
            return OPEN & CONNS_ALLOWED & ~slots_are_free()


@action(Actor.CLIENT, "postmaster.c: BackendStartup()", "CN-07", "CN-10", "INV-32")
def admit_client() -> Step:
    """A client connects while the server is open and a slot is free: the postmaster forks a
    backend."""
    return Step(
        when=[BETWEEN_EVENTS, ~FORK_FAILS, OPEN, CONNS_ALLOWED, slots_are_free()],
        then=[fork(Kind.BACKEND, OPEN), emit("admitted")],
    )


@action(
    Actor.CLIENT,
    "postmaster.c: canAcceptConnections()",
    "CN-01",
    "CN-02",
    "CN-03",
    "CN-04",
    "CN-05",
    "CN-06",
    "INV-77",
    why=tuple(Refusal),
)
def refuse_client(why: Refusal) -> Step:
    """A client connects and cannot be admitted: the postmaster forks a dead-end child, which
    sends the refusal."""
    return Step(
        when=[BETWEEN_EVENTS, ~FORK_FAILS, ACCEPTING, _reason(why)],
        then=[
            fork(Kind.DEAD_END_BACKEND, ~state_is(PM.PM_WAIT_DEAD_END)),
            emit("refusal", why.value),
        ],
    )


@action(Actor.CLIENT, "postmaster.c: ServerLoop()", "SV-25", "INV-40")
def accept_client_in_wait_dead_end() -> Step:
    """18: the wait that led to PM_WAIT_DEAD_END also reported a client: the postmaster still
    forks a dead-end child for it.

    The loop handles every event of one wait; it removes the sockets from the wait set too late for
    those. No signal is sent to this child.
    """
    return Step(
        when=[BETWEEN_EVENTS, ~FORK_FAILS, LAST_ACCEPT],
        then=[
            LAST_ACCEPT.becomes(False),
            fork(Kind.DEAD_END_BACKEND, ~state_is(PM.PM_WAIT_DEAD_END)),
            when(
                PENDING,
                emit("refusal", Refusal.CAC_SHUTDOWN.value),
                emit("refusal", Refusal.CAC_RECOVERY.value),
            ),
        ],
    )


@action(Actor.CLIENT, "postmaster.c: report_fork_failure_to_client()", "SE-34")
def fork_for_client_fails() -> Step:
    """A client connects while fork() fails: the postmaster itself sends the error, and nothing
    changes."""
    return Step(
        when=[BETWEEN_EVENTS, FORK_FAILS, ACCEPTING],
        then=[emit("refusal", "could not fork new process for connection")],
    )


@action(Actor.CLIENT, "tcop/postgres.c: PostgresMain()", "SE-44", "SE-47")
def client_disconnects() -> Step:
    """A client disconnects or fails to authenticate: its backend exits with 0 or 1."""
    running = COUNT[Kind.BACKEND, Life.RUNNING]
    exited = COUNT[Kind.BACKEND, Life.EXITED_0]
    return Step(
        when=[running >= 1],
        then=[running.becomes(running - 1), exited.becomes(exited + 1)],
    )


@action(Actor.OPERATOR, "storage/ipc/signalfuncs.c: pg_terminate_backend()", "SE-30", "SG-28")
def operator_terminates_session() -> Step:
    """The operator sends SIGTERM to a backend."""
    running = COUNT[Kind.BACKEND, Life.RUNNING]
    terminating = COUNT[Kind.BACKEND, Life.TERMINATING]
    return Step(
        when=[running >= 1],
        then=[running.becomes(running - 1), terminating.becomes(terminating + 1)],
    )


ACTIONS = [
    *admit_client,
    *refuse_client,
    *accept_client_in_wait_dead_end,
    *fork_for_client_fails,
    *client_disconnects,
    *operator_terminates_session,
]
