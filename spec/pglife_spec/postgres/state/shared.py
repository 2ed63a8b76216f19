"""What is in shared memory and on disk: flags of PMSignal, recovery, the control file."""

from pglife_spec.lang.expr import BOOL, EnumSort, Var, iff, in_
from pglife_spec.postgres.words import Control
from pglife_spec.postgres.words.parameters import ANY_START, STANDBY, TARGET
from pglife_spec.postgres.words.recovery import Replay, SlotSync, Target, WalRcv

RECOVERY_STARTED = Var(
    "RECOVERY_STARTED",
    BOOL,
    "PMSignal flag, not read yet (PG-01)",
    initial=False,
)
XLOG_IS_SHUTDOWN = Var(
    "XLOG_IS_SHUTDOWN",
    BOOL,
    "PMSignal flag, not read yet (PG-09)",
    initial=False,
)
ADVANCE_STATE_MACHINE = Var(
    "ADVANCE_STATE_MACHINE",
    BOOL,
    "PMSignal flag, not read yet (PG-10)",
    initial=False,
)
REDO = Var(
    "redo",
    BOOL,
    "the startup process has begun redo since shared memory was made (RC-02)",
    initial=False,
)
RECOVERED = Var(
    "recovered",
    BOOL,
    "the startup process has finished recovery since shared memory was made",
    initial=False,
)
CONTROL = Var(
    "control",
    EnumSort(Control),
    "pg_controldata's cluster state (CT-20)",
)
BEGIN_HOT_STANDBY = Var(
    "BEGIN_HOT_STANDBY",
    BOOL,
    "PMSignal flag, not read yet (PG-03)",
    initial=False,
)
START_WALRECEIVER = Var(
    "START_WALRECEIVER",
    BOOL,
    "PMSignal flag, not read yet (PG-08)",
    initial=False,
)
SIGNAL_FILE = Var("signal_file", BOOL, "standby.signal or recovery.signal exists (TF-05)")
PROMOTE_FILE = Var("promote_file", BOOL, "the file promote exists (TF-01)", initial=False)
PROMOTE_SIGNALED = Var(
    "promote_signaled",
    BOOL,
    "the startup process has received SIGUSR2 and not ended redo",
    initial=False,
)
REPLAY = Var(
    "replay",
    EnumSort(Replay),
    "how far archive recovery is since shared memory was made",
    initial=Replay.INCONSISTENT,
)
WALRCV = Var(
    "walRcvState",
    EnumSort(WalRcv),
    "the walreceiver's state in shared memory",
    initial=WalRcv.STOPPED,
)
SLOT_SYNC = Var(
    "slot_sync",
    EnumSort(SlotSync),
    "the slotsync worker's state in shared memory",
    initial=SlotSync.STOPPED,
)
STOP_SIGNALED = Var(
    "stopSignaled", BOOL, "no slotsync worker may start any more (WS-22)", initial=False
)
NEW_TIMELINE = Var(
    "new_timeline", BOOL, "the control file knows of the end of archive recovery", initial=False
)

#: What the parameters say of the files at the first start.
INITIALLY = (
    ANY_START | in_(CONTROL, Control.SHUT_DOWN, Control.IN_PRODUCTION),
    iff(SIGNAL_FILE, STANDBY | (TARGET != Target.NONE)),
)
