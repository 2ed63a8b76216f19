"""The startup process in archive recovery: replay, consistency, a target, promotion.

Begin with startup_reaches_consistency, then startup_is_promoted. What it has in common with crash
recovery is in startup.py; the processes that it works with are in replication.py.

Source: access/transam/xlogrecovery.c: PerformWalRecovery(), WaitForWALToBecomeAvailable(),
CheckForStandbyTrigger(), FinishWalRecovery(); xlog.c: StartupXLOG().
"""

from pglife_spec.lang.declare import Step, action
from pglife_spec.lang.expr import in_
from pglife_spec.lang.machine import Actor, Effect, flatten, when
from pglife_spec.postgres.children.startup import (
    ACTING,
    ARCHIVE_AT_ONCE,
    ENDS_ARCHIVE_RECOVERY,
    MAY_GO_ON,
    REDO_HAS_ENDED,
)
from pglife_spec.postgres.state.children import LIFE, some_in
from pglife_spec.postgres.state.history import PROMOTED
from pglife_spec.postgres.state.shared import (
    BEGIN_HOT_STANDBY,
    CONTROL,
    PROMOTE_FILE,
    PROMOTE_SIGNALED,
    RECOVERED,
    REDO,
    REPLAY,
    SIGNAL_FILE,
    SLOT_SYNC,
    START_WALRECEIVER,
    STOP_SIGNALED,
    WALRCV,
)
from pglife_spec.postgres.words import Control, Kind, Life
from pglife_spec.postgres.words.parameters import (
    HOT_STANDBY,
    RELOADS,
    STANDBY,
    STREAMING,
    SYNC_SLOTS,
    TARGET,
)
from pglife_spec.postgres.words.recovery import Replay, SlotSync, Target, WalRcv
from pglife_spec.postgres.words.repairs import (
    REPAIR_PROMOTE_FILE,
    REPAIR_SIGNAL_FILE,
    REPAIR_SLOTSYNC_STOP,
)

STARTUP = LIFE[Kind.STARTUP]
WALRECEIVER = LIFE[Kind.WAL_RECEIVER]

#: Archive recovery applies WAL; SIGTERM, if it was sent, has not been noticed yet.
_REPLAYS = (
    ACTING & REDO & SIGNAL_FILE & ~RECOVERED & (CONTROL == Control.IN_ARCHIVE_RECOVERY)
) & in_(REPLAY, Replay.INCONSISTENT, Replay.READABLE)
_IS_PAUSED = ACTING & (REPLAY == Replay.PAUSED)
#: With hot_standby off no session could resume a pause: it is a shutdown (RC-09).
_TARGET_IS_SHUTDOWN = (TARGET == Target.SHUTDOWN) | ((TARGET == Target.PAUSE) & ~HOT_STANDBY)


def stop_walreceiver() -> tuple[Effect, ...]:
    """Ask the walreceiver to stop, by SIGTERM if it runs.

    Source: walreceiverfuncs.c: ShutdownWalRcv().
    """
    return flatten(
        [
            when(
                WALRCV == WalRcv.STREAMING,
                [
                    WALRCV.becomes(WalRcv.STOPPING),
                    when(WALRECEIVER == Life.RUNNING, WALRECEIVER.becomes(Life.TERMINATING)),
                ],
            ),
            when(WALRCV == WalRcv.STARTING, WALRCV.becomes(WalRcv.STOPPED)),
        ]
    )


@action(Actor.CHILD, "xlogrecovery.c: ReadRecord()", "RC-03")
def startup_enters_archive_recovery() -> Step:
    """When all of pg_wal was replayed after an unclean shutdown, the startup process goes on with
    archive recovery, and the control file says so."""
    return Step(
        when=[ACTING, REDO, SIGNAL_FILE, CONTROL == Control.IN_CRASH_RECOVERY],
        then=[CONTROL.becomes(Control.IN_ARCHIVE_RECOVERY)],
    )


@action(Actor.CHILD, "xlogrecovery.c: CheckRecoveryConsistency()", "RC-04", "RC-05", "PG-03")
def startup_reaches_consistency() -> Step:
    """With hot_standby on the startup process reports that sessions may read, when the state is
    consistent and a snapshot is ready."""
    return Step(
        when=[_REPLAYS, HOT_STANDBY, REPLAY == Replay.INCONSISTENT],
        then=[REPLAY.becomes(Replay.READABLE), BEGIN_HOT_STANDBY.becomes(True)],
    )


@action(Actor.CHILD, "walreceiverfuncs.c: RequestXLogStreaming()", "RC-15", "PG-08", "PR-08")
def startup_requests_walreceiver() -> Step:
    """A standby that has replayed all WAL it has asks the postmaster for a walreceiver; it may do
    so before redo, when the checkpoint record is missing."""
    return Step(
        when=[
            STANDBY & STREAMING & SIGNAL_FILE,
            ACTING,
            ~RECOVERED,
            ARCHIVE_AT_ONCE,
            in_(REPLAY, Replay.INCONSISTENT, Replay.READABLE),
            WALRCV == WalRcv.STOPPED,
        ],
        then=[WALRCV.becomes(WalRcv.STARTING), START_WALRECEIVER.becomes(True)],
    )


@action(Actor.FAULT, "walreceiverfuncs.c: WalRcvStreaming()", "RC-23", "PR-08")
def startup_gives_up_walreceiver() -> Step:
    """No walreceiver has started for ten seconds: the startup process gives this request up."""
    return Step(
        when=[ACTING, WALRCV == WalRcv.STARTING],
        then=[WALRCV.becomes(WalRcv.STOPPED)],
    )


@action(Actor.OPERATOR, "startup.c: StartupRereadConfig()", "SG-10")
def startup_restarts_walreceiver() -> Step:
    """After a reload that changed primary_conninfo the startup process stops the walreceiver, and
    asks for another one later."""
    return Step(when=[RELOADS, _REPLAYS, WALRCV == WalRcv.STREAMING], then=stop_walreceiver())


@action(Actor.CHILD, "xlogrecovery.c: CheckForStandbyTrigger()", "RC-12", "TF-01")
def startup_is_promoted() -> Step:
    """A standby, or one that is paused at its target, has received SIGUSR2 and finds the file
    promote: it removes the file, ends redo and stops the walreceiver."""
    return Step(
        when=[
            (_REPLAYS & STANDBY) | _IS_PAUSED,
            PROMOTE_SIGNALED,
            PROMOTE_FILE,
        ],
        then=[
            when(~REPAIR_PROMOTE_FILE, PROMOTE_FILE.becomes(False)),
            PROMOTE_SIGNALED.becomes(False),
            REPLAY.becomes(Replay.PROMOTED),
            stop_walreceiver(),
        ],
    )


@action(Actor.CHILD, "xlogrecovery.c: PerformWalRecovery()", "RC-09")
def startup_ends_redo_at_target() -> Step:
    """The recovery target is reached: redo ends; a pause is left out while no session can read."""
    paused = (TARGET == Target.PAUSE) & HOT_STANDBY & (REPLAY == Replay.INCONSISTENT)
    return Step(
        when=[_REPLAYS, (TARGET == Target.PROMOTE) | paused],
        then=[REPLAY.becomes(Replay.AT_TARGET), stop_walreceiver()],
    )


@action(Actor.CHILD, "xlogrecovery.c: recoveryPausesHere()", "RC-08", "RC-09")
def startup_pauses_at_target() -> Step:
    """The recovery target is reached, and recovery pauses until a session resumes it."""
    return Step(
        when=[_REPLAYS, TARGET == Target.PAUSE, REPLAY == Replay.READABLE],
        then=[REPLAY.becomes(Replay.PAUSED)],
    )


@action(Actor.OPERATOR, "xlogfuncs.c: pg_wal_replay_resume()", "RC-08", "RC-09")
def operator_resumes_replay() -> Step:
    """A session resumes the recovery that is paused at its target: redo ends."""
    return Step(
        when=[_IS_PAUSED, some_in(Kind.BACKEND, Life.RUNNING)],
        then=[
            REPLAY.becomes(Replay.AT_TARGET),
            PROMOTED.becomes(True),
            stop_walreceiver(),
        ],
    )


@action(Actor.CHILD, "xlogrecovery.c: PerformWalRecovery()", "RC-09", "RC-10", "INV-79")
def startup_exits_at_target() -> Step:
    """The recovery target is reached, and the startup process asks for a shutdown by exit code
    3."""
    return Step(
        when=[_REPLAYS, _TARGET_IS_SHUTDOWN],
        then=[STARTUP.becomes(Life.EXITED_3)],
    )


@action(Actor.CHILD, "slotsync.c: ShutDownSlotSync()", "RC-12", "WS-22")
def startup_stops_slotsync_worker() -> Step:
    """When redo has ended and the walreceiver has stopped, the startup process asks the slotsync
    worker to stop; one without a procsignal slot does not receive that."""
    lost = ~REPAIR_SLOTSYNC_STOP & (SLOT_SYNC == SlotSync.STARTING)
    return Step(
        when=[SYNC_SLOTS, MAY_GO_ON, REDO_HAS_ENDED, WALRCV == WalRcv.STOPPED, ~STOP_SIGNALED],
        then=[
            STOP_SIGNALED.becomes(True),
            when(
                lost,
                SLOT_SYNC.becomes(SlotSync.DEAF),
                when(SLOT_SYNC != SlotSync.STOPPED, SLOT_SYNC.becomes(SlotSync.ASKED)),
            ),
        ],
    )


@action(Actor.CHILD, "xlog.c: StartupXLOG()", "RC-12", "TF-05", "WS-22")
def startup_removes_signal_file() -> Step:
    """When walreceiver and slotsync worker have stopped, the startup process removes the signal
    file; the control file knows of no new timeline yet."""
    return Step(
        when=[~REPAIR_SIGNAL_FILE, MAY_GO_ON, SIGNAL_FILE, ENDS_ARCHIVE_RECOVERY],
        then=[SIGNAL_FILE.becomes(False), when(REPAIR_PROMOTE_FILE, PROMOTE_FILE.becomes(False))],
    )


ACTIONS = [
    *startup_enters_archive_recovery,
    *startup_reaches_consistency,
    *startup_requests_walreceiver,
    *startup_gives_up_walreceiver,
    *startup_restarts_walreceiver,
    *startup_is_promoted,
    *startup_ends_redo_at_target,
    *startup_pauses_at_target,
    *operator_resumes_replay,
    *startup_exits_at_target,
    *startup_stops_slotsync_worker,
    *startup_removes_signal_file,
]
