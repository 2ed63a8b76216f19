"""Repairs of the defects that the model found in PostgreSQL: one switch each, off in a release.

The findings are described in docs/findings.md; `FINDINGS` says which of them each repair removes.
"""

import sys

from pglife_spec.lang.declare import declared
from pglife_spec.lang.expr import BOOL, Param

PREFIX = "repair."

#: The findings that each repair removes, by the name of its parameter.
FINDINGS: dict[str, tuple[str, ...]] = {}


def _repair(name: str, doc: str, *findings: str) -> Param:
    made = Param(PREFIX + name, BOOL, doc)
    FINDINGS[made.name] = findings
    return made


REPAIR_SHUTDOWN_IN_CRASH_STARTUP = _repair(
    "startup_shutdown_after_crash_quits",
    "a shutdown request in PM_STARTUP with FatalError still set sends SIGQUIT, as a crash does",
    "F01",
)
REPAIR_CRASH_IN_CRASH_STARTUP = _repair(
    "crash_during_fatal_error_in_startup",
    "a crash in PM_STARTUP with FatalError left over from the previous one is a new crash",
    "F02",
    "F03",
    "F07",
)
REPAIR_CHECKPOINTER_FORK_FAILURE = _repair(
    "checkpointer_fork_failure_advances",
    "the state machine goes on after the checkpointer could not be forked",
    "F05",
)
REPAIR_STARTUP_EXIT_IN_CRASH = _repair(
    "startup_exit_in_crash_not_run",
    "a startup process that exits 0 after SIGQUIT was sent does not open the server",
    "F04",
)
REPAIR_KILL_DEAD_END = _repair(
    "sigkill_reaches_dead_end",
    "SIGKILL reaches every dead-end child: up to 17 the rounds include them, 18 arms the timer "
    "again for those that PM_WAIT_DEAD_END signals",
    "F06",
)
REPAIR_LAST_ACCEPT = _repair(
    "no_accept_after_wait_dead_end",
    "18: no client is served in the event-loop iteration that enters PM_WAIT_DEAD_END",
    "F10",
)
REPAIR_STARTUP_FORK_FAILURE = _repair(
    "startup_fork_failure_is_crash",
    "a startup process that cannot be forked is handled as one that failed",
    "F09",
)
REPAIR_XLOG_IN_CRASH_STARTUP = _repair(
    "xlog_shutdown_in_crash_startup_is_crash",
    "a shutdown checkpoint reported in the PM_STARTUP after a crash is a crash, as elsewhere",
    "F08",
)
REPAIR_WORKERS_IN_RECOVERY = _repair(
    "recovery_started_starts_workers",
    "at RECOVERY_STARTED the postmaster looks for background workers that start before it opens",
    "W4",
)
REPAIR_UNSTARTED_WORKER = _repair(
    "crash_keeps_unstarted_workers",
    "a crash restart does not forget a worker that is never restarted and has not run yet",
    "F17",
)

REPAIR_STARTUP_EXIT_IN_SMART = _repair(
    "startup_exit_signals_others",
    "the exit of a hot standby's startup process in a smart shutdown sends SIGTERM to the others",
    "W1",
)
REPAIR_TARGET_IN_CRASH_STARTUP = _repair(
    "recovery_target_in_crash_startup",
    "18: a startup process that stops at the recovery target in the PM_STARTUP after a crash ends "
    "FatalError, as its message that redo has begun does",
    "F11",
)
REPAIR_SLOTSYNC_STOP = _repair(
    "slotsync_stop_is_not_lost",
    "18: a slotsync worker that is starting learns that the startup process has asked it to stop",
    "F12",
)
REPAIR_SIGNAL_FILE = _repair(
    "signal_file_removed_last",
    "standby.signal and recovery.signal are removed when the control file knows the new timeline",
    "F13",
)
REPAIR_PROMOTE_FILE = _repair(
    "promote_file_removed_last",
    "the file promote is removed with the signal file, and not when it is read",
    "F16",
)
REPAIR_AUTOVAC_ENTRY = _repair(
    "emergency_launcher_keeps_entry",
    "a launcher that runs with autovacuum off uses the entry of a worker that has not started yet",
    "F18",
)

REPAIRS = declared(Param, sys.modules[__name__])
