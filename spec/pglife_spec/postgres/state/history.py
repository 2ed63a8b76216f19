"""What only records the past, for claims to read: no action's guard depends on it."""

from pglife_spec.lang.expr import BOOL, Var

PROMOTED = Var("promoted", BOOL, "a promotion was asked for, or replay was resumed", initial=False)
STOPPED_AT_TARGET = Var(
    "stopped_at_target", BOOL, "the startup process has asked for a shutdown", initial=False
)
TAINTED = Var("tainted", BOOL, "a child has crashed since shared memory was made", initial=False)
FORKED_LATE = Var(
    "forked_late",
    BOOL,
    "a child was forked although INV-33, -34 or -40 forbids it",
    initial=False,
)
ROUND = Var("round", BOOL, "SIGQUIT was announced since FatalError was set", initial=False)
TWO_ROUNDS = Var(
    "two_rounds", BOOL, "SIGQUIT was announced twice since FatalError was set", initial=False
)
WORKER_FINISHED = Var(
    "worker_finished", BOOL, "the background worker has exited with 0", initial=False
)
WORKER_RAN = Var("worker_ran", BOOL, "the background worker was started", initial=False)
