"""Claims about children, shared memory and files."""

from pglife_spec.lang.declare import Statement, claim
from pglife_spec.lang.expr import all_of, any_of, implies, in_
from pglife_spec.postgres.claims.common import CHECKPOINT_STATES, FORKS, STATES_15, STATES_18
from pglife_spec.postgres.state.children import (
    COUNT,
    UNQUIT_LIVES,
    none_recorded,
    recorded,
    some_in,
)
from pglife_spec.postgres.state.history import FORKED_LATE, TAINTED
from pglife_spec.postgres.state.postmaster import (
    ABORT_TIMER,
    ALIVE,
    BETWEEN_EVENTS,
    CRASH_OR_IMMEDIATE,
    EXIT,
    FATAL_ERROR,
    IMMEDIATE,
    PENDING,
    state_is,
)
from pglife_spec.postgres.state.shared import CONTROL, RECOVERED
from pglife_spec.postgres.words import PM, Control, Exit, Kind, Life
from pglife_spec.postgres.words.kinds import ALL_BUT_LOGGER, TARGETS, UP
from pglife_spec.postgres.words.parameters import FORK_FAULTS, RESTART_AFTER_CRASH, STRAY_SIGNALS
from pglife_spec.postgres.words.releases import Feature, has
from pglife_spec.postgres.words.repairs import (
    REPAIR_CRASH_IN_CRASH_STARTUP,
    REPAIR_LAST_ACCEPT,
    REPAIR_SHUTDOWN_IN_CRASH_STARTUP,
    REPAIR_STARTUP_EXIT_IN_CRASH,
)

_SM = "postmaster.c: PostmasterStateMachine()"
_REQUEST = "postmaster.c: process_pm_shutdown_request()"
_OUTLIVES_WAL = has(Feature.CHECKPOINTER_OUTLIVES_WAL)
_ALL_BUT_DEAD_END = tuple(k for k in ALL_BUT_LOGGER if k is not Kind.DEAD_END_BACKEND)
_UNQUIT = any_of(*(some_in(kind, *UNQUIT_LIVES) for kind in _ALL_BUT_DEAD_END))


@claim(
    "INV-33",
    "INV-32",
    "INV-34",
    "INV-40",
    "INV-41",
    "INV-44",
    source="postmaster.c: fork sites",
    exception="18 without the repair: a client reported by the wait that led to PM_WAIT_DEAD_END "
    "still gets a dead-end child",
)
def children_are_forked_only_in_allowed_states() -> Statement:
    """Each kind is forked only in the states that allow it: backends while the server is open,
    nothing but the logger in PM_WAIT_DEAD_END, background workers never with FatalError."""
    return Statement(
        holds=implies(~has(Feature.WAIT_EVENT_SET) | REPAIR_LAST_ACCEPT, ~FORKED_LATE),
        reaches=state_is(PM.PM_WAIT_DEAD_END) & ALIVE,
    )


@claim("INV-35", "SM-03", "SM-05", "INV-33", source=_SM)
def the_shutdown_checkpoint_follows_the_last_session() -> Statement:
    """From the shutdown checkpoint on there is no record of a backend, background worker,
    launcher, walwriter, background writer or startup process."""
    late = state_is(*CHECKPOINT_STATES) & ~FATAL_ERROR & ALIVE
    return Statement(holds=implies(late, none_recorded(*TARGETS)), reaches=late)


@claim("INV-37", "SM-08", "IO-06", "HB-46", source=_SM)
def the_checkpointer_exits_after_the_io_workers() -> Statement:
    """18: in PM_WAIT_CHECKPOINTER there is no record of an io worker."""
    here = state_is(PM.PM_WAIT_CHECKPOINTER)
    return Statement(
        holds=implies(here, none_recorded(Kind.IO_WORKER)), reaches=~_OUTLIVES_WAL | here
    )


@claim("INV-38", "SM-05", "SM-08", "CK-06", "MM-18", source=_SM)
def the_checkpoint_states_have_a_checkpointer() -> Statement:
    """In the states that wait for the shutdown checkpoint or for the checkpointer's exit, the
    checkpointer is on record."""
    here = BETWEEN_EVENTS & state_is(
        *(state for state in CHECKPOINT_STATES if state is not PM.PM_SHUTDOWN_2)
    )
    return Statement(holds=implies(here, recorded(Kind.CHECKPOINTER)), reaches=here)


@claim("INV-42", "RC-20", "PR-04", "PR-05", "PR-14", source="postmaster.c: fork sites")
def no_session_before_the_end_of_recovery() -> Statement:
    """Before PM_RUN there is no backend, walsender, walwriter, autovacuum launcher or logical
    replication launcher."""
    here = state_is(PM.PM_INIT, PM.PM_STARTUP, PM.PM_RECOVERY)
    later = (
        Kind.BACKEND,
        Kind.WAL_SENDER,
        Kind.WAL_WRITER,
        Kind.AUTOVAC_LAUNCHER,
        Kind.BG_WORKER,
    )
    return Statement(holds=implies(here, none_recorded(*later)), reaches=state_is(PM.PM_RECOVERY))


@claim("INV-36", "SM-07", "TR18-28", source=_SM)
def only_dead_end_children_delay_an_orderly_exit() -> Statement:
    """In PM_WAIT_DEAD_END without a crash only dead-end children and the logger are left."""
    here = state_is(PM.PM_WAIT_DEAD_END) & ~CRASH_OR_IMMEDIATE & ALIVE
    return Statement(
        holds=implies(here, none_recorded(*_ALL_BUT_DEAD_END)),
        reaches=here & recorded(Kind.DEAD_END_BACKEND),
    )


@claim(
    "CR-02",
    "TR18-10",
    "MM-02",
    "MM-03",
    source="postmaster.c: HandleFatalError()",
    exception="without the repairs: a shutdown requested in the PM_STARTUP after a crash waits for "
    "a checkpointer (and, 18, io workers) to which no SIGQUIT was sent; 15 enters "
    "PM_WAIT_BACKENDS on a second crash there without a signal",
)
def in_a_crash_every_child_was_sent_sigquit() -> Statement:
    """While the postmaster waits for the end of a crash, SIGQUIT was sent to every child but the
    logger and dead-end children."""
    here = FATAL_ERROR & state_is(PM.PM_WAIT_BACKENDS, PM.PM_WAIT_DEAD_END) & ALIVE
    repaired = REPAIR_SHUTDOWN_IN_CRASH_STARTUP & REPAIR_CRASH_IN_CRASH_STARTUP
    return Statement(holds=implies(repaired & here, ~_UNQUIT), reaches=here)


@claim("SH-07", "TR18-18", "INV-90", source=_REQUEST)
def an_immediate_shutdown_sends_sigquit_to_every_child() -> Statement:
    """After an immediate request SIGQUIT was sent to every child but the logger and dead-end
    children."""
    here = IMMEDIATE & ALIVE
    return Statement(holds=implies(here, ~_UNQUIT), reaches=here)


@claim(
    "INV-97",
    "SL-05",
    "MM-13",
    source="postmaster.c: ServerLoop()",
    exception="without the repair a startup process that finishes after SIGQUIT opens a server "
    "whose children are being killed, and resets the timer; no timer covers dead-end children "
    "that were refused after the only SIGKILL round (18), nor any dead-end child (15); 15 arms "
    "none for archiver and walsenders when the checkpointer of a shutdown cannot be forked",
)
def sigquit_arms_the_sigkill_timer() -> Statement:
    """While a child other than a dead-end child has received SIGQUIT and not exited, the SIGKILL
    timer is armed."""
    quitting = any_of(*(some_in(kind, Life.QUITTING) for kind in _ALL_BUT_DEAD_END))
    covered = REPAIR_STARTUP_EXIT_IN_CRASH & (has(Feature.HANDLE_FATAL_ERROR) | ~FORK_FAULTS)
    return Statement(
        holds=implies(covered & ALIVE & quitting, ABORT_TIMER),
        reaches=covered & quitting,
    )


@claim(
    "INV-60",
    "INV-61",
    "INV-64",
    source="postmaster.c: HandleChildCrash()",
    exception="without the repairs: a crash in the PM_STARTUP after a crash is ignored (18), and a "
    "startup process that exits 0 although SIGQUIT was sent opens the server (15, 18)",
)
def no_server_opens_on_shared_memory_of_a_crash() -> Statement:
    """Between a crash and the next PM_STARTUP, PM_RECOVERY or PM_RUN there is new shared
    memory: in these states every crash since then is one that waits to be reaped."""
    repaired = REPAIR_CRASH_IN_CRASH_STARTUP & REPAIR_STARTUP_EXIT_IN_CRASH
    here = state_is(PM.PM_INIT, *UP)
    waits = any_of(*(some_in(kind, Life.CRASHED) for kind in ALL_BUT_LOGGER))
    return Statement(holds=implies(repaired & here & TAINTED, waits), reaches=here & TAINTED)


@claim("INV-66", "SM-12", "SM-13", "CR-22", source=_SM)
def a_crash_restart_needs_the_setting() -> Statement:
    """The PM_STARTUP after a crash is reached only with restart_after_crash on."""
    here = FATAL_ERROR & state_is(PM.PM_STARTUP) & ALIVE
    return Statement(holds=implies(here, RESTART_AFTER_CRASH), reaches=here)


@claim("INV-71", "SH-13", "RC-18", "INV-38", source="xlog.c: ShutdownXLOG()")
def exit_0_after_an_orderly_request_means_shut_down() -> Statement:
    """After a smart or fast request the postmaster exits with 0 only if the control file says
    "shut down", unless the operator signaled the checkpointer."""
    here = (EXIT == Exit.EXITED_0) & ~IMMEDIATE
    clean = in_(CONTROL, Control.SHUT_DOWN, Control.SHUT_DOWN_IN_RECOVERY)
    return Statement(holds=implies(~STRAY_SIGNALS & here, clean), reaches=here)


@claim("INV-72", "SM-10", "SM-11", "SH-10", source=_SM)
def exit_0_means_a_request_and_no_crash() -> Statement:
    """The postmaster exits with 0 only if a shutdown was requested and nothing had crashed."""
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
    exception="without the repair: a startup process that cannot be forked at the start ends the "
    "postmaster with 1 at once",
)
def exit_1_means_a_crash() -> Statement:
    """The postmaster exits with 1 only after a crash from which it did not recover, or if it could
    not fork any child."""
    none_forked = FORK_FAULTS & state_is(PM.PM_STARTUP) & none_recorded(*ALL_BUT_LOGGER)
    return Statement(
        holds=implies(FORKS & (EXIT == Exit.EXITED_1), FATAL_ERROR | none_forked),
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
def no_child_before_the_first_fork() -> Statement:
    """In PM_INIT there is no child."""
    return Statement(
        holds=implies(state_is(PM.PM_INIT), none_recorded(*Kind)),
        reaches=state_is(PM.PM_INIT),
    )


@claim("SM-05", "TR18-22", "TR17-19", source=_SM)
def releases_have_their_own_states() -> Statement:
    """15 never enters a state that only 18 has, and 18 never one that only 15 has."""
    return Statement(
        holds=all_of(
            implies(~_OUTLIVES_WAL, ~state_is(*STATES_18)),
            implies(_OUTLIVES_WAL, ~state_is(*STATES_15)),
        ),
        reaches=state_is(*CHECKPOINT_STATES),
    )


@claim(
    "INV-110",
    "SM-23",
    "TR18-21",
    "TR18-28",
    "HB-38",
    source=_SM,
    exception="15 signals dead-end children neither in an immediate shutdown nor in the SIGKILL "
    "round; 18 without the repair: a client accepted after PM_WAIT_DEAD_END was entered",
)
def wait_dead_end_has_signaled_every_dead_end_child() -> Statement:
    """18: in PM_WAIT_DEAD_END a signal that ends it was sent to every dead-end child."""
    dead_end_is_a_kind = has(Feature.DEAD_END_IS_A_KIND)
    here = dead_end_is_a_kind & REPAIR_LAST_ACCEPT & state_is(PM.PM_WAIT_DEAD_END) & ALIVE
    unsignaled = COUNT[Kind.DEAD_END_BACKEND, Life.RUNNING] >= 1
    return Statement(
        holds=implies(here, ~unsignaled),
        reaches=~dead_end_is_a_kind | (here & recorded(Kind.DEAD_END_BACKEND)),
    )


CLAIMS = (
    children_are_forked_only_in_allowed_states,
    the_shutdown_checkpoint_follows_the_last_session,
    the_checkpointer_exits_after_the_io_workers,
    the_checkpoint_states_have_a_checkpointer,
    no_session_before_the_end_of_recovery,
    only_dead_end_children_delay_an_orderly_exit,
    in_a_crash_every_child_was_sent_sigquit,
    an_immediate_shutdown_sends_sigquit_to_every_child,
    sigquit_arms_the_sigkill_timer,
    no_server_opens_on_shared_memory_of_a_crash,
    a_crash_restart_needs_the_setting,
    exit_0_after_an_orderly_request_means_shut_down,
    exit_0_means_a_request_and_no_crash,
    exit_1_means_a_crash,
    a_running_server_is_in_production_on_disk,
    no_child_before_the_first_fork,
    releases_have_their_own_states,
    wait_dead_end_has_signaled_every_dead_end_child,
)
