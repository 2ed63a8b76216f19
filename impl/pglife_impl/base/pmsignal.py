"""Reasons and flags that the postmaster and its children share as single bytes of memory.

Source: storage/ipc/pmsignal.c, storage/pmsignal.h.
"""

from enum import IntEnum


class PmSignal(IntEnum):
    """PMSignalReason: why a child sent SIGUSR1 to the postmaster. Each indexes its own byte."""

    RECOVERY_STARTED = 0
    RECOVERY_CONSISTENT = 1
    BEGIN_HOT_STANDBY = 2
    BACKGROUND_WORKER_CHANGE = 3
    ROTATE_LOGFILE = 4
    START_AUTOVAC_LAUNCHER = 5
    START_AUTOVAC_WORKER = 6
    START_WALRECEIVER = 7
    XLOG_IS_SHUTDOWN = 8
    ADVANCE_STATE_MACHINE = 9


class QuitReason(IntEnum):
    """QuitSignalReason: why the postmaster sent SIGQUIT (SV-23). A backend words its last
    WARNING by it."""

    NOT_SENT = 0
    FOR_CRASH = 1
    FOR_STOP = 2


class SlotFlag(IntEnum):
    """PMChildFlags: how far the process in a child slot has attached to shared memory (SV-24)."""

    UNUSED = 0
    ASSIGNED = 1
    ACTIVE = 2
    WALSENDER = 3
