"""Archive recovery: how far the startup process is, its target, and the walreceiver's state.

Source: access/transam/xlogrecovery.c: PerformWalRecovery(); replication/walreceiver.h
(WalRcvState).
"""

import enum


class Target(enum.Enum):
    """The recovery target, by recovery_target_action (RC-09)."""

    NONE = "no recovery target"
    PAUSE = "pause"
    PROMOTE = "promote"
    SHUTDOWN = "shutdown"


class Replay(enum.Enum):
    """How far the startup process is with archive recovery."""

    INCONSISTENT = "it has not reported that sessions may read"
    READABLE = "it has reported that sessions may read (RC-05)"
    PAUSED = "it is paused at the recovery target (RC-09)"
    PROMOTED = "a promotion has ended redo (RC-12)"
    AT_TARGET = "the recovery target has ended redo"


class WalRcv(enum.Enum):
    """The walreceiver's state in shared memory; WAITING and RESTARTING are like STREAMING."""

    STOPPED = "stopped"
    STARTING = "requested, and not started yet"
    STREAMING = "running"
    STOPPING = "the startup process has sent it SIGTERM and waits for its end"


class SlotSync(enum.Enum):
    """The slotsync worker's state in shared memory (WS-22)."""

    STOPPED = "no worker is at work"
    STARTING = "a worker has noted its pid, and has no procsignal slot yet"
    WORKING = "a worker is at work"
    ASKED = "the startup process has asked the worker to stop"
    DEAF = "the request to stop was lost: the worker had no procsignal slot yet"
