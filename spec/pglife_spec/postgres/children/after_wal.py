"""Archiver and walsenders: they outlive the shutdown checkpoint, to archive and send it.

Begin with archiver_finishes.

Source: postmaster/pgarch.c; replication/walsender.c: WalSndDone().
"""

from pglife_spec.lang.declare import Step, action
from pglife_spec.lang.expr import in_
from pglife_spec.lang.machine import Actor
from pglife_spec.postgres.state.children import COUNT, LIFE
from pglife_spec.postgres.state.shared import ADVANCE_STATE_MACHINE
from pglife_spec.postgres.words import Kind, Life
from pglife_spec.postgres.words.parameters import STRAY_SIGNALS, WAL_SENDERS

ARCHIVER = LIFE[Kind.ARCHIVER]


@action(Actor.CHILD, "pgarch.c: pgarch_MainLoop()", "SH-21", "AR-05", "SG-17")
def archiver_finishes() -> Step:
    """After SIGUSR2 the archiver archives what is ready and exits with 0; after SIGTERM it exits
    with 0 within two minutes."""
    return Step(when=[ARCHIVER == Life.TERMINATING], then=[ARCHIVER.becomes(Life.EXITED_0)])


@action(Actor.FAULT, "pgarch.c: pgarch_archiveXlog()", "AR-04", "AR-07")
def archiver_fails() -> Step:
    """The archiver fails with FATAL, as when a signal kills its command: exit code 1."""
    return Step(
        when=[in_(ARCHIVER, Life.RUNNING, Life.TERMINATING)],
        then=[ARCHIVER.becomes(Life.EXITED_1)],
    )


@action(Actor.OPERATOR, "pgarch.c: pgarch_waken_stop()", "AR-05", "SG-17")
def operator_stops_archiver() -> Step:
    """The operator sends SIGTERM or SIGUSR2 to the archiver, which exits and is replaced."""
    return Step(
        when=[STRAY_SIGNALS, ARCHIVER == Life.RUNNING],
        then=[ARCHIVER.becomes(Life.TERMINATING)],
    )


@action(Actor.CLIENT, "walsender.c: InitWalSender()", "SV-24", "PG-10", "CN-32")
def backend_becomes_walsender() -> Step:
    """A client asks for replication: its backend tells the postmaster that it is a walsender now,
    which outlives the shutdown checkpoint."""
    backend, sender = COUNT[Kind.BACKEND, Life.RUNNING], COUNT[Kind.WAL_SENDER, Life.RUNNING]
    return Step(
        when=[WAL_SENDERS, backend >= 1],
        then=[
            backend.becomes(backend - 1),
            sender.becomes(sender + 1),
            ADVANCE_STATE_MACHINE.becomes(True),
        ],
    )


@action(Actor.CLIENT, "walsender.c: WalSndShutdown()", "SE-44", "SG-31")
def walsender_disconnects() -> Step:
    """The receiver of WAL disconnects, or the operator sends SIGTERM: the walsender exits with 0 or
    1."""
    running = COUNT[Kind.WAL_SENDER, Life.RUNNING]
    exited = COUNT[Kind.WAL_SENDER, Life.EXITED_0]
    return Step(
        when=[running >= 1], then=[running.becomes(running - 1), exited.becomes(exited + 1)]
    )


@action(Actor.CHILD, "walsender.c: WalSndDone()", "SH-20", "SG-31")
def walsender_finishes() -> Step:
    """After SIGUSR2 a walsender exits with 0 as soon as the receiver has confirmed all WAL."""
    signaled = COUNT[Kind.WAL_SENDER, Life.TERMINATING]
    exited = COUNT[Kind.WAL_SENDER, Life.EXITED_0]
    return Step(
        when=[signaled >= 1], then=[signaled.becomes(signaled - 1), exited.becomes(exited + 1)]
    )


ACTIONS = [
    *archiver_finishes,
    *archiver_fails,
    *operator_stops_archiver,
    *backend_becomes_walsender,
    *walsender_disconnects,
    *walsender_finishes,
]
