"""The safety claims: what holds in every state that the machine can reach.

Begin with   the postmaster's own variables (11.1), then who lives when (11.2), then generations
             and what is on disk (11.3, 11.4).
Owns         each claim's sentence, source, condition and witness. Where a real release breaks one,
             the condition says under which repair it holds, and `exception` says how it breaks.
"""

from __future__ import annotations

from pglife_spec.lang.declare import Statement, claim
from pglife_spec.lang.expr import Expr, all_of, any_of, iff, implies, in_
from pglife_spec.model.effects import ALL_BUT_LOGGER
from pglife_spec.model.state import (
    ABORT_CLOCK,
    CHILD_SLOTS,
    CONNS_ALLOWED,
    CONTROL,
    COUNT,
    CRASHY,
    EXIT,
    FATAL_ERROR,
    FORKED_LATE,
    IO_WORKERS,
    LIFE,
    LIVES,
    PID_FILE,
    READY,
    RECOVERED,
    REPAIR_CRASH_IN_CRASH_STARTUP,
    REPAIR_KILL_DEAD_END,
    REPAIR_SHUTDOWN_IN_CRASH_STARTUP,
    REPAIR_STARTUP_EXIT_IN_CRASH,
    RESTART_AFTER_CRASH,
    SHUTDOWN,
    STARTUP_STATUS,
    STATE,
    STRAY_SIGNALS,
    TAINTED,
    TWO_ROUNDS,
    V15,
    V18,
    none_recorded,
    number,
    recorded,
    state_is,
)
from pglife_spec.model.state_machine import TARGETS
from pglife_spec.model.words import (
    COUNTED,
    PM,
    Control,
    Exit,
    Kind,
    Life,
    PidFile,
    Shutdown,
    StartupStatus,
)

_SM = "postmaster.c: PostmasterStateMachine()"
_REQUEST = "postmaster.c: process_pm_shutdown_request()"
_REAPER = "postmaster.c: process_pm_child_exit()"

PENDING = SHUTDOWN != Shutdown.NoShutdown
IMMEDIATE = SHUTDOWN == Shutdown.ImmediateShutdown
GONE = EXIT != Exit.ALIVE
NORMAL_LATE = (
    PM.PM_SHUTDOWN,
    PM.PM_WAIT_XLOG_SHUTDOWN,
    PM.PM_SHUTDOWN_2,
    PM.PM_WAIT_XLOG_ARCHIVAL,
    PM.PM_WAIT_IO_WORKERS,
    PM.PM_WAIT_CHECKPOINTER,
)


@claim("INV-02", "PM-03", "SM-02", "SM-10", source=_SM)
def transient_states_never_wait() -> Statement:
    """Between two handled events pmState is neither PM_STOP_BACKENDS nor PM_NO_CHILDREN."""
    return Statement(
        holds=implies(LIVES, ~state_is(PM.PM_STOP_BACKENDS, PM.PM_NO_CHILDREN)),
        reaches=state_is(PM.PM_WAIT_BACKENDS) & LIVES,
    )


@claim("INV-03", "SM-09", "TR18-30", "TR17-24", source=_SM)
def nobody_but_the_logger_outlives_the_postmaster() -> Statement:
    """When the postmaster exits by itself, no child but the logger is left."""
    return Statement(holds=implies(GONE, none_recorded(*ALL_BUT_LOGGER)), reaches=GONE)


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
    exception="18 without the repair: a startup process that reports redo and dies in the PM_STARTUP "
    "after a crash leaves a server in PM_RECOVERY, without one, for ever",
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


@claim(
    "INV-33", "INV-32", "INV-34", "INV-40", "INV-41", "INV-44", source="postmaster.c: fork sites"
)
def nobody_is_forked_out_of_season() -> Statement:
    """Each kind is forked only in the states that allow it: sessions while the server is open,
    nobody but the logger in PM_WAIT_DEAD_END, bgworkers never with FatalError."""
    return Statement(holds=~FORKED_LATE, reaches=state_is(PM.PM_WAIT_DEAD_END) & LIVES)


@claim("INV-35", "SM-03", "SM-05", "INV-33", source=_SM)
def the_orderly_states_have_outlived_the_sessions() -> Statement:
    """From the shutdown checkpoint on, no session, bgworker, launcher, walwriter, bgwriter or
    startup process is on record."""
    late = state_is(*NORMAL_LATE) & ~FATAL_ERROR & LIVES
    return Statement(holds=implies(late, none_recorded(*TARGETS)), reaches=late)


@claim("INV-37", "SM-08", "IO-06", "HB-46", source=_SM)
def the_checkpointer_ends_after_the_io_workers() -> Statement:
    """18: in PM_WAIT_CHECKPOINTER no io worker is on record."""
    here = state_is(PM.PM_WAIT_CHECKPOINTER)
    return Statement(holds=implies(here, none_recorded(Kind.IO_WORKER)), reaches=V15 | here)


@claim("INV-38", "SM-05", "SM-08", "CK-06", "MM-18", source=_SM)
def the_orderly_states_have_their_checkpointer() -> Statement:
    """While an orderly shutdown waits for it, the checkpointer is on record."""
    here = READY & state_is(
        PM.PM_SHUTDOWN,
        PM.PM_WAIT_XLOG_SHUTDOWN,
        PM.PM_WAIT_XLOG_ARCHIVAL,
        PM.PM_WAIT_IO_WORKERS,
        PM.PM_WAIT_CHECKPOINTER,
    )
    return Statement(holds=implies(here, recorded(Kind.CHECKPOINTER)), reaches=here)


@claim("INV-42", "RC-20", "PR-04", "PR-05", "PR-14", source="postmaster.c: fork sites")
def nobody_serves_before_recovery_is_over() -> Statement:
    """Before PM_RUN there is no session, walwriter, autovacuum launcher or logical launcher."""
    here = state_is(PM.PM_INIT, PM.PM_STARTUP, PM.PM_RECOVERY)
    servants = (Kind.BACKEND, Kind.WAL_WRITER, Kind.AUTOVAC_LAUNCHER, Kind.BG_WORKER)
    return Statement(
        holds=implies(here, none_recorded(*servants)), reaches=state_is(PM.PM_RECOVERY)
    )


@claim("INV-36", "SM-07", "TR18-28", source=_SM)
def only_refused_clients_hold_an_orderly_end() -> Statement:
    """In PM_WAIT_DEAD_END without a crash only dead-end children (and the logger) are left."""
    here = state_is(PM.PM_WAIT_DEAD_END) & ~CRASHY & LIVES
    others = tuple(k for k in ALL_BUT_LOGGER if k is not Kind.DEAD_END_BACKEND)
    return Statement(
        holds=implies(here, none_recorded(*others)),
        reaches=here & recorded(Kind.DEAD_END_BACKEND),
    )


def _awake(kind: Kind) -> Expr:
    lives = (Life.RUNNING, Life.TERMINATING, Life.CHECKPOINTING, Life.XLOG_SHUT_DOWN)
    if kind in COUNTED:
        return any_of(*(COUNT[kind, life] >= 1 for life in lives if (kind, life) in COUNT))
    return in_(LIFE[kind], *lives)


_UNTOLD_IN_CRASH = any_of(*(_awake(k) for k in ALL_BUT_LOGGER if k is not Kind.DEAD_END_BACKEND))


@claim(
    "CR-02",
    "TR18-10",
    "MM-02",
    "MM-03",
    source="postmaster.c: HandleFatalError()",
    exception="without the repairs: a shutdown asked for in the PM_STARTUP after a crash waits for "
    "checkpointer (and, 18, io workers) that nobody told to die; 15 enters PM_WAIT_BACKENDS on a "
    "second crash there without a signal",
)
def in_a_crash_everybody_was_told_to_die() -> Statement:
    """While a crash is waited out, every child but logger and refused clients has had SIGQUIT."""
    here = FATAL_ERROR & state_is(PM.PM_WAIT_BACKENDS, PM.PM_WAIT_DEAD_END) & LIVES
    repaired = REPAIR_SHUTDOWN_IN_CRASH_STARTUP & REPAIR_CRASH_IN_CRASH_STARTUP
    return Statement(holds=implies(repaired & here, ~_UNTOLD_IN_CRASH), reaches=here)


@claim("SH-07", "TR18-18", "INV-90", source=_REQUEST)
def immediate_has_told_everybody_to_die() -> Statement:
    """After an immediate request every child but logger and refused clients has had SIGQUIT."""
    here = IMMEDIATE & LIVES
    return Statement(holds=implies(here, ~_UNTOLD_IN_CRASH), reaches=here)


@claim(
    "INV-97",
    "SL-05",
    "MM-13",
    source="postmaster.c: ServerLoop()",
    exception="without the repair that keeps a finished startup process from opening a server that "
    "is being killed; dead-end children that were refused after the only SIGKILL round (18), and "
    "all dead-end children (15), have no clock",
)
def whoever_got_sigquit_has_a_clock() -> Statement:
    """While somebody other than a dead-end child has had SIGQUIT, the SIGKILL clock is armed."""
    kinds = (k for k in ALL_BUT_LOGGER if k is not Kind.DEAD_END_BACKEND)
    quitting = any_of(
        *(COUNT[k, Life.QUITTING] >= 1 if k in COUNTED else LIFE[k] == Life.QUITTING for k in kinds)
    )
    return Statement(
        holds=implies(REPAIR_STARTUP_EXIT_IN_CRASH & LIVES & quitting, ABORT_CLOCK),
        reaches=quitting & ABORT_CLOCK,
    )


@claim(
    "INV-60",
    "INV-61",
    "INV-64",
    source="postmaster.c: HandleChildCrash()",
    exception="without the repairs: a crash in the PM_STARTUP after a crash is ignored (18), and a "
    "startup process that exits 0 although SIGQUIT was sent opens the server (15, 18)",
)
def no_server_opens_on_memory_of_the_dead() -> Statement:
    """Between a crash and the next PM_RECOVERY or PM_RUN shared memory is made anew."""
    repaired = REPAIR_CRASH_IN_CRASH_STARTUP & REPAIR_STARTUP_EXIT_IN_CRASH
    here = state_is(PM.PM_RECOVERY, PM.PM_HOT_STANDBY, PM.PM_RUN)
    return Statement(holds=implies(repaired & here, ~TAINTED), reaches=TAINTED)


@claim("INV-66", "SM-12", "SM-13", "CR-22", source=_SM)
def a_restart_was_allowed() -> Statement:
    """The PM_STARTUP after a crash is reached only with restart_after_crash on, and with a startup
    process that did not fail by itself."""
    here = FATAL_ERROR & state_is(PM.PM_STARTUP) & LIVES
    return Statement(holds=implies(here, RESTART_AFTER_CRASH), reaches=here)


@claim("INV-71", "SH-13", "RC-18", "INV-38", source="xlog.c: ShutdownXLOG()")
def exit_0_after_an_orderly_request_means_shut_down() -> Statement:
    """Exit status 0 after a smart or fast request: the control file says so (nobody having sent
    the checkpointer signals by hand)."""
    here = (EXIT == Exit.EXITED_0) & ~IMMEDIATE
    clean = in_(CONTROL, Control.SHUT_DOWN, Control.SHUT_DOWN_IN_RECOVERY)
    return Statement(holds=implies(~STRAY_SIGNALS & here, clean), reaches=here)


@claim("INV-72", "SM-10", "SM-11", "SH-10", source=_SM)
def exit_0_means_a_request_and_no_crash() -> Statement:
    """The postmaster ends with 0 only if a shutdown was requested and nothing had crashed."""
    return Statement(
        holds=implies(EXIT == Exit.EXITED_0, PENDING & ~FATAL_ERROR),
        reaches=EXIT == Exit.EXITED_0,
    )


@claim("INV-72", "SM-10", "SM-11", "SM-12", "ST-07", source=_SM)
def exit_1_means_a_crash() -> Statement:
    """The postmaster ends with 1 only after a crash that was not recovered from."""
    return Statement(
        holds=implies(EXIT == Exit.EXITED_1, FATAL_ERROR), reaches=EXIT == Exit.EXITED_1
    )


@claim("INV-74", "SH-14", "CR-23", source="xlog.c: StartupXLOG()")
def a_running_server_is_in_production_on_disk() -> Statement:
    """In PM_RUN recovery is over and the control file says "in production"."""
    return Statement(
        holds=implies(
            state_is(PM.PM_RUN) & ~STRAY_SIGNALS,
            RECOVERED & (CONTROL == Control.IN_PRODUCTION),
        ),
        reaches=state_is(PM.PM_RUN),
    )


@claim("INV-31", "PR-01", "INV-34", source="postmaster.c: PostmasterMain()")
def nobody_is_there_before_the_first_fork() -> Statement:
    """In PM_INIT there is no child at all."""
    return Statement(
        holds=implies(state_is(PM.PM_INIT), none_recorded(*Kind)),
        reaches=state_is(PM.PM_INIT),
    )


_STATES_15_ONLY = (PM.PM_SHUTDOWN, PM.PM_SHUTDOWN_2)
_STATES_18_ONLY = (
    PM.PM_WAIT_XLOG_SHUTDOWN,
    PM.PM_WAIT_XLOG_ARCHIVAL,
    PM.PM_WAIT_IO_WORKERS,
    PM.PM_WAIT_CHECKPOINTER,
)


@claim("SM-05", "TR18-22", "TR17-19", source=_SM)
def versions_keep_to_their_own_states() -> Statement:
    """15 never enters a state that only 18 has, nor 18 one of 15's."""
    return Statement(
        holds=all_of(
            implies(V15, ~state_is(*_STATES_18_ONLY)),
            implies(V18, ~state_is(*_STATES_15_ONLY)),
        ),
        reaches=state_is(*_STATES_15_ONLY, *_STATES_18_ONLY),
    )


@claim(
    "INV-110",
    "SM-23",
    "TR18-21",
    "TR18-28",
    "HB-38",
    source=_SM,
    exception="15 without the repair signals dead-end children neither in an immediate "
    "shutdown nor in the SIGKILL round",
)
def the_last_wait_is_for_children_that_were_told() -> Statement:
    """In PM_WAIT_DEAD_END of an immediate shutdown or a crash every child but the logger has been
    told to end (18)."""
    here = V18 & state_is(PM.PM_WAIT_DEAD_END) & LIVES & ~REPAIR_KILL_DEAD_END
    untold = COUNT[Kind.DEAD_END_BACKEND, Life.RUNNING] >= 1
    return Statement(
        holds=implies(here, ~untold), reaches=V15 | (here & recorded(Kind.DEAD_END_BACKEND))
    )


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
    nobody_is_forked_out_of_season,
    the_orderly_states_have_outlived_the_sessions,
    the_checkpointer_ends_after_the_io_workers,
    the_orderly_states_have_their_checkpointer,
    nobody_serves_before_recovery_is_over,
    only_refused_clients_hold_an_orderly_end,
    in_a_crash_everybody_was_told_to_die,
    immediate_has_told_everybody_to_die,
    whoever_got_sigquit_has_a_clock,
    no_server_opens_on_memory_of_the_dead,
    a_restart_was_allowed,
    exit_0_after_an_orderly_request_means_shut_down,
    exit_0_means_a_request_and_no_crash,
    exit_1_means_a_crash,
    a_running_server_is_in_production_on_disk,
    nobody_is_there_before_the_first_fork,
    versions_keep_to_their_own_states,
    the_last_wait_is_for_children_that_were_told,
)
