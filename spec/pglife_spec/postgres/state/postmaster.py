"""The postmaster's own variables, under PostgreSQL's names where it has one (SV-01 and after)."""

from pglife_spec.lang.expr import BOOL, EnumSort, Expr, Var, in_
from pglife_spec.postgres.words import PM, Exit, Phase, PidFile, Shutdown, StartupStatus

STATE = Var("pmState", EnumSort(PM), "the state of the state machine (PM-01)", initial=PM.PM_INIT)
SHUTDOWN = Var(
    "Shutdown",
    EnumSort(Shutdown),
    "the strongest request so far (SV-01)",
    initial=Shutdown.NoShutdown,
)
FATAL_ERROR = Var("FatalError", BOOL, "a crash is being handled (SV-02)", initial=False)
ABORT_TIMER = Var(
    "AbortStartTime", BOOL, "the timer of the SIGKILL round is armed (SV-03)", initial=False
)
CONNS_ALLOWED = Var("connsAllowed", BOOL, "false during a smart shutdown (SV-04)", initial=True)
STARTUP_STATUS = Var(
    "StartupStatus",
    EnumSort(StartupStatus),
    "the postmaster's record of the startup process (SV-07)",
    initial=StartupStatus.STARTUP_NOT_RUNNING,
)
EXIT = Var("postmaster", EnumSort(Exit), "alive, or its exit status", initial=Exit.ALIVE)
REAPING = Var("reaping", BOOL, "inside the waitpid() loop of the reaper", initial=False)
REQUEST = Var(
    "pending_request",
    EnumSort(Shutdown),
    "the strongest request not handled yet (SV-21)",
    initial=Shutdown.NoShutdown,
)
FAST_TOO = Var(
    "pending_fast_too",
    BOOL,
    "SIGINT is pending as well as SIGQUIT, and its handler runs first (SG-08)",
    initial=False,
)
RELOAD = Var("pending_reload", BOOL, "SIGHUP is pending (SV-21)", initial=False)
FORK_FAILS = Var("fork_fails", BOOL, "fork() fails for every child", initial=False)
STARTUP_FORK_FAILS = Var(
    "startup_fork_fails", BOOL, "fork() fails for the startup process", initial=False
)
WAL_RECEIVER_REQUESTED = Var(
    "WalReceiverRequested",
    BOOL,
    "the startup process wants a walreceiver (PR-08)",
    initial=False,
)
PROMOTE_REQUEST = Var(
    "pending_promote", BOOL, "SIGUSR1 of a promotion is pending (SG-03)", initial=False
)
LISTENING = Var(
    "listening",
    BOOL,
    "18: the sockets are in the wait set; only the next PM_STARTUP puts them back (SV-25)",
    initial=True,
)
TURN: dict[Phase, Var] = {
    phase: Var(
        f"turn.{phase.name.lower()}",
        BOOL,
        f"the loop may come to this without passing work that it has: {phase.value} (SL-01)",
        initial=True,
        shown=False,
    )
    for phase in Phase
}
LAST_ACCEPT = Var(
    "last_accept",
    BOOL,
    "the wait that led to PM_WAIT_DEAD_END may have reported a client as well",
    initial=False,
)
PID_FILE = Var(
    "pid_file", EnumSort(PidFile), "line 8 of postmaster.pid (SH-40)", initial=PidFile.STARTING
)


def state_is(*states: PM) -> Expr:
    """Whether pmState is one of these."""
    return in_(STATE, *states)


#: A crash is being handled, or an immediate shutdown.
CRASH_OR_IMMEDIATE = FATAL_ERROR | (SHUTDOWN == Shutdown.ImmediateShutdown)
PENDING = SHUTDOWN != Shutdown.NoShutdown
IMMEDIATE = SHUTDOWN == Shutdown.ImmediateShutdown
ALIVE = EXIT == Exit.ALIVE
EXITED = EXIT != Exit.ALIVE
#: The postmaster is at the top of its event loop: no event is half handled.
BETWEEN_EVENTS = ALIVE & ~REAPING
