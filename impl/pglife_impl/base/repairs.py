"""The defects of PostgreSQL 18.6 that this server repairs, by name.

A `DIFFERS:` comment stands where each repair is made, in postmaster/. `python -m
pglife_impl.commands.postgres --repairs` prints the names.
"""

REPAIRS: dict[str, str] = {
    "startup_shutdown_after_crash_quits": (
        "A smart or fast request in PM_STARTUP while FatalError is left over from a crash"
        " sends SIGQUIT to all children and starts the SIGKILL timeout."
    ),
    "crash_during_fatal_error_in_startup": (
        "A child that crashes in PM_STARTUP while FatalError is left over is a new crash."
    ),
    "checkpointer_fork_failure_advances": (
        "When no checkpointer can be forked for the shutdown checkpoint the state machine is"
        " run again, because no child may be left whose exit would run it."
    ),
    "startup_exit_in_crash_not_run": (
        "A startup process that exits 0 after a crash has been handled does not open the"
        " server; the reinitialization continues."
    ),
    "xlog_shutdown_in_crash_startup_is_crash": (
        "A checkpointer that reports the shutdown checkpoint in PM_STARTUP while FatalError is"
        " left over is handled as at any other wrong time."
    ),
    "sigkill_reaches_dead_end": (
        "The SIGKILL timeout is started for dead-end children that get SIGQUIT in PM_WAIT_DEAD_END."
    ),
    "no_accept_after_wait_dead_end": (
        "No client is served in the iteration of the loop that has entered PM_WAIT_DEAD_END,"
        " although its connection was noticed before."
    ),
    "startup_fork_failure_is_crash": (
        "A startup process that cannot be forked is handled as one that failed: all children"
        " that have been forked get SIGQUIT and are waited for."
    ),
    "startup_exit_signals_others": (
        "When the exit of the startup process leads into a shutdown, children that have not been"
        " asked to stop get SIGTERM."
    ),
}
