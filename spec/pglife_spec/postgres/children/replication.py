"""Walreceiver and slotsync worker: what they do between their start and their exit.

Source: replication/walreceiver.c: WalReceiverMain(), WalRcvDie();
replication/logical/slotsync.c: ReplSlotSyncWorkerMain(), ShutDownSlotSync().
"""

from pglife_spec.lang.declare import Step, action
from pglife_spec.lang.expr import in_
from pglife_spec.lang.machine import Actor
from pglife_spec.postgres.state.children import LIFE
from pglife_spec.postgres.state.shared import REPLAY, SYNCING, WALRCV
from pglife_spec.postgres.words import Kind, Life
from pglife_spec.postgres.words.recovery import Replay, WalRcv

WALRECEIVER = LIFE[Kind.WAL_RECEIVER]
SLOTSYNC = LIFE[Kind.SLOTSYNC_WORKER]
#: The startup process has asked the slotsync worker to stop (stopSignaled).
_REDO_HAS_ENDED = in_(REPLAY, Replay.PROMOTED, Replay.AT_TARGET)


@action(Actor.CHILD, "walreceiver.c: WalReceiverMain()", "PR-08", "RC-15")
def walreceiver_starts() -> Step:
    """A walreceiver that is still wanted says in shared memory that it runs."""
    return Step(
        when=[in_(WALRECEIVER, Life.RUNNING, Life.TERMINATING), WALRCV == WalRcv.STARTING],
        then=[WALRCV.becomes(WalRcv.STREAMING)],
    )


@action(Actor.CHILD, "walreceiver.c: WalReceiverMain()", "PR-08", "SG-18")
def walreceiver_is_not_wanted() -> Step:
    """A walreceiver that is not wanted any more when it starts exits with 1."""
    return Step(
        when=[in_(WALRECEIVER, Life.RUNNING, Life.TERMINATING), WALRCV == WalRcv.STOPPED],
        then=[WALRECEIVER.becomes(Life.EXITED_1)],
    )


@action(Actor.CHILD, "walreceiver.c: WalRcvDie()", "SG-18")
def walreceiver_exits_at_sigterm() -> Step:
    """At SIGTERM, from the postmaster or the startup process, the walreceiver exits with 1 and says
    in shared memory that it has stopped."""
    return Step(
        when=[
            WALRECEIVER == Life.TERMINATING,
            in_(WALRCV, WalRcv.STREAMING, WalRcv.STOPPING),
        ],
        then=[WALRCV.becomes(WalRcv.STOPPED), WALRECEIVER.becomes(Life.EXITED_1)],
    )


@action(Actor.FAULT, "walreceiver.c: WalReceiverMain()", "RC-23")
def walreceiver_loses_the_primary() -> Step:
    """The walreceiver cannot connect, or loses its connection: it exits with 1."""
    return Step(
        when=[WALRECEIVER == Life.RUNNING, WALRCV == WalRcv.STREAMING],
        then=[WALRCV.becomes(WalRcv.STOPPED), WALRECEIVER.becomes(Life.EXITED_1)],
    )


@action(Actor.CHILD, "slotsync.c: check_and_set_sync_info()", "WS-21", "WS-22")
def slotsync_worker_starts() -> Step:
    """The slotsync worker says in shared memory that it is at work."""
    return Step(
        when=[
            in_(SLOTSYNC, Life.RUNNING, Life.TERMINATING),
            ~SYNCING,
            ~_REDO_HAS_ENDED,
        ],
        then=[SYNCING.becomes(True)],
    )


@action(Actor.CHILD, "slotsync.c: ProcessSlotSyncMessage()", "WS-22")
def slotsync_worker_stops_at_promotion() -> Step:
    """When redo has ended the startup process asks the slotsync worker to stop, and one that has
    just begun sees it by itself: it exits with 0."""
    return Step(
        when=[in_(SLOTSYNC, Life.RUNNING, Life.TERMINATING), _REDO_HAS_ENDED],
        then=[SYNCING.becomes(False), SLOTSYNC.becomes(Life.EXITED_0)],
    )


@action(Actor.CHILD, "slotsync.c: slotsync_worker_onexit()", "SG-19")
def slotsync_worker_exits_at_sigterm() -> Step:
    """At SIGTERM the slotsync worker exits with 1."""
    return Step(
        when=[SLOTSYNC == Life.TERMINATING],
        then=[SYNCING.becomes(False), SLOTSYNC.becomes(Life.EXITED_1)],
    )


@action(Actor.FAULT, "slotsync.c: ReplSlotSyncWorkerMain()", "WS-21")
def slotsync_worker_fails() -> Step:
    """The slotsync worker meets an error, or a reload changes what it depends on: it exits with
    0."""
    return Step(
        when=[SLOTSYNC == Life.RUNNING, SYNCING],
        then=[SYNCING.becomes(False), SLOTSYNC.becomes(Life.EXITED_0)],
    )


ACTIONS = [
    *walreceiver_starts,
    *walreceiver_is_not_wanted,
    *walreceiver_exits_at_sigterm,
    *walreceiver_loses_the_primary,
    *slotsync_worker_starts,
    *slotsync_worker_stops_at_promotion,
    *slotsync_worker_exits_at_sigterm,
    *slotsync_worker_fails,
]
