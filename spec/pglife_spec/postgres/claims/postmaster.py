"""Claims about the postmaster's own variables, and its pid file."""

from pglife_spec.lang.declare import Statement, claim
from pglife_spec.lang.expr import iff, implies, in_
from pglife_spec.postgres.claims.common import CHECKPOINT_STATES, FORKS, NEW_CRASH
from pglife_spec.postgres.state.children import none_recorded, number, recorded
from pglife_spec.postgres.state.history import STOPPED_AT_TARGET, TWO_ROUNDS
from pglife_spec.postgres.state.io_pool import IN_FILE, WANTED
from pglife_spec.postgres.state.postmaster import (
    ABORT_TIMER,
    ALIVE,
    BETWEEN_EVENTS,
    CONNS_ALLOWED,
    CRASH_OR_IMMEDIATE,
    EXIT,
    EXITED,
    FATAL_ERROR,
    IMMEDIATE,
    PENDING,
    PID_FILE,
    SHUTDOWN,
    STARTUP_STATUS,
    STATE,
    state_is,
)
from pglife_spec.postgres.words import PM, Exit, Kind, PidFile, Shutdown, StartupStatus
from pglife_spec.postgres.words.kinds import ALL_BUT_LOGGER
from pglife_spec.postgres.words.parameters import CHILD_SLOTS, IO_WORKERS
from pglife_spec.postgres.words.releases import Feature, has

_SM = "postmaster.c: PostmasterStateMachine()"
_REQUEST = "postmaster.c: process_pm_shutdown_request()"
_REAPER = "postmaster.c: process_pm_child_exit()"


@claim("INV-02", "PM-03", "SM-02", "SM-10", source=_SM)
def transient_states_are_left_at_once() -> Statement:
    """Between two handled events pmState is neither PM_STOP_BACKENDS nor PM_NO_CHILDREN."""
    return Statement(
        holds=implies(BETWEEN_EVENTS, ~state_is(PM.PM_STOP_BACKENDS, PM.PM_NO_CHILDREN)),
        reaches=state_is(PM.PM_WAIT_BACKENDS) & BETWEEN_EVENTS,
    )


@claim(
    "INV-03",
    "SM-09",
    "TR18-30",
    "TR17-24",
    source=_SM,
    exception="without the repair: a startup process that cannot be forked ends the postmaster at "
    "once and leaves the children behind that were forked before",
)
def only_the_logger_outlives_the_postmaster() -> Statement:
    """When the postmaster exits, no child but the logger is left."""
    return Statement(holds=implies(FORKS & EXITED, none_recorded(*ALL_BUT_LOGGER)), reaches=EXITED)


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
    separate = ~has(Feature.CHECKPOINTER_OUTLIVES_WAL)
    allowed = state_is(PM.PM_STARTUP, PM.PM_WAIT_BACKENDS, PM.PM_WAIT_DEAD_END)
    return Statement(
        holds=implies(FATAL_ERROR & ALIVE, allowed | (separate & state_is(PM.PM_SHUTDOWN_2))),
        reaches=FATAL_ERROR & state_is(PM.PM_WAIT_BACKENDS),
    )


@claim("INV-06", "MM-01", "SM-13", "TR18-15", source=_SM)
def a_crash_restart_has_no_request_pending() -> Statement:
    """In the PM_STARTUP that follows a crash no shutdown has been requested."""
    return Statement(
        holds=implies(FATAL_ERROR & state_is(PM.PM_STARTUP) & ALIVE, ~PENDING),
        reaches=FATAL_ERROR & state_is(PM.PM_STARTUP),
    )


@claim("INV-07", "SV-03", "SL-05", source="postmaster.c: HandleFatalError()")
def the_sigkill_timer_needs_a_crash_or_immediate_shutdown() -> Statement:
    """AbortStartTime is set only while FatalError is set or an immediate shutdown is pending."""
    return Statement(holds=implies(ABORT_TIMER, CRASH_OR_IMMEDIATE), reaches=ABORT_TIMER)


@claim("INV-08", "TR18-15", "TR18-16", "TR18-05", source=_REQUEST)
def fast_and_immediate_close_the_server() -> Statement:
    """From a fast or immediate request on, pmState is PM_STOP_BACKENDS or later."""
    return Statement(
        holds=implies(SHUTDOWN >= Shutdown.FastShutdown, STATE >= PM.PM_STOP_BACKENDS),
        reaches=SHUTDOWN == Shutdown.FastShutdown,
    )


@claim("INV-09", "SH-05", "TR18-15", "TR18-02", source=_REQUEST)
def smart_is_pending_only_after_the_server_opened() -> Statement:
    """With a smart shutdown pending, pmState is not PM_INIT, PM_STARTUP or PM_RECOVERY."""
    return Statement(
        holds=implies(
            SHUTDOWN == Shutdown.SmartShutdown,
            ~state_is(PM.PM_INIT, PM.PM_STARTUP, PM.PM_RECOVERY),
        ),
        reaches=(SHUTDOWN == Shutdown.SmartShutdown) & state_is(PM.PM_RUN),
    )


@claim("INV-10", "SV-04", "TR18-14", source=_REQUEST)
def connections_are_disallowed_only_in_a_shutdown() -> Statement:
    """connsAllowed is false only if a shutdown was requested."""
    return Statement(holds=implies(~CONNS_ALLOWED, PENDING), reaches=~CONNS_ALLOWED)


@claim("INV-11", "TR18-14", "SH-04", source=_REQUEST)
def a_shutdown_disallows_new_sessions() -> Statement:
    """In PM_RUN and PM_HOT_STANDBY with a shutdown pending connsAllowed is false."""
    here = state_is(PM.PM_RUN, PM.PM_HOT_STANDBY) & PENDING
    return Statement(holds=implies(here, ~CONNS_ALLOWED), reaches=here)


@claim("INV-12", "SM-05", "TR18-12", "TR18-18", "TR17-09", source=_SM)
def the_checkpoint_states_need_a_request_and_no_crash() -> Statement:
    """In the states that wait for the shutdown checkpoint or for what follows it (15: in
    PM_SHUTDOWN only) a smart or fast request is pending and FatalError is false."""
    late = state_is(*(s for s in CHECKPOINT_STATES if s is not PM.PM_SHUTDOWN_2))
    asked = in_(SHUTDOWN, Shutdown.SmartShutdown, Shutdown.FastShutdown)
    return Statement(holds=implies(late & ALIVE, ~FATAL_ERROR & asked), reaches=late & ALIVE)


@claim("INV-13", "SV-07", "TR18-01", "TR18-08", source=_REAPER)
def startup_status_agrees_with_the_records() -> Statement:
    """StartupStatus is RUNNING or SIGNALED if and only if a startup process is on record."""
    said = in_(STARTUP_STATUS, StartupStatus.STARTUP_RUNNING, StartupStatus.STARTUP_SIGNALED)
    return Statement(
        holds=implies(ALIVE, iff(said, recorded(Kind.STARTUP))),
        reaches=STARTUP_STATUS == StartupStatus.STARTUP_SIGNALED,
    )


@claim(
    "INV-14",
    "INV-13",
    "TR18-08",
    source=_REAPER,
    exception="18 without the repair: when the startup process fails in the PM_STARTUP after a "
    "crash, the server stays in PM_STARTUP without one for ever",
)
def starting_up_needs_a_startup_process() -> Statement:
    """In PM_STARTUP and PM_RECOVERY a startup process is on record."""
    here = state_is(PM.PM_STARTUP, PM.PM_RECOVERY) & ALIVE
    return Statement(
        holds=implies(NEW_CRASH & here, recorded(Kind.STARTUP)),
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
    exception="18 without the repair: when the startup process reports redo and fails in the "
    "PM_STARTUP after a crash, the server stays in PM_RECOVERY without one for ever",
)
def a_failed_startup_is_final() -> Statement:
    """After the startup process has failed the server never opens, and the postmaster exits with 1
    unless an immediate shutdown was requested."""
    failed = STARTUP_STATUS == StartupStatus.STARTUP_CRASHED
    return Statement(
        holds=implies(
            failed & NEW_CRASH,
            CRASH_OR_IMMEDIATE
            & ~state_is(PM.PM_RUN, PM.PM_HOT_STANDBY, PM.PM_RECOVERY)
            & ((EXIT != Exit.EXITED_0) | IMMEDIATE),
        ),
        reaches=failed & (EXIT == Exit.EXITED_1),
    )


@claim("INV-17", "IO-02", "IO-07", "RP-21", source="postmaster.c: maybe_adjust_io_workers()")
def io_workers_do_not_exceed_the_setting() -> Statement:
    """There are never more io workers on record than io_workers."""
    full = (IO_WORKERS >= 1) & (number(Kind.IO_WORKER) == IO_WORKERS)
    return Statement(
        holds=number(Kind.IO_WORKER) <= IO_WORKERS, reaches=~has(Feature.IO_WORKERS) | full
    )


@claim("INV-107", "IO-02", "IO-07", source="postmaster.c: process_pm_reload_request()")
def the_pool_has_a_size_that_the_file_had() -> Statement:
    """The number of io workers that the postmaster wants is one that was in the file: at least one,
    and at most the largest."""
    fits = (WANTED >= 1) & (WANTED <= IO_WORKERS) & (IN_FILE >= 1) & (IN_FILE <= IO_WORKERS)
    here = (IO_WORKERS >= 1) & ~state_is(PM.PM_INIT)
    return Statement(
        holds=implies(here, fits) & implies(IO_WORKERS == 0, WANTED == 0),
        reaches=~has(Feature.IO_WORKERS) | here,
    )


@claim("INV-19", "INV-18", "SV-40", "CN-06", source="postmaster.c: canAcceptConnections()")
def sessions_do_not_exceed_the_slots() -> Statement:
    """There are never more client backends and walsenders on record than child slots."""
    sessions = number(Kind.BACKEND) + number(Kind.WAL_SENDER)
    return Statement(holds=sessions <= CHILD_SLOTS, reaches=sessions == CHILD_SLOTS)


@claim("INV-22", "CR-02", "CR-48", "RP-04", source="postmaster.c: HandleChildCrash()")
def a_crash_is_announced_once() -> Statement:
    """While FatalError is set "terminating any other active server processes" is logged once."""
    return Statement(holds=~TWO_ROUNDS, reaches=FATAL_ERROR)


@claim(
    "INV-24",
    "SH-02",
    "SH-40",
    "SH-42",
    source=_REQUEST,
    exception="a shutdown that the startup process asked for at its recovery target is not written",
)
def the_pid_file_says_stopping_in_a_shutdown() -> Statement:
    """While the postmaster is alive, line 8 of its pid file is "stopping" if and only if a shutdown
    was requested from outside."""
    stopping = PID_FILE == PidFile.STOPPING
    return Statement(
        holds=implies(
            ALIVE, implies(stopping, PENDING) & implies(PENDING, stopping | STOPPED_AT_TARGET)
        ),
        reaches=PID_FILE == PidFile.STOPPING,
    )


@claim("INV-25", "SH-40", "TR18-04", source=_REAPER)
def the_pid_file_says_ready_in_pm_run() -> Statement:
    """In PM_RUN without a shutdown pending line 8 of the pid file is "ready"."""
    here = state_is(PM.PM_RUN) & ~PENDING
    return Statement(holds=implies(here, PID_FILE == PidFile.READY), reaches=here)


@claim("INV-70", "SH-11", "SH-12", source="utils/init/miscinit.c: UnlinkLockFiles()")
def the_pid_file_exists_while_the_postmaster_is_alive() -> Statement:
    """postmaster.pid exists if and only if the postmaster has not exited."""
    return Statement(holds=iff(PID_FILE == PidFile.NONE, EXITED), reaches=EXITED)


CLAIMS = (
    transient_states_are_left_at_once,
    only_the_logger_outlives_the_postmaster,
    an_open_server_has_no_fatal_error,
    fatal_error_keeps_to_its_states,
    a_crash_restart_has_no_request_pending,
    the_sigkill_timer_needs_a_crash_or_immediate_shutdown,
    fast_and_immediate_close_the_server,
    smart_is_pending_only_after_the_server_opened,
    connections_are_disallowed_only_in_a_shutdown,
    a_shutdown_disallows_new_sessions,
    the_checkpoint_states_need_a_request_and_no_crash,
    startup_status_agrees_with_the_records,
    starting_up_needs_a_startup_process,
    a_running_server_has_no_startup_process,
    a_failed_startup_is_final,
    io_workers_do_not_exceed_the_setting,
    the_pool_has_a_size_that_the_file_had,
    sessions_do_not_exceed_the_slots,
    a_crash_is_announced_once,
    the_pid_file_says_stopping_in_a_shutdown,
    the_pid_file_says_ready_in_pm_run,
    the_pid_file_exists_while_the_postmaster_is_alive,
)
