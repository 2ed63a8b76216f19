"""Checkpoints: asking for one, and the counters by which the asker learns of its end.

Begin with   request().
Owns         the flags of a request; the protocol over the counters in shared memory.
Leaves out   making one (roles/checkpointer.py).
Source       postmaster/checkpointer.c: RequestCheckpoint(); rules CK-01, CK-09, PG-33.
"""

from __future__ import annotations

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


class Flag(IntFlag):
    """Why and how a checkpoint is made."""

    SHUTDOWN = 1
    END_OF_RECOVERY = 2
    IMMEDIATE = 4
    FORCE = 8
    WAIT = 16
    TIME = 32


WORDS = {
    Flag.SHUTDOWN: "shutdown",
    Flag.END_OF_RECOVERY: "end-of-recovery",
    Flag.IMMEDIATE: "immediate",
    Flag.FORCE: "force",
    Flag.WAIT: "wait",
    Flag.TIME: "time",
}


def describe(flags: Flag) -> str:
    """The words of `checkpoint starting: ...`."""
    return " ".join(word for flag, word in WORDS.items() if flag in flags)


class CheckpointFailed(ImplError):
    """The checkpoint that was asked for could not be made."""


def request(shmem: Shmem, flags: Flag, nap: Callable[[float], None]) -> None:
    """Ask for a checkpoint and wait until one that began after this call is done.

    `nap` sleeps for a while and serves interrupts, by raising if need be.
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
    """PG-33: it may not be there yet, or be about to be replaced."""
    deadline = time.monotonic() + WAIT_FOR_CHECKPOINTER_S
    while True:
        pid = shmem.pid_of_kind(Kind.CHECKPOINTER)
        if pid:
            try:
                os.kill(pid, signal.SIGURG)
                return
            except ProcessLookupError:
                pass  # it died: the postmaster will soon deal with that, and with us
        if time.monotonic() > deadline:
            raise CheckpointFailed("could not notify checkpoint: checkpointer is not running")
        nap(LOOK_AGAIN_S)
