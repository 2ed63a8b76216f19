"""Claims about who lives when (11.2), generations (11.3), and what is on disk (11.4).

Begin with   nobody_is_forked_out_of_season.
Owns         claims that speak of children, of shared memory and of files, as postmaster.py does of
             the postmaster's own variables.
"""

from __future__ import annotations

from pglife_spec.lang.declare import Statement, claim
from pglife_spec.lang.expr import Expr, all_of, any_of, implies, in_
from pglife_spec.postgres.actions.state_machine import TARGETS
from pglife_spec.postgres.claims.common import IMMEDIATE, NORMAL_LATE, PENDING
from pglife_spec.postgres.effects import ALL_BUT_LOGGER
from pglife_spec.postgres.state import (
    ABORT_CLOCK,
    CONTROL,
    COUNT,
    CRASHY,
    EXIT,
    FATAL_ERROR,
    FORK_FAULTS,
    FORKED_LATE,
    LIFE,
    LIVES,
    READY,
    RECOVERED,
    REPAIR_CRASH_IN_CRASH_STARTUP,
    REPAIR_LAST_ACCEPT,
    REPAIR_SHUTDOWN_IN_CRASH_STARTUP,
    REPAIR_STARTUP_EXIT_IN_CRASH,
    REPAIR_STARTUP_FORK_FAILURE,
    RESTART_AFTER_CRASH,
    STRAY_SIGNALS,
    TAINTED,
    V15,
    V18,
    none_recorded,
    recorded,
    state_is,
)
from pglife_spec.postgres.words import COUNTED, PM, Control, Exit, Kind, Life

_SM = "postmaster.c: PostmasterStateMachine()"
_REQUEST = "postmaster.c: process_pm_shutdown_request()"
_REAPER = "postmaster.c: process_pm_child_exit()"


@claim(
    "INV-33",
    "INV-32",
    "INV-34",
    "INV-40",
    "INV-41",
    "INV-44",
    source="postmaster.c: fork sites",
    exception="18 without the repair: a client noticed in the turn that enters PM_WAIT_DEAD_END is "
    "still given a dead-end child",
)
def nobody_is_forked_out_of_season() -> Statement:
    """Each kind is forked only in the states that allow it: sessions while the server is open,
    nobody but the logger in PM_WAIT_DEAD_END, bgworkers never with FatalError."""
    return Statement(
        holds=implies(V15 | REPAIR_LAST_ACCEPT, ~FORKED_LATE),
        reaches=state_is(PM.PM_WAIT_DEAD_END) & LIVES,
    )


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


#: Where a startup process that cannot be forked does not end the postmaster on the spot.
_FORKS = REPAIR_STARTUP_FORK_FAILURE | ~FORK_FAULTS


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


@claim(
    "INV-72",
    "SM-10",
    "SM-11",
    "SM-12",
    "ST-07",
    source=_SM,
    exception="without the repair: a startup process that cannot be forked at birth ends the "
    "postmaster with 1 at once",
)
def exit_1_means_a_crash() -> Statement:
    """The postmaster ends with 1 only after a crash that was not recovered from."""
    return Statement(
        holds=implies(_FORKS & (EXIT == Exit.EXITED_1), FATAL_ERROR),
        reaches=EXIT == Exit.EXITED_1,
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
    exception="15 signals dead-end children neither in an immediate shutdown nor in the SIGKILL "
    "round; 18 without the repair: a client served in the turn that enters the state",
)
def the_last_wait_is_for_children_that_were_told() -> Statement:
    """In PM_WAIT_DEAD_END of an immediate shutdown or a crash every child but the logger has been
    told to end (18)."""
    here = V18 & REPAIR_LAST_ACCEPT & state_is(PM.PM_WAIT_DEAD_END) & LIVES
    untold = COUNT[Kind.DEAD_END_BACKEND, Life.RUNNING] >= 1
    return Statement(
        holds=implies(here, ~untold), reaches=V15 | (here & recorded(Kind.DEAD_END_BACKEND))
    )


CLAIMS = (
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
