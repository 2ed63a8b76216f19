"""Background workers: when one starts, and what the postmaster has on its list about it.

Source: src/include/postmaster/bgworker.h: BgWorkerStartTime; bgworker.c: RegisteredBgWorker.
"""

import enum


class WorkerStart(enum.Enum):
    """bgw_start_time (BG-05); NEVER stands for a server without such a worker."""

    NEVER = "no such worker"
    POSTMASTER_START = "BgWorkerStart_PostmasterStart"
    CONSISTENT_STATE = "BgWorkerStart_ConsistentState"
    RECOVERY_FINISHED = "BgWorkerStart_RecoveryFinished"


class Registration(enum.Enum):
    """A worker's entry on the postmaster's list."""

    UNLISTED = "not on the list"
    LISTED = "on the list, no crash time: it runs, or starts when its time comes"
    WAITS = "rw_crashed_at is set: it waits for its restart interval"
    STALE = "18: rw_pid is of a process that crashed and was reaped"
