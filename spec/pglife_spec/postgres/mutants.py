"""Wrong models, each with one change, and the claim that must fail because of it.

Begin with MUTANTS. Each has the smallest configuration in which its fault shows. They prove that
no claim is empty.
"""

from collections.abc import Callable
from dataclasses import replace

from pglife_spec.lang.declare import mutant
from pglife_spec.lang.expr import show
from pglife_spec.lang.machine import Machine, Mutant
from pglife_spec.lang.mutate import (
    always,
    never,
    rewrite,
    sets,
    with_value,
    without_condition,
    without_effect,
    without_guard,
)
from pglife_spec.postgres.actions.admission import OPEN
from pglife_spec.postgres.actions.archiver import ALLOWED as ARCHIVER_ALLOWED
from pglife_spec.postgres.standby_mutants import STANDBY_MUTANTS
from pglife_spec.postgres.state.children import COUNT, COUNTED_LIVES, LIFE
from pglife_spec.postgres.state.io_pool import IN_FILE
from pglife_spec.postgres.state.postmaster import (
    ABORT_TIMER,
    CONNS_ALLOWED,
    EXIT,
    FATAL_ERROR,
    PID_FILE,
    SHUTDOWN,
    STARTUP_STATUS,
    STATE,
    TURN,
    state_is,
)
from pglife_spec.postgres.state.shared import ADVANCE_STATE_MACHINE, CONTROL
from pglife_spec.postgres.state.workers import HAVE_CRASHED_WORKER, LISTED
from pglife_spec.postgres.words import (
    PM,
    Control,
    Exit,
    Kind,
    Life,
    Phase,
    PidFile,
    Shutdown,
    StartupStatus,
)
from pglife_spec.postgres.words.kinds import KINDS, UP
from pglife_spec.postgres.words.parameters import SUMMARIZE_WAL
from pglife_spec.postgres.words.repairs import REPAIR_AUTOVAC_ENTRY
from pglife_spec.postgres.words.workers import Registration

_REQUEST = frozenset({"process_shutdown_request"})
_REAPS = frozenset({"reap_startup"})
WORKER = LISTED[Kind.STATIC_WORKER]
Change = Callable[[Machine], Machine]
MUTANTS: list[Mutant] = [*STANDBY_MUTANTS]


def _mutant(killed_by: str, config: str = "tiny-18-repaired") -> Callable[[Change], Change]:
    def declare(function: Change) -> Change:
        MUTANTS.append(mutant(killed_by, config)(function))
        return function

    return declare


def _silent(machine: Machine, family: str, life: Life) -> Machine:
    """The machine that reaps a child with this status and does nothing else."""
    return machine.with_actions(
        replace(a, effects=a.effects[:3])
        if a.family == family and a.choices.get("life") == life.name.lower()
        else a
        for a in machine.actions
    )


@_mutant("transient_states_are_left_at_once")
def stop_backends_is_not_left(m: Machine) -> Machine:
    """The first round of a shutdown does not go on to PM_WAIT_BACKENDS."""
    return without_effect(m, STATE, PM.PM_WAIT_BACKENDS, _REQUEST)


@_mutant("only_the_logger_outlives_the_postmaster", "small-18-repaired")
def exit_ignores_dead_end_children(m: Machine) -> Machine:
    """PM_WAIT_DEAD_END does not look at dead-end children."""
    lives = (COUNT[Kind.DEAD_END_BACKEND, life] for life in COUNTED_LIVES)
    return without_condition(m, {f"{var.name} = 0" for var in lives})


@_mutant("an_open_server_has_no_fatal_error")
def fatal_error_survives_recovery(m: Machine) -> Machine:
    """FatalError is not reset when the server opens."""
    return without_effect(m, FATAL_ERROR, False)


@_mutant("fatal_error_keeps_to_its_states", "small-18-repaired")
def late_crash_keeps_its_state(m: Machine) -> Machine:
    """A crash during the late states of a shutdown does not go to PM_WAIT_DEAD_END."""
    return without_effect(m, STATE, PM.PM_WAIT_DEAD_END, {"reap_counted_child"})


@_mutant("a_crash_restart_has_no_request_pending", "small-18")
def requests_at_startup_change_nothing(m: Machine) -> Machine:
    """A request in PM_STARTUP is recorded and nothing is done."""
    return without_effect(m, STATE, PM.PM_STOP_BACKENDS, _REQUEST)


@_mutant("the_sigkill_timer_needs_a_crash_or_immediate_shutdown")
def timer_survives_recovery(m: Machine) -> Machine:
    """AbortStartTime is not cleared when the crash is over."""
    return without_effect(m, ABORT_TIMER, False)


@_mutant("fast_and_immediate_close_the_server")
def fast_waits_like_smart(m: Machine) -> Machine:
    """A fast request leaves pmState as it is."""
    return without_effect(m, STATE, PM.PM_STOP_BACKENDS, _REQUEST)


@_mutant("smart_is_pending_only_after_the_server_opened")
def smart_waits_for_recovery(m: Machine) -> Machine:
    """A smart request during start-up waits for its end."""
    return without_effect(m, STATE, PM.PM_STOP_BACKENDS, _REQUEST)


@_mutant("connections_are_disallowed_only_in_a_shutdown")
def smart_is_not_recorded(m: Machine) -> Machine:
    """A smart request disallows connections, but Shutdown stays as it was."""
    return without_effect(m, SHUTDOWN, Shutdown.SmartShutdown)


@_mutant("a_shutdown_disallows_new_sessions")
def smart_admits_new_clients(m: Machine) -> Machine:
    """New clients are admitted during a smart shutdown."""
    return without_effect(m, CONNS_ALLOWED, False)


@_mutant("the_checkpoint_states_need_a_request_and_no_crash")
def immediate_does_not_set_the_state_back(m: Machine) -> Machine:
    """An immediate request does not change the late states (MM-04)."""
    return without_effect(m, STATE, PM.PM_WAIT_BACKENDS, _REQUEST)


@_mutant("startup_status_agrees_with_the_records")
def startup_status_is_not_set(m: Machine) -> Machine:
    """StartupStatus is not set when the startup process is forked."""
    return without_effect(m, STARTUP_STATUS, StartupStatus.STARTUP_RUNNING)


@_mutant("starting_up_needs_a_startup_process")
def start_without_startup_process(m: Machine) -> Machine:
    """No startup process is forked at the start."""
    return without_effect(m, LIFE[Kind.STARTUP], Life.RUNNING, {"fork_first_children"})


@_mutant("a_running_server_has_no_startup_process")
def startup_process_stays_on_record(m: Machine) -> Machine:
    """The record of the startup process is kept when it has exited."""
    return without_effect(m, LIFE[Kind.STARTUP], Life.ABSENT, _REAPS)


@_mutant("a_failed_startup_is_final")
def failed_startup_is_no_crash(m: Machine) -> Machine:
    """A startup process that failed is recorded, but no child is signaled."""
    return without_effect(m, FATAL_ERROR, True, _REAPS)


@_mutant("io_workers_do_not_exceed_the_setting")
def io_workers_without_limit(m: Machine) -> Machine:
    """The pool of io workers grows beyond io_workers."""
    guard = next(a for a in m.actions if a.family == "launch_io_worker").guards[-2]
    return without_guard(m, "launch_io_worker", show(guard))


@_mutant("sessions_do_not_exceed_the_slots")
def one_session_too_many(m: Machine) -> Machine:
    """A client is admitted although no slot is free."""
    guard = next(a for a in m.actions if a.family == "admit_client").guards[-2]
    return without_guard(m, "admit_client", show(guard))


@_mutant("a_crash_is_announced_once")
def every_exit_is_announced(m: Machine) -> Machine:
    """Exits that the crash itself caused are announced as crashes."""
    return always(m, "terminating any other active server processes")


@_mutant("the_pid_file_says_stopping_in_a_shutdown")
def pid_file_is_not_updated(m: Machine) -> Machine:
    """A shutdown request does not write "stopping"."""
    return without_effect(m, PID_FILE, PidFile.STOPPING)


@_mutant("the_pid_file_says_ready_in_pm_run")
def pid_file_stays_starting(m: Machine) -> Machine:
    """PM_RUN does not write "ready"."""
    return without_effect(m, PID_FILE, PidFile.READY)


@_mutant("the_pid_file_exists_while_the_postmaster_is_alive")
def pid_file_is_not_removed(m: Machine) -> Machine:
    """The postmaster does not remove its pid file."""
    return without_effect(m, PID_FILE, PidFile.NONE)


@_mutant("children_are_forked_only_in_allowed_states")
def writers_are_launched_in_any_state(m: Machine) -> Machine:
    """Checkpointer and background writer are launched during a shutdown."""
    return without_guard(m, "launch_background_process", show(state_is(*UP)))


@_mutant("the_shutdown_checkpoint_follows_the_last_session")
def shutdown_checkpoint_beside_sessions(m: Machine) -> Machine:
    """The shutdown checkpoint does not wait for sessions."""
    lives = (COUNT[Kind.BACKEND, life] for life in COUNTED_LIVES)
    return without_condition(m, {f"{var.name} = 0" for var in lives})


@_mutant("the_checkpointer_exits_after_the_io_workers", "small-18-repaired")
def checkpointer_does_not_wait_for_io_workers(m: Machine) -> Machine:
    """PM_WAIT_IO_WORKERS does not wait (HB-46)."""
    lives = (COUNT[Kind.IO_WORKER, life] for life in COUNTED_LIVES)
    return without_condition(m, {f"{var.name} = 0" for var in lives})


@_mutant("the_checkpoint_states_have_a_checkpointer")
def checkpointer_may_exit_first(m: Machine) -> Machine:
    """The crash of the checkpointer is handled as a normal exit."""
    return _silent(m, "reap_checkpointer", Life.CRASHED)


@_mutant("no_session_before_the_end_of_recovery")
def walwriter_during_recovery(m: Machine) -> Machine:
    """Walwriter and autovacuum launcher are launched in any state."""
    return without_guard(m, "launch_background_process", "pmState = PM_RUN")


@_mutant("only_dead_end_children_delay_an_orderly_exit")
def archival_is_skipped(m: Machine) -> Machine:
    """After the shutdown checkpoint the postmaster goes straight to PM_WAIT_DEAD_END."""
    return with_value(m, STATE, PM.PM_WAIT_XLOG_ARCHIVAL, PM.PM_WAIT_DEAD_END)


@_mutant("in_a_crash_every_child_was_sent_sigquit")
def sigquit_misses_the_walwriter(m: Machine) -> Machine:
    """SIGQUIT does not reach the walwriter."""
    return without_effect(m, LIFE[Kind.WAL_WRITER], Life.QUITTING)


@_mutant("an_immediate_shutdown_sends_sigquit_to_every_child")
def sigquit_misses_the_bgwriter(m: Machine) -> Machine:
    """SIGQUIT does not reach the background writer."""
    return without_effect(m, LIFE[Kind.BG_WRITER], Life.QUITTING)


@_mutant("sigquit_arms_the_sigkill_timer")
def timer_is_never_armed(m: Machine) -> Machine:
    """AbortStartTime is never set: no SIGKILL follows (HB-35)."""
    return without_effect(m, ABORT_TIMER, True)


@_mutant("no_server_opens_on_shared_memory_of_a_crash")
def crash_of_bgwriter_is_ignored(m: Machine) -> Machine:
    """The background writer's crash is handled as a normal exit."""
    return without_effect(m, FATAL_ERROR, True, {"reap_background_process"})


@_mutant("a_crash_restart_needs_the_setting", "no-restart-18")
def restart_in_any_case(m: Machine) -> Machine:
    """restart_after_crash has no effect."""
    return never(m, 'shutting down because "restart_after_crash" is off')


@_mutant("exit_0_after_an_orderly_request_means_shut_down", "small-15")
def shutdown_checkpoint_is_not_recorded(m: Machine) -> Machine:
    """The shutdown checkpoint does not change the control file."""
    return without_effect(m, CONTROL, families={"checkpointer_finishes_shutdown_checkpoint"})


@_mutant("exit_0_means_a_request_and_no_crash")
def abnormal_shutdown_is_not_reported(m: Machine) -> Machine:
    """The postmaster exits with 0 after a crash during a shutdown."""
    return never(m, "abnormal database system shutdown")


@_mutant("exit_1_means_a_crash")
def every_exit_is_abnormal(m: Machine) -> Machine:
    """The postmaster exits with 1 after an orderly shutdown."""
    return with_value(m, EXIT, Exit.EXITED_0, Exit.EXITED_1)


@_mutant("a_running_server_is_in_production_on_disk")
def recovery_is_not_recorded(m: Machine) -> Machine:
    """The end of recovery does not change the control file."""
    return without_effect(m, CONTROL, Control.IN_PRODUCTION)


@_mutant("no_child_before_the_first_fork", "full-18")
def logger_before_the_first_fork(m: Machine) -> Machine:
    """The logger is launched before the first child."""
    return without_guard(m, "launch_logger", show(state_is(*KINDS[Kind.LOGGER].launched)))


@_mutant("releases_have_their_own_states")
def old_state_in_a_new_release(m: Machine) -> Machine:
    """18 waits for the checkpointer in PM_SHUTDOWN."""
    return with_value(m, STATE, PM.PM_WAIT_XLOG_SHUTDOWN, PM.PM_SHUTDOWN)


@_mutant("wait_dead_end_has_signaled_every_dead_end_child", "small-18-repaired")
def dead_end_children_are_not_signaled(m: Machine) -> Machine:
    """PM_WAIT_DEAD_END waits for dead-end children but sends them no signal."""
    unquit = without_effect(m, COUNT[Kind.DEAD_END_BACKEND, Life.QUITTING])
    return without_effect(unquit, COUNT[Kind.DEAD_END_BACKEND, Life.RUNNING], 0)


@_mutant("archiver_and_walsenders_exit_before_the_io_workers", "walsender-18")
def archiver_and_walsenders_are_not_awaited(m: Machine) -> Machine:
    """PM_WAIT_XLOG_ARCHIVAL does not wait for archiver and walsenders."""
    counts = (COUNT[Kind.WAL_SENDER, life] for life in COUNTED_LIVES)
    texts = {f"{var.name} = 0" for var in counts} | {show(LIFE[Kind.ARCHIVER] == Life.ABSENT)}
    return without_condition(m, texts)


@_mutant("archiver_and_walsenders_run_until_the_shutdown_checkpoint", "walsender-15")
def walsenders_are_ended_with_the_backends(m: Machine) -> Machine:
    """The first round of a shutdown ends walsenders as well."""
    running, ending = (COUNT[Kind.WAL_SENDER, x] for x in (Life.RUNNING, Life.TERMINATING))
    also = (ending.becomes(ending + running), running.becomes(0))
    return rewrite(m, lambda e: (e, *also) if sets(e, STATE, PM.PM_WAIT_BACKENDS) else e, _REQUEST)


@_mutant("archiver_and_walsenders_see_the_shutdown_checkpoint", "walsender-18")
def checkpoint_is_reported_before_it_is_written(m: Machine) -> Machine:
    """The checkpointer reports the shutdown checkpoint, but does not write the control file."""
    return without_effect(m, CONTROL, families={"checkpointer_finishes_shutdown_checkpoint"})


@_mutant("the_archiver_needs_its_setting", "summarizer-18")
def archiver_without_its_setting(m: Machine) -> Machine:
    """The archiver is launched although archive_mode is off."""
    return without_guard(m, "launch_archiver", show(ARCHIVER_ALLOWED))


@_mutant("a_smart_shutdown_waits_for_no_walsender", "walsender-18")
def a_new_walsender_says_nothing(m: Machine) -> Machine:
    """A backend that becomes a walsender does not send ADVANCE_STATE_MACHINE."""
    return without_effect(m, ADVANCE_STATE_MACHINE, True)


@_mutant("the_summarizer_needs_its_setting", "archiver-18")
def summarizer_without_its_setting(m: Machine) -> Machine:
    """The WAL summarizer is launched although summarize_wal is off."""
    return without_guard(m, "launch_background_process", show(SUMMARIZE_WAL))


_RESETS = frozenset({"end_reaping", "process_pmsignal", "process_shutdown_request"})


@_mutant("background_workers_wait_for_their_time", "workers-18")
def workers_start_in_a_crash(m: Machine) -> Machine:
    """FatalError does not keep background workers from starting."""
    return without_condition(m, {show(~FATAL_ERROR)}, {"start_background_workers"})


@_mutant("a_finished_worker_never_runs_again", "workers-18")
def a_finished_worker_stays_listed(m: Machine) -> Machine:
    """A background worker that exits with 0 stays on the list."""
    return without_effect(m, WORKER, Registration.UNLISTED, {"reap_finished_background_worker"})


@_mutant("no_background_worker_is_forgotten", "workers-18")
def an_exit_does_not_set_the_flag(m: Machine) -> Machine:
    """The exit of a background worker does not set HaveCrashedWorker."""
    return without_effect(m, HAVE_CRASHED_WORKER, True, {"reap_background_worker"})


@_mutant("a_crash_ends_every_restart_interval", "workers-15")
def crash_times_survive_a_crash(m: Machine) -> Machine:
    """New shared memory leaves the crash times of background workers as they were."""
    return without_effect(m, WORKER, families=_RESETS)


@_mutant("every_registered_worker_runs_once", "workers-18")
def workers_are_not_registered(m: Machine) -> Machine:
    """Workers of shared_preload_libraries are not registered at the start."""
    return without_effect(m, WORKER, families={"fork_first_children"})


@_mutant("the_loop_comes_to_what_it_must_not_pass", "forks-fail-18")
def the_loop_waits_for_a_fork(m: Machine) -> Machine:
    """The loop does not go on when a launch fails."""
    return without_effect(m, TURN[Phase.REQUESTS], families={"fork_begins_to_fail"})


@_mutant("autovacuum_workers_have_an_entry_each", "autovacuum-18")
def launcher_asks_without_a_free_entry(m: Machine) -> Machine:
    """The launcher asks for a worker although no entry is free."""
    guard = next(a for a in m.actions if a.family == "launcher_asks_for_worker").guards[-1]
    return without_guard(m, "launcher_asks_for_worker", show(guard))


@_mutant("autovacuum_workers_wait_for_an_open_server", "autovacuum-18")
def launcher_and_worker_in_recovery(m: Machine) -> Machine:
    """The launcher runs in any state, and a worker is forked where no session would be admitted."""
    launched = without_guard(m, "launch_background_process", show(state_is(PM.PM_RUN)))
    return without_condition(launched, {show(OPEN)}, {"process_pmsignal"})


@_mutant("no_autovacuum_entry_is_lost", "emergency-18")
def emergency_launcher_overwrites_the_entry(m: Machine) -> Machine:
    """With autovacuum off a second launcher overwrites the entry of a worker to come."""
    return without_condition(m, {show(~REPAIR_AUTOVAC_ENTRY)}, {"emergency_launcher_exits"})


@_mutant("the_pool_has_a_size_that_the_file_had", "io-pool-18")
def the_pool_may_be_empty(m: Machine) -> Machine:
    """io_workers may be 0."""
    return without_guard(m, "operator_changes_io_workers", show(IN_FILE > 1))
