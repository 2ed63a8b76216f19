"""Walreceiver and slotsync worker: what they do between their start and their exit.

Source: replication/walreceiver.c: WalReceiverMain(), WalRcvDie();
replication/logical/slotsync.c: ReplSlotSyncWorkerMain(), ShutDownSlotSync().
"""

from pglife_spec.lang.declare import Step, action
from pglife_spec.lang.expr import in_
from pglife_spec.lang.machine import Actor
from pglife_spec.postgres.state.children import LIFE
from pglife_spec.postgres.state.shared import SLOT_SYNC, STOP_SIGNALED, WALRCV
from pglife_spec.postgres.words import Kind, Life
from pglife_spec.postgres.words.recovery import SlotSync, WalRcv

WALRECEIVER = LIFE[Kind.WAL_RECEIVER]
SLOTSYNC = LIFE[Kind.SLOTSYNC_WORKER]
_LIVES = in_(SLOTSYNC, Life.RUNNING, Life.TERMINATING)


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
    """The slotsync worker notes its pid in shared memory; it has no procsignal slot yet."""
    return Step(
        when=[_LIVES, SLOT_SYNC == SlotSync.STOPPED, ~STOP_SIGNALED],
        then=[SLOT_SYNC.becomes(SlotSync.STARTING)],
    )


@action(Actor.CHILD, "slotsync.c: check_and_set_sync_info()", "WS-22")
def slotsync_worker_is_not_wanted() -> Step:
    """A slotsync worker that starts when redo has ended exits with 0."""
    return Step(
        when=[_LIVES, SLOT_SYNC == SlotSync.STOPPED, STOP_SIGNALED],
        then=[SLOTSYNC.becomes(Life.EXITED_0)],
    )


@action(Actor.CHILD, "slotsync.c: ReplSlotSyncWorkerMain()", "WS-21")
def slotsync_worker_connects() -> Step:
    """The slotsync worker has its procsignal slot, and connects to the primary."""
    return Step(
        when=[_LIVES, SLOT_SYNC == SlotSync.STARTING],
        then=[SLOT_SYNC.becomes(SlotSync.WORKING)],
    )


@action(Actor.CHILD, "slotsync.c: ProcessSlotSyncMessage()", "WS-22")
def slotsync_worker_stops_at_promotion() -> Step:
    """The slotsync worker has received the request to stop, and exits with 0."""
    return Step(
        when=[_LIVES, SLOT_SYNC == SlotSync.ASKED],
        then=[SLOT_SYNC.becomes(SlotSync.STOPPED), SLOTSYNC.becomes(Life.EXITED_0)],
    )


@action(Actor.CHILD, "slotsync.c: slotsync_worker_onexit()", "SG-19")
def slotsync_worker_exits_at_sigterm() -> Step:
    """At SIGTERM the slotsync worker exits with 1."""
    return Step(
        when=[SLOTSYNC == Life.TERMINATING],
        then=[SLOT_SYNC.becomes(SlotSync.STOPPED), SLOTSYNC.becomes(Life.EXITED_1)],
    )


@action(Actor.FAULT, "slotsync.c: ReplSlotSyncWorkerMain()", "WS-21")
def slotsync_worker_fails() -> Step:
    """The slotsync worker cannot connect, meets an error, or a reload changes what it depends on:
    it exits with 0."""
    return Step(
        when=[SLOTSYNC == Life.RUNNING, SLOT_SYNC != SlotSync.STOPPED],
        then=[SLOT_SYNC.becomes(SlotSync.STOPPED), SLOTSYNC.becomes(Life.EXITED_0)],
    )


ACTIONS = [
    *walreceiver_starts,
    *walreceiver_is_not_wanted,
    *walreceiver_exits_at_sigterm,
    *walreceiver_loses_the_primary,
    *slotsync_worker_starts,
    *slotsync_worker_is_not_wanted,
    *slotsync_worker_connects,
    *slotsync_worker_stops_at_promotion,
    *slotsync_worker_exits_at_sigterm,
    *slotsync_worker_fails,
]
