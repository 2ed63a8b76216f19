"""Requesting a checkpoint, and waiting for it. roles/checkpointer.py makes it.

Source: postmaster/checkpointer.c: RequestCheckpoint(); rules CK-01, CK-09, PG-33.
"""

import os
import signal
import time
from collections.abc import Callable
from enum import IntFlag

from pglife_impl import ImplError
from pglife_impl.base.kinds import Kind
from pglife_impl.shmem.segment import Lock, Shmem

WAIT_FOR_CHECKPOINTER_S = 60.0
LOOK_AGAIN_S = 0.1


class CheckpointFlag(IntFlag):
    """Why and how a checkpoint is made."""

    SHUTDOWN = 1
    END_OF_RECOVERY = 2
    IMMEDIATE = 4
    FORCE = 8
    WAIT = 16
    TIME = 32


WORDS = {
    CheckpointFlag.SHUTDOWN: "shutdown",
    CheckpointFlag.END_OF_RECOVERY: "end-of-recovery",
    CheckpointFlag.IMMEDIATE: "immediate",
    CheckpointFlag.FORCE: "force",
    CheckpointFlag.WAIT: "wait",
    CheckpointFlag.TIME: "time",
}


def describe(flags: CheckpointFlag) -> str:
    """The words after `checkpoint starting: `."""
    return " ".join(word for flag, word in WORDS.items() if flag in flags)


class CheckpointFailed(ImplError):
    """A requested checkpoint failed."""


def request(shmem: Shmem, flags: CheckpointFlag, nap: Callable[[float], None]) -> None:
    """Request a checkpoint and wait until one that began after this call is complete.

    Args:
        nap: sleeps for the given seconds and serves interrupts; it may raise.

    Raises:
        CheckpointFailed: the checkpoint failed, or no checkpointer runs for a minute.
    """
    with shmem.locked(Lock.CHECKPOINT):
        before = shmem.checkpoint_counters()
        shmem.put_checkpoint_counters(before.replace(requested=before.requested | flags))
    _wake_checkpointer(shmem, nap)
    while (now := shmem.checkpoint_counters()).started == before.started:
        nap(LOOK_AGAIN_S)
    started = now.started
    while (now := shmem.checkpoint_counters()).done < started:
        nap(LOOK_AGAIN_S)
    if now.failed != before.failed:
        raise CheckpointFailed("checkpoint request failed")


def _wake_checkpointer(shmem: Shmem, nap: Callable[[float], None]) -> None:
    """Send SIGURG to the checkpointer, which may not run yet or be about to be replaced (PG-33)."""
    deadline = time.monotonic() + WAIT_FOR_CHECKPOINTER_S
    while True:
        pid = shmem.pid_of_kind(Kind.CHECKPOINTER)
        if pid is not None:
            try:
                os.kill(pid, signal.SIGURG)
                return
            except ProcessLookupError:
                pass  # it crashed: the postmaster will soon quit this process too
        if time.monotonic() > deadline:
            raise CheckpointFailed("could not notify checkpoint: checkpointer is not running")
        nap(LOOK_AGAIN_S)
