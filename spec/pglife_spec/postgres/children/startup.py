"""The startup process: redo, the end of recovery, and its exit.

Source: access/transam/xlog.c: StartupXLOG(); postmaster/startup.c.
"""

from pglife_spec.lang.declare import Step, action
from pglife_spec.lang.expr import in_, ite
from pglife_spec.lang.machine import Actor, when
from pglife_spec.postgres.state.children import LIFE
from pglife_spec.postgres.state.shared import (
    CONTROL,
    NEW_TIMELINE,
    PROMOTE_FILE,
    RECOVERED,
    RECOVERY_STARTED,
    REDO,
    REPLAY,
    SIGNAL_FILE,
    SLOT_SYNC,
    STOP_SIGNALED,
    WALRCV,
)
from pglife_spec.postgres.words import Control, Kind, Life
from pglife_spec.postgres.words.parameters import SYNC_SLOTS
from pglife_spec.postgres.words.recovery import Replay, SlotSync, WalRcv
from pglife_spec.postgres.words.repairs import REPAIR_PROMOTE_FILE, REPAIR_SIGNAL_FILE

STARTUP = LIFE[Kind.STARTUP]
CLEAN = in_(CONTROL, Control.SHUT_DOWN)
ACTING = in_(STARTUP, Life.RUNNING, Life.TERMINATING)
#: With a signal file, recovery is archive recovery from its first record (RC-03).
ARCHIVE_AT_ONCE = in_(
    CONTROL, Control.SHUT_DOWN, Control.SHUT_DOWN_IN_RECOVERY, Control.IN_ARCHIVE_RECOVERY
)


#: The kind of recovery that the control file says from before redo on.
_IN_RECOVERY = ite(
    SIGNAL_FILE & ARCHIVE_AT_ONCE, Control.IN_ARCHIVE_RECOVERY, Control.IN_CRASH_RECOVERY
)
#: It may go on although SIGTERM or SIGQUIT was sent (SG-44, MM-32).
MAY_GO_ON = in_(STARTUP, Life.RUNNING, Life.TERMINATING, Life.QUITTING)
_NEEDS_REDO = (MAY_GO_ON, ~REDO, SIGNAL_FILE | ~CLEAN, ~RECOVERED)


@action(Actor.CHILD, "xlog.c: StartupXLOG()", "RC-01", "CT-20")
def startup_writes_control_file() -> Step:
    """After an unclean shutdown, or with a signal file, the startup process writes the kind of
    recovery to the control file."""
    return Step(
        when=[*_NEEDS_REDO, CONTROL != _IN_RECOVERY],
        then=[CONTROL.becomes(_IN_RECOVERY)],
    )


REDO_HAS_ENDED = in_(REPLAY, Replay.PROMOTED, Replay.AT_TARGET)
#: Archive recovery is over but for its traces on disk.
ENDS_ARCHIVE_RECOVERY = (
    REDO_HAS_ENDED
    & (WALRCV == WalRcv.STOPPED)
    & (~SYNC_SLOTS | (STOP_SIGNALED & (SLOT_SYNC == SlotSync.STOPPED)))
)


@action(Actor.CHILD, "xlogrecovery.c: PerformWalRecovery()", "RC-02", "PG-01", "TR-90")
def startup_begins_redo() -> Step:
    """Then the startup process reports that redo begins."""
    return Step(
        when=[*_NEEDS_REDO, CONTROL == _IN_RECOVERY],
        then=[REDO.becomes(True), RECOVERY_STARTED.becomes(True)],
    )


@action(Actor.CHILD, "xlog.c: PerformRecoveryXLogAction()", "CR-23", "CK-04", "PG-33")
def startup_finishes_recovery() -> Step:
    """The startup process finishes recovery, or needs none, and writes "in production" to the
    control file.

    After redo, unless it was ended by a promotion, a running checkpointer has to write a checkpoint
    first. Neither SIGTERM nor SIGQUIT necessarily stops the startup process before this (SG-44,
    MM-32).
    """
    checkpointer = LIFE[Kind.CHECKPOINTER]
    return Step(
        when=[
            MAY_GO_ON,
            ~RECOVERED,
            ~SIGNAL_FILE | (REPAIR_SIGNAL_FILE & ENDS_ARCHIVE_RECOVERY),
            (REDO & ((checkpointer == Life.RUNNING) | (REPLAY == Replay.PROMOTED)))
            | (~REDO & CLEAN),
        ],
        then=[
            when(REDO_HAS_ENDED, NEW_TIMELINE.becomes(True)),
            SIGNAL_FILE.becomes(False),
            when(REPAIR_PROMOTE_FILE, PROMOTE_FILE.becomes(False)),
            CONTROL.becomes(Control.IN_PRODUCTION),
            RECOVERED.becomes(True),
        ],
    )


@action(Actor.CHILD, "startup.c: StartupProcessMain()", "TR18-04", "MM-32")
def startup_exits() -> Step:
    """After recovery the startup process exits with 0, whatever signal was sent meanwhile."""
    return Step(
        when=[MAY_GO_ON, RECOVERED],
        then=[STARTUP.becomes(Life.EXITED_0)],
    )


@action(Actor.CHILD, "startup.c: ProcessStartupProcInterrupts()", "SG-10", "RC-16")
def startup_exits_at_sigterm() -> Step:
    """At SIGTERM the startup process exits with 1."""
    return Step(
        when=[STARTUP == Life.TERMINATING],
        then=[STARTUP.becomes(Life.EXITED_1)],
    )


ACTIONS = [
    *startup_writes_control_file,
    *startup_begins_redo,
    *startup_finishes_recovery,
    *startup_exits,
    *startup_exits_at_sigterm,
]
