"""Clients at the door: who is admitted, who is refused and in which words.

Begin with   admit_client, then refuse_client.
Owns         canAcceptConnections (2.4) and the forks it leads to.
Source       postmaster.c: canAcceptConnections(), BackendStartup().
"""

from __future__ import annotations

import enum

from pglife_spec.lang.declare import Step, action
from pglife_spec.lang.expr import Expr, ite
from pglife_spec.lang.machine import Actor, emit, when
from pglife_spec.postgres.effects import fork
from pglife_spec.postgres.state import (
    CHILD_SLOTS,
    CONNS_ALLOWED,
    COUNT,
    FATAL_ERROR,
    FORK_FAILS,
    LAST_ACCEPT,
    LIFE,
    READY,
    SHUTDOWN,
    V18,
    number,
    state_is,
)
from pglife_spec.postgres.words import PM, Kind, Life, Shutdown


class Refusal(enum.Enum):
    """Why a client is turned away before authentication, with PostgreSQL's words for it."""

    CAC_SHUTDOWN = "the database system is shutting down"
    CAC_STARTUP = "the database system is starting up"
    CAC_NOTHOTSTANDBY = "the database system is not yet accepting connections"
    CAC_RECOVERY = "the database system is in recovery mode"
    CAC_TOOMANY = "sorry, too many clients already"


OPEN = state_is(PM.PM_RUN, PM.PM_HOT_STANDBY)
ACCEPTING = ~state_is(PM.PM_INIT, PM.PM_WAIT_DEAD_END, PM.PM_NO_CHILDREN)


def slots_are_free() -> Expr:
    """Whether a child slot is left: 18 has a pool for backends, 15 counts bgworkers too."""
    workers = ite(V18, 0, ite(LIFE[Kind.BG_WORKER] == Life.ABSENT, 0, 1))
    return number(Kind.BACKEND) + workers < CHILD_SLOTS


def _reason(refusal: Refusal) -> Expr:
    pending = SHUTDOWN != Shutdown.NoShutdown
    match refusal:
        case Refusal.CAC_SHUTDOWN:
            return (~OPEN & pending) | (OPEN & ~CONNS_ALLOWED)
        case Refusal.CAC_STARTUP:
            return ~pending & ~FATAL_ERROR & state_is(PM.PM_STARTUP)
        case Refusal.CAC_NOTHOTSTANDBY:
            return ~pending & ~FATAL_ERROR & state_is(PM.PM_RECOVERY)
        case Refusal.CAC_RECOVERY:
            opening = ~FATAL_ERROR & state_is(PM.PM_STARTUP, PM.PM_RECOVERY)
            return ~OPEN & ~pending & ~opening
        case Refusal.CAC_TOOMANY:
            return OPEN & CONNS_ALLOWED & ~slots_are_free()


@action(Actor.CLIENT, "postmaster.c: BackendStartup()", "CN-07", "CN-10", "INV-32")
def admit_client() -> Step:
    """A client comes while the server is open and has a slot: a backend is forked."""
    return Step(
        when=[READY, ~FORK_FAILS, OPEN, CONNS_ALLOWED, slots_are_free()],
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
    """A client comes while it cannot be admitted: a dead-end child is forked to tell it so."""
    return Step(
        when=[READY, ~FORK_FAILS, ACCEPTING, _reason(why)],
        then=[
            fork(Kind.DEAD_END_BACKEND, ~state_is(PM.PM_WAIT_DEAD_END)),
            emit("refusal", why.value),
        ],
    )


@action(Actor.CLIENT, "postmaster.c: ServerLoop()", "SV-25", "INV-40")
def serve_last_client() -> Step:
    """18: a client noticed in the same turn is still served after PM_WAIT_DEAD_END was entered.

    The events of a turn are a snapshot: dropping the sockets from the wait set comes too late for
    them. Nobody signals the dead-end child that is forked so.
    """
    return Step(
        when=[READY, ~FORK_FAILS, state_is(PM.PM_WAIT_DEAD_END), LAST_ACCEPT],
        then=[
            LAST_ACCEPT.becomes(False),
            fork(Kind.DEAD_END_BACKEND, ~state_is(PM.PM_WAIT_DEAD_END)),
            when(
                SHUTDOWN != Shutdown.NoShutdown,
                emit("refusal", Refusal.CAC_SHUTDOWN.value),
                emit("refusal", Refusal.CAC_RECOVERY.value),
            ),
        ],
    )


@action(Actor.CLIENT, "postmaster.c: report_fork_failure_to_client()", "SE-34")
def client_meets_fork_failure() -> Step:
    """A client comes while fork fails: it is told so by the postmaster itself; nothing changes."""
    return Step(
        when=[READY, FORK_FAILS, ACCEPTING],
        then=[emit("refusal", "could not fork new process for connection")],
    )


@action(Actor.CLIENT, "tcop/postgres.c: PostgresMain()", "SE-44", "SE-47")
def client_leaves() -> Step:
    """A session ends by its client's wish, or a newcomer fails to get in: exit 0 or 1."""
    running = COUNT[Kind.BACKEND, Life.RUNNING]
    ended = COUNT[Kind.BACKEND, Life.EXITED_0]
    return Step(
        when=[running >= 1],
        then=[running.becomes(running - 1), ended.becomes(ended + 1)],
    )


@action(Actor.OPERATOR, "storage/ipc/signalfuncs.c: pg_terminate_backend()", "SE-30", "SG-28")
def session_is_terminated() -> Step:
    """Somebody sends SIGTERM to a session."""
    running = COUNT[Kind.BACKEND, Life.RUNNING]
    told = COUNT[Kind.BACKEND, Life.TERMINATING]
    return Step(
        when=[running >= 1],
        then=[running.becomes(running - 1), told.becomes(told + 1)],
    )


ACTIONS = [
    *admit_client,
    *refuse_client,
    *serve_last_client,
    *client_meets_fork_failure,
    *client_leaves,
    *session_is_terminated,
]
