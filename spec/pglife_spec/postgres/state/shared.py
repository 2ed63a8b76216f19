"""What is in shared memory and on disk: flags of PMSignal, recovery, the control file."""

from pglife_spec.lang.expr import BOOL, EnumSort, Var
from pglife_spec.postgres.words import Control

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
    initial=(Control.SHUT_DOWN, Control.IN_PRODUCTION),
)
