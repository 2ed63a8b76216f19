"""The defects of PostgreSQL 18.6 that this server does not have, by name.

Begin with   REPAIRS; each name is cited by a DIFFERS: comment where the repair is made.
Owns         the names that `python -m pglife_impl.commands.postgres --repairs` prints.
Leaves out   the repairs themselves: pm_shutdown.py, pm_reap.py, pm_machine.py.
Source       found by a liveness check on a model faithful to postmaster.c of 18.6.
"""

REPAIRS: dict[str, str] = {
    "startup_shutdown_after_crash_quits": (
        "A smart or fast request in PM_STARTUP while FatalError is left over from a crash"
        " sends QUIT to everybody and arms the SIGKILL clock."
    ),
    "crash_during_fatal_error_in_startup": (
        "A child that crashes in PM_STARTUP while FatalError is left over is a new crash."
    ),
    "checkpointer_fork_failure_advances": (
        "When no checkpointer can be forked for the shutdown checkpoint the state machine is"
        " run again, for no child may be left whose death would run it."
    ),
    "startup_exit_in_crash_not_run": (
        "A startup process that exits 0 after a crash has been handled does not open the"
        " server; the reinitialisation goes on."
    ),
    "xlog_shutdown_in_crash_startup_is_crash": (
        "A checkpointer that reports the shutdown checkpoint in PM_STARTUP while FatalError is"
        " left over is handled as at any other wrong time."
    ),
    "sigkill_reaches_dead_end": (
        "The SIGKILL clock is armed for dead-end children that PM_WAIT_DEAD_END tells to quit."
    ),
    "no_accept_after_wait_dead_end": (
        "No client is served in the turn that has entered PM_WAIT_DEAD_END, although its"
        " connection was noticed before."
    ),
    "startup_fork_failure_is_crash": (
        "A startup process that cannot be forked is handled as one that failed: whoever else"
        " has been forked is told to quit and waited for."
    ),
    "startup_exit_signals_others": (
        "When the end of the startup process leads into a shutdown, whoever was not told to"
        " stop is told."
    ),
}
