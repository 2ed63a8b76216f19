"""Claims about what the server remembers: requests, flags in shared memory, files, and the exit.

Begin with CLAIMS.
"""

from pglife_spec.lang.declare import Statement, claim
from pglife_spec.lang.expr import implies, in_
from pglife_spec.postgres.claims.common import CHECKPOINT_STATES, FORKS
from pglife_spec.postgres.state.children import (
    LIFE,
    NO_ZOMBIE,
    none_recorded,
    recorded,
)
from pglife_spec.postgres.state.history import STOPPED_AT_TARGET
from pglife_spec.postgres.state.postmaster import (
    ABORT_TIMER,
    ALIVE,
    CONNS_ALLOWED,
    CRASH_OR_IMMEDIATE,
    EXITED,
    FAST_TOO,
    FATAL_ERROR,
    IMMEDIATE,
    LAST_ACCEPT,
    PENDING,
    PID_FILE,
    REAPING,
    RELOAD,
    REQUEST,
    SHUTDOWN,
    STARTUP_STATUS,
    STATE,
    state_is,
)
from pglife_spec.postgres.state.shared import (
    ADVANCE_STATE_MACHINE,
    CONTROL,
    RECOVERED,
    RECOVERY_STARTED,
    REDO,
    XLOG_IS_SHUTDOWN,
)
from pglife_spec.postgres.words import PM, Control, Kind, Life, PidFile, Shutdown, StartupStatus
from pglife_spec.postgres.words.parameters import (
    FORK_FAULTS,
    HOT_STANDBY,
    RELOADS,
    STRAY_SIGNALS,
    WAL_SENDERS,
)
from pglife_spec.postgres.words.releases import Feature, has
from pglife_spec.postgres.words.repairs import (
    REPAIR_CRASH_IN_CRASH_STARTUP,
    REPAIR_LAST_ACCEPT,
)

_REQUEST = "postmaster.c: process_pm_shutdown_request()"
_SM = "postmaster.c: PostmasterStateMachine()"
_REAPER = "postmaster.c: process_pm_child_exit()"
_OUTLIVES_WAL = has(Feature.CHECKPOINTER_OUTLIVES_WAL)
_EARLY = state_is(PM.PM_INIT, PM.PM_STARTUP, PM.PM_RECOVERY)


@claim("SH-09", "SV-21", source=_REQUEST)
def a_pending_request_is_stronger_than_the_last_one() -> Statement:
    """A request that waits to be handled is stronger than what Shutdown says, unless the server
    stops at the recovery target."""
    waits = REQUEST != Shutdown.NoShutdown
    stronger = (SHUTDOWN < REQUEST) | STOPPED_AT_TARGET
    return Statement(holds=implies(waits, stronger), reaches=waits & PENDING)


@claim("SG-08", "SV-22", source=_REQUEST)
def two_requests_wait_only_where_handlers_do_the_work() -> Statement:
    """A fast request waits beside an immediate one only in 15."""
    return Statement(
        holds=implies(
            FAST_TOO,
            has(Feature.WORK_IN_HANDLERS)
            & (REQUEST == Shutdown.ImmediateShutdown)
            & (SHUTDOWN < Shutdown.FastShutdown),
        ),
        reaches=FAST_TOO | ~has(Feature.WORK_IN_HANDLERS),
    )


@claim("SG-02", source="postmaster.c: handle_pm_reload_request_signal()")
def a_reload_waits_only_if_one_was_requested() -> Statement:
    """A reload is pending only if operators reload, and never before the first child is forked."""
    return Statement(
        holds=implies(RELOAD, RELOADS & ~state_is(PM.PM_INIT)), reaches=RELOAD | ~RELOADS
    )


@claim("SV-21", "SH-01", source=_REQUEST)
def no_request_waits_before_the_first_child() -> Statement:
    """In PM_INIT no shutdown was requested."""
    return Statement(
        holds=implies(state_is(PM.PM_INIT), ~PENDING & (REQUEST == Shutdown.NoShutdown)),
        reaches=state_is(PM.PM_INIT),
    )


@claim("SH-07", "TR18-18", "INV-08", source=_REQUEST)
def an_immediate_shutdown_waits_for_children_only() -> Statement:
    """With an immediate shutdown pending pmState is PM_WAIT_BACKENDS or PM_WAIT_DEAD_END, until the
    postmaster exits."""
    return Statement(
        holds=implies(IMMEDIATE & ALIVE, state_is(PM.PM_WAIT_BACKENDS, PM.PM_WAIT_DEAD_END)),
        reaches=IMMEDIATE & state_is(PM.PM_WAIT_DEAD_END),
    )


@claim("SL-05", "SV-03", source="postmaster.c: HandleFatalError()")
def the_sigkill_timer_runs_while_children_are_awaited() -> Statement:
    """The SIGKILL timer is armed only in PM_WAIT_BACKENDS and PM_WAIT_DEAD_END (15: also in
    PM_SHUTDOWN_2), or when the postmaster has exited."""
    late = ~_OUTLIVES_WAL & state_is(PM.PM_SHUTDOWN_2)
    states = state_is(PM.PM_WAIT_BACKENDS, PM.PM_WAIT_DEAD_END, PM.PM_NO_CHILDREN)
    return Statement(
        holds=implies(REPAIR_CRASH_IN_CRASH_STARTUP & ABORT_TIMER & FORKS, states | late),
        reaches=ABORT_TIMER & state_is(PM.PM_WAIT_DEAD_END),
    )


@claim("SV-25", "SL-08", "INV-40", source="postmaster.c: ServerLoop()")
def a_last_client_waits_only_in_18() -> Statement:
    """A client that the last wait reported is served only in PM_WAIT_DEAD_END, and only in a
    release that waits on an event set."""
    return Statement(
        holds=implies(LAST_ACCEPT, has(Feature.WAIT_EVENT_SET) & ~REPAIR_LAST_ACCEPT),
        reaches=LAST_ACCEPT | REPAIR_LAST_ACCEPT | ~has(Feature.WAIT_EVENT_SET),
    )


@claim("PG-01", "RC-02", source="xlogrecovery.c: PerformWalRecovery()")
def recovery_started_means_redo() -> Statement:
    """RECOVERY_STARTED is set only after redo has begun."""
    return Statement(holds=implies(RECOVERY_STARTED, REDO), reaches=RECOVERY_STARTED)


@claim("PG-09", "TR18-24", source="checkpointer.c: CheckpointerMain()")
def only_18_reports_the_shutdown_checkpoint() -> Statement:
    """XLOG_IS_SHUTDOWN is set only in 18."""
    return Statement(
        holds=implies(XLOG_IS_SHUTDOWN, _OUTLIVES_WAL), reaches=XLOG_IS_SHUTDOWN | ~_OUTLIVES_WAL
    )


@claim("PG-10", "CN-32", source="walsender.c: InitWalSender()")
def only_walsenders_advance_the_state_machine() -> Statement:
    """ADVANCE_STATE_MACHINE is set only where clients may ask for replication."""
    return Statement(
        holds=implies(ADVANCE_STATE_MACHINE, WAL_SENDERS),
        reaches=ADVANCE_STATE_MACHINE | ~WAL_SENDERS,
    )


@claim("RC-01", "CT-20", source="xlogrecovery.c: PerformWalRecovery()")
def the_control_file_says_recovery_during_redo() -> Statement:
    """In PM_STARTUP and PM_RECOVERY, from the begin of redo until its end, the control file says
    "in crash recovery" or "in archive recovery", unless an operator signaled the checkpointer."""
    here = REDO & ~RECOVERED & ~STRAY_SIGNALS & state_is(PM.PM_STARTUP, PM.PM_RECOVERY)
    return Statement(
        holds=implies(here, in_(CONTROL, Control.IN_CRASH_RECOVERY, Control.IN_ARCHIVE_RECOVERY)),
        reaches=here,
    )


@claim("CT-20", "SH-14", source="xlog.c: ShutdownXLOG()")
def shutting_down_is_written_only_by_a_shutdown() -> Statement:
    """In an open server or in its first recovery the control file does not say "shutting down",
    unless an operator signaled the checkpointer."""
    here = state_is(PM.PM_RUN, PM.PM_HOT_STANDBY) & ~STRAY_SIGNALS
    return Statement(holds=implies(here, CONTROL != Control.SHUTTING_DOWN), reaches=here)


@claim("CT-20", "CR-23", source="xlog.c: StartupXLOG()")
def an_open_server_was_recovered() -> Statement:
    """Where a client's session is on record recovery is over, or redo has begun at a standby."""
    here = recorded(Kind.BACKEND)
    return Statement(holds=implies(here & ALIVE, RECOVERED | REDO), reaches=here)


@claim("SV-07", "TR18-04", source=_REAPER)
def an_open_server_expects_no_startup_process() -> Statement:
    """In PM_RUN StartupStatus is NOT_RUNNING."""
    return Statement(
        holds=implies(state_is(PM.PM_RUN), STARTUP_STATUS == StartupStatus.STARTUP_NOT_RUNNING),
        reaches=state_is(PM.PM_RUN),
    )


@claim("SV-07", "CR-02", source="postmaster.c: TerminateChildren()")
def startup_is_signaled_only_in_a_crash_or_an_immediate_shutdown() -> Statement:
    """StartupStatus is SIGNALED only while a crash is handled or an immediate shutdown pending."""
    signaled = STARTUP_STATUS == StartupStatus.STARTUP_SIGNALED
    return Statement(holds=implies(signaled & ALIVE, CRASH_OR_IMMEDIATE), reaches=signaled)


@claim("SH-40", "ST-04", source="miscinit.c: CreateLockFile()")
def the_pid_file_says_starting_until_the_server_opens() -> Statement:
    """Line 8 of the pid file is "starting" before PM_RECOVERY and never in PM_RUN."""
    starting = PID_FILE == PidFile.STARTING
    return Statement(
        holds=implies(state_is(PM.PM_INIT), starting) & implies(state_is(PM.PM_RUN), ~starting),
        reaches=starting,
    )


@claim("SH-40", "TR18-02", source="postmaster.c: process_pm_pmsignal()")
def the_pid_file_says_standby_only_without_hot_standby() -> Statement:
    """Line 8 of the pid file is "standby" only with hot_standby off."""
    standby = PID_FILE == PidFile.STANDBY
    return Statement(holds=implies(standby, ~HOT_STANDBY), reaches=standby | HOT_STANDBY)


@claim("SM-10", "INV-03", source=_SM)
def the_postmaster_exits_between_its_children() -> Statement:
    """The postmaster has exited only in PM_NO_CHILDREN, or in PM_STARTUP where the startup process
    could not be forked."""
    return Statement(
        holds=implies(
            EXITED, state_is(PM.PM_NO_CHILDREN) | (FORK_FAULTS & state_is(PM.PM_STARTUP))
        ),
        reaches=EXITED & state_is(PM.PM_NO_CHILDREN),
    )


@claim("RP-01", "SM-10", source=_REAPER)
def an_exited_postmaster_reaps_nothing() -> Statement:
    """After its exit the postmaster is in the middle of no reaping."""
    return Statement(holds=implies(EXITED, ~REAPING), reaches=EXITED)


@claim("SV-04", "SM-01", "TR18-14", source=_SM)
def only_a_smart_shutdown_closes_an_open_server() -> Statement:
    """Where connections are not allowed in PM_RUN the request was a smart one."""
    here = state_is(PM.PM_RUN, PM.PM_HOT_STANDBY) & ~CONNS_ALLOWED
    return Statement(holds=implies(here, SHUTDOWN == Shutdown.SmartShutdown), reaches=here)


@claim("SM-13", "CR-20", source=_SM)
def a_crash_restart_begins_with_its_startup_process_alone() -> Statement:
    """In the PM_STARTUP after a crash there is no session, no writer of WAL and no launcher."""
    here = FATAL_ERROR & state_is(PM.PM_STARTUP) & ALIVE
    return Statement(
        holds=implies(
            here,
            none_recorded(
                Kind.BACKEND,
                Kind.WAL_WRITER,
                Kind.AUTOVAC_LAUNCHER,
                Kind.BG_WORKER,
                Kind.WAL_SENDER,
                Kind.WAL_SUMMARIZER,
                Kind.ARCHIVER,
            ),
        ),
        reaches=here,
    )


@claim("SM-05", "SM-07", "CK-06", source=_SM)
def wal_is_shut_down_before_it_is_archived() -> Statement:
    """From PM_WAIT_XLOG_ARCHIVAL on (15: in PM_SHUTDOWN_2 without a crash) the control file says
    that the server was shut down."""
    late = state_is(PM.PM_WAIT_XLOG_ARCHIVAL, PM.PM_WAIT_IO_WORKERS, PM.PM_WAIT_CHECKPOINTER)
    here = (late | (state_is(PM.PM_SHUTDOWN_2) & ~FATAL_ERROR)) & ~STRAY_SIGNALS & ALIVE
    clean = in_(CONTROL, Control.SHUT_DOWN, Control.SHUT_DOWN_IN_RECOVERY)
    return Statement(holds=implies(here, clean), reaches=here)


@claim("SV-02", "TR18-04", source=_REAPER)
def a_crash_handled_keeps_its_request() -> Statement:
    """FatalError together with a request waits for children: never in PM_STARTUP, and in no state
    in which the server is open."""
    here = FATAL_ERROR & PENDING & ALIVE
    return Statement(
        holds=implies(here, ~_EARLY & ~state_is(PM.PM_RUN, PM.PM_HOT_STANDBY)), reaches=here
    )


@claim("PM-01", "SM-02", source=_SM)
def the_late_states_follow_a_request() -> Statement:
    """From PM_STOP_BACKENDS on there was a request, or a crash."""
    here = (STATE >= PM.PM_STOP_BACKENDS) & ALIVE
    return Statement(holds=implies(here, PENDING | FATAL_ERROR), reaches=here)


@claim("SM-03", "SM-05", source=_SM)
def no_launch_follows_the_last_backend() -> Statement:
    """In the states that follow the shutdown checkpoint the logger, the checkpointer, io workers,
    archiver, walsenders and dead-end children are all that is left."""
    here = state_is(*CHECKPOINT_STATES) & ALIVE & ~CRASH_OR_IMMEDIATE
    gone = none_recorded(
        Kind.STARTUP, Kind.BG_WRITER, Kind.WAL_WRITER, Kind.AUTOVAC_LAUNCHER, Kind.BACKEND
    )
    return Statement(holds=implies(here, gone), reaches=here)


@claim("RP-01", "SV-20", source=_REAPER)
def a_checkpointer_is_on_record_or_was_lost() -> Statement:
    """15: in PM_SHUTDOWN the checkpointer writes its checkpoint, or waits to be
    reaped."""
    here = ALIVE & state_is(PM.PM_SHUTDOWN)
    return Statement(
        holds=implies(
            here & ~STRAY_SIGNALS,
            in_(
                LIFE[Kind.CHECKPOINTER],
                Life.CHECKPOINTING,
                Life.EXITED_0,
                Life.CRASHED,
                Life.QUITTING,
            ),
        ),
        reaches=here | _OUTLIVES_WAL,
    )


@claim("RP-01", "INV-101", source=_REAPER)
def a_zombie_is_seen_before_the_exit() -> Statement:
    """When the postmaster exits, no zombie but the logger's is left unreaped."""
    repaired = FORKS & EXITED & (LIFE[Kind.LOGGER] != Life.CRASHED)
    return Statement(holds=implies(repaired, NO_ZOMBIE), reaches=EXITED)


@claim("SV-03", "INV-07", source=_SM)
def no_timer_runs_in_a_crash_restart() -> Statement:
    """In the PM_STARTUP after a crash the SIGKILL timer is not armed."""
    here = FATAL_ERROR & state_is(PM.PM_STARTUP) & ALIVE
    return Statement(holds=implies(here, ~ABORT_TIMER), reaches=here)


CLAIMS = (
    a_pending_request_is_stronger_than_the_last_one,
    two_requests_wait_only_where_handlers_do_the_work,
    a_reload_waits_only_if_one_was_requested,
    no_request_waits_before_the_first_child,
    an_immediate_shutdown_waits_for_children_only,
    the_sigkill_timer_runs_while_children_are_awaited,
    a_last_client_waits_only_in_18,
    recovery_started_means_redo,
    only_18_reports_the_shutdown_checkpoint,
    only_walsenders_advance_the_state_machine,
    the_control_file_says_recovery_during_redo,
    shutting_down_is_written_only_by_a_shutdown,
    an_open_server_was_recovered,
    an_open_server_expects_no_startup_process,
    startup_is_signaled_only_in_a_crash_or_an_immediate_shutdown,
    the_pid_file_says_starting_until_the_server_opens,
    the_pid_file_says_standby_only_without_hot_standby,
    the_postmaster_exits_between_its_children,
    an_exited_postmaster_reaps_nothing,
    only_a_smart_shutdown_closes_an_open_server,
    a_crash_restart_begins_with_its_startup_process_alone,
    wal_is_shut_down_before_it_is_archived,
    a_crash_handled_keeps_its_request,
    the_late_states_follow_a_request,
    no_launch_follows_the_last_backend,
    a_checkpointer_is_on_record_or_was_lost,
    a_zombie_is_seen_before_the_exit,
    no_timer_runs_in_a_crash_restart,
)
