"""Claims about the postmaster's own variables (11.1), and its pid file.

Begin with   transient_states_never_wait.
Owns         each claim's sentence, source, condition and witness. Where a real release breaks one,
             the condition says under which repair it holds, and `exception` says how it breaks.
"""

from __future__ import annotations

from pglife_spec.lang.declare import Statement, claim
from pglife_spec.lang.expr import iff, implies, in_
from pglife_spec.postgres.claims.common import GONE, IMMEDIATE, NORMAL_LATE, PENDING
from pglife_spec.postgres.effects import ALL_BUT_LOGGER
from pglife_spec.postgres.state import (
    ABORT_CLOCK,
    CHILD_SLOTS,
    CONNS_ALLOWED,
    CRASHY,
    EXIT,
    FATAL_ERROR,
    FORK_FAULTS,
    IO_WORKERS,
    LIVES,
    PID_FILE,
    REPAIR_CRASH_IN_CRASH_STARTUP,
    REPAIR_STARTUP_FORK_FAILURE,
    SHUTDOWN,
    STARTUP_STATUS,
    STATE,
    TWO_ROUNDS,
    V15,
    none_recorded,
    number,
    recorded,
    state_is,
)
from pglife_spec.postgres.words import PM, Exit, Kind, PidFile, Shutdown, StartupStatus

_SM = "postmaster.c: PostmasterStateMachine()"
_REQUEST = "postmaster.c: process_pm_shutdown_request()"
_REAPER = "postmaster.c: process_pm_child_exit()"


@claim("INV-02", "PM-03", "SM-02", "SM-10", source=_SM)
def transient_states_never_wait() -> Statement:
    """Between two handled events pmState is neither PM_STOP_BACKENDS nor PM_NO_CHILDREN."""
    return Statement(
        holds=implies(LIVES, ~state_is(PM.PM_STOP_BACKENDS, PM.PM_NO_CHILDREN)),
        reaches=state_is(PM.PM_WAIT_BACKENDS) & LIVES,
    )


@claim(
    "INV-03",
    "SM-09",
    "TR18-30",
    "TR17-24",
    source=_SM,
    exception="without the repair: a startup process that cannot be forked ends the postmaster at "
    "once, and whoever was forked before it is left behind",
)
def nobody_but_the_logger_outlives_the_postmaster() -> Statement:
    """When the postmaster exits by itself, no child but the logger is left."""
    forks = REPAIR_STARTUP_FORK_FAILURE | ~FORK_FAULTS
    return Statement(holds=implies(forks & GONE, none_recorded(*ALL_BUT_LOGGER)), reaches=GONE)


@claim("INV-04", "TR18-03", "TR18-04", "TR18-10", source=_REAPER)
def an_open_server_has_no_fatal_error() -> Statement:
    """In PM_RUN and PM_HOT_STANDBY FatalError is false."""
    return Statement(
        holds=implies(state_is(PM.PM_RUN, PM.PM_HOT_STANDBY), ~FATAL_ERROR),
        reaches=state_is(PM.PM_RUN),
    )


@claim(
    "INV-05", "TR18-10", "TR18-12", "TR18-35", "TR17-10", source="postmaster.c: HandleFatalError()"
)
def fatal_error_keeps_to_its_states() -> Statement:
    """FatalError is true in PM_STARTUP, PM_WAIT_BACKENDS and PM_WAIT_DEAD_END only (15: also
    PM_SHUTDOWN_2)."""
    allowed = state_is(PM.PM_STARTUP, PM.PM_WAIT_BACKENDS, PM.PM_WAIT_DEAD_END)
    return Statement(
        holds=implies(FATAL_ERROR & LIVES, allowed | (V15 & state_is(PM.PM_SHUTDOWN_2))),
        reaches=FATAL_ERROR & state_is(PM.PM_WAIT_BACKENDS),
    )


@claim("INV-06", "MM-01", "SM-13", "TR18-15", source=_SM)
def a_crash_restart_has_no_request_pending() -> Statement:
    """In the PM_STARTUP that follows a crash no shutdown has been requested."""
    return Statement(
        holds=implies(FATAL_ERROR & state_is(PM.PM_STARTUP) & LIVES, ~PENDING),
        reaches=FATAL_ERROR & state_is(PM.PM_STARTUP),
    )


@claim("INV-07", "SV-03", "SL-05", source="postmaster.c: HandleFatalError()")
def the_kill_clock_has_a_reason() -> Statement:
    """AbortStartTime is set only while FatalError or an immediate shutdown holds."""
    return Statement(holds=implies(ABORT_CLOCK, CRASHY), reaches=ABORT_CLOCK)


@claim("INV-08", "TR18-15", "TR18-16", "TR18-05", source=_REQUEST)
def fast_and_immediate_leave_the_open_states() -> Statement:
    """From a fast or immediate request on, pmState is PM_STOP_BACKENDS or later."""
    return Statement(
        holds=implies(SHUTDOWN >= Shutdown.FastShutdown, STATE >= PM.PM_STOP_BACKENDS),
        reaches=SHUTDOWN == Shutdown.FastShutdown,
    )


@claim("INV-09", "SH-05", "TR18-15", "TR18-02", source=_REQUEST)
def smart_is_never_pending_before_the_server_was_open() -> Statement:
    """With a smart shutdown pending, pmState is not PM_INIT, PM_STARTUP or PM_RECOVERY."""
    return Statement(
        holds=implies(
            SHUTDOWN == Shutdown.SmartShutdown,
            ~state_is(PM.PM_INIT, PM.PM_STARTUP, PM.PM_RECOVERY),
        ),
        reaches=(SHUTDOWN == Shutdown.SmartShutdown) & state_is(PM.PM_RUN),
    )


@claim("INV-10", "SV-04", "TR18-14", source=_REQUEST)
def doors_close_only_for_a_shutdown() -> Statement:
    """connsAllowed is false only if a shutdown was requested."""
    return Statement(holds=implies(~CONNS_ALLOWED, PENDING), reaches=~CONNS_ALLOWED)


@claim("INV-11", "TR18-14", "SH-04", source=_REQUEST)
def a_smart_shutdown_closes_the_doors() -> Statement:
    """In PM_RUN and PM_HOT_STANDBY with a shutdown pending no new session is let in."""
    here = state_is(PM.PM_RUN, PM.PM_HOT_STANDBY) & PENDING
    return Statement(holds=implies(here, ~CONNS_ALLOWED), reaches=here)


@claim("INV-12", "SM-05", "TR18-12", "TR18-18", "TR17-09", source=_SM)
def the_orderly_states_are_orderly() -> Statement:
    """While the shutdown checkpoint and what follows it is waited for, there is a smart or fast
    request and no crash (15: in PM_SHUTDOWN)."""
    late = state_is(*(s for s in NORMAL_LATE if s is not PM.PM_SHUTDOWN_2))
    asked = in_(SHUTDOWN, Shutdown.SmartShutdown, Shutdown.FastShutdown)
    return Statement(holds=implies(late & LIVES, ~FATAL_ERROR & asked), reaches=late & LIVES)


@claim("INV-13", "SV-07", "TR18-01", "TR18-08", source=_REAPER)
def startup_status_agrees_with_the_records() -> Statement:
    """StartupStatus is RUNNING or SIGNALED exactly while a startup process is on record."""
    said = in_(STARTUP_STATUS, StartupStatus.STARTUP_RUNNING, StartupStatus.STARTUP_SIGNALED)
    return Statement(
        holds=implies(LIVES, iff(said, recorded(Kind.STARTUP))),
        reaches=STARTUP_STATUS == StartupStatus.STARTUP_SIGNALED,
    )


@claim(
    "INV-14",
    "INV-13",
    "TR18-08",
    source=_REAPER,
    exception="18 without the repair: a startup process that fails in the PM_STARTUP after a crash "
    "leaves the server in PM_STARTUP without one, for ever",
)
def starting_up_needs_a_startup_process() -> Statement:
    """In PM_STARTUP and PM_RECOVERY a startup process is on record."""
    here = state_is(PM.PM_STARTUP, PM.PM_RECOVERY) & LIVES
    return Statement(
        holds=implies((V15 | REPAIR_CRASH_IN_CRASH_STARTUP) & here, recorded(Kind.STARTUP)),
        reaches=here & recorded(Kind.STARTUP),
    )


@claim("INV-15", "TR18-04", source=_REAPER)
def a_running_server_has_no_startup_process() -> Statement:
    """In PM_RUN no startup process is on record."""
    return Statement(
        holds=implies(state_is(PM.PM_RUN), none_recorded(Kind.STARTUP)),
        reaches=state_is(PM.PM_RUN),
    )


@claim(
    "INV-16",
    "PR-20",
    "SM-11",
    source=_REAPER,
    exception="18 without the repair: a startup process that reports redo and dies in the "
    "PM_STARTUP after a crash leaves a server in PM_RECOVERY, without one, for ever",
)
def a_failed_startup_is_final() -> Statement:
    """After the startup process has failed the server never opens, and ends with status 1 unless
    an immediate shutdown was asked for."""
    failed = STARTUP_STATUS == StartupStatus.STARTUP_CRASHED
    return Statement(
        holds=implies(
            failed & (V15 | REPAIR_CRASH_IN_CRASH_STARTUP),
            CRASHY
            & ~state_is(PM.PM_RUN, PM.PM_HOT_STANDBY, PM.PM_RECOVERY)
            & ((EXIT != Exit.EXITED_0) | IMMEDIATE),
        ),
        reaches=failed & (EXIT == Exit.EXITED_1),
    )


@claim("INV-17", "IO-02", "IO-07", "RP-21", source="postmaster.c: maybe_adjust_io_workers()")
def io_workers_keep_to_their_number() -> Statement:
    """There are never more io workers on record than io_workers."""
    return Statement(
        holds=number(Kind.IO_WORKER) <= IO_WORKERS,
        reaches=V15 | ((IO_WORKERS >= 1) & (number(Kind.IO_WORKER) == IO_WORKERS)),
    )


@claim("INV-19", "INV-18", "SV-40", "CN-06", source="postmaster.c: canAcceptConnections()")
def sessions_keep_to_their_slots() -> Statement:
    """There are never more client backends on record than child slots."""
    return Statement(
        holds=number(Kind.BACKEND) <= CHILD_SLOTS,
        reaches=number(Kind.BACKEND) == CHILD_SLOTS,
    )


@claim("INV-22", "CR-02", "CR-48", "RP-04", source="postmaster.c: HandleChildCrash()")
def a_crash_is_announced_once() -> Statement:
    """In one time of FatalError "terminating any other active server processes" is said once."""
    return Statement(holds=~TWO_ROUNDS, reaches=FATAL_ERROR)


@claim("INV-24", "SH-02", "SH-40", "SH-42", source=_REQUEST)
def the_pid_file_says_stopping_while_stopping() -> Statement:
    """While the postmaster lives, line 8 of its pid file is "stopping" iff a shutdown is on."""
    return Statement(
        holds=implies(LIVES, iff(PID_FILE == PidFile.STOPPING, PENDING)),
        reaches=PID_FILE == PidFile.STOPPING,
    )


@claim("INV-25", "SH-40", "TR18-04", source=_REAPER)
def a_running_server_says_ready() -> Statement:
    """In PM_RUN without a shutdown pending line 8 of the pid file is "ready"."""
    here = state_is(PM.PM_RUN) & ~PENDING
    return Statement(holds=implies(here, PID_FILE == PidFile.READY), reaches=here)


@claim("INV-70", "SH-11", "SH-12", source="utils/init/miscinit.c: UnlinkLockFiles()")
def the_pid_file_lives_as_long_as_the_postmaster() -> Statement:
    """postmaster.pid is there while the postmaster lives, and gone when it has ended by itself."""
    return Statement(holds=iff(PID_FILE == PidFile.NONE, GONE), reaches=GONE)


CLAIMS = (
    transient_states_never_wait,
    nobody_but_the_logger_outlives_the_postmaster,
    an_open_server_has_no_fatal_error,
    fatal_error_keeps_to_its_states,
    a_crash_restart_has_no_request_pending,
    the_kill_clock_has_a_reason,
    fast_and_immediate_leave_the_open_states,
    smart_is_never_pending_before_the_server_was_open,
    doors_close_only_for_a_shutdown,
    a_smart_shutdown_closes_the_doors,
    the_orderly_states_are_orderly,
    startup_status_agrees_with_the_records,
    starting_up_needs_a_startup_process,
    a_running_server_has_no_startup_process,
    a_failed_startup_is_final,
    io_workers_keep_to_their_number,
    sessions_keep_to_their_slots,
    a_crash_is_announced_once,
    the_pid_file_says_stopping_while_stopping,
    a_running_server_says_ready,
    the_pid_file_lives_as_long_as_the_postmaster,
)
