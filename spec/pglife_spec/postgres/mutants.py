"""Wrong models, each with one change, and the claim that must fail because of it.

Begin with   MUTANTS. Each has the smallest configuration in which its fault shows.
Owns         the proof that no claim holds for lack of cases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pglife_spec.lang.machine import Machine, Mutant
from pglife_spec.lang.mutate import (
    always,
    never,
    with_value,
    without_condition,
    without_effect,
    without_guard,
)
from pglife_spec.postgres import state
from pglife_spec.postgres.words import (
    PM,
    Control,
    Exit,
    Kind,
    Life,
    PidFile,
    Shutdown,
    StartupStatus,
)

_REQUEST = frozenset({"process_shutdown_request"})
_REAPS = frozenset({"reap_startup"})
MUTANTS: list[Mutant] = []


def _mutant(
    killed_by: str, config: str = "small-18-repaired"
) -> Callable[[Callable[[Machine], Machine]], None]:
    def declare(function: Callable[[Machine], Machine]) -> None:
        doc = " ".join((function.__doc__ or "").split())
        MUTANTS.append(Mutant(function.__name__, doc, killed_by, config, function))

    return declare


def _silent(machine: Machine, family: str, life: Life) -> Machine:
    """The machine in which the deaths of a family are struck off and nothing else."""
    return machine.with_actions(
        replace(a, effects=a.effects[:2])
        if a.family == family and a.choices.get("life") == life.name.lower()
        else a
        for a in machine.actions
    )


@_mutant("transient_states_never_wait")
def stop_backends_is_kept(m: Machine) -> Machine:
    """The first round of a shutdown does not go on to PM_WAIT_BACKENDS."""
    return without_effect(m, state.STATE, PM.PM_WAIT_BACKENDS, _REQUEST)


@_mutant("nobody_but_the_logger_outlives_the_postmaster")
def exit_does_not_wait_for_refused_clients(m: Machine) -> Machine:
    """PM_WAIT_DEAD_END does not look at dead-end children."""
    lives = (state.COUNT[Kind.DEAD_END_BACKEND, life] for life in state.COUNTED_LIVES)
    return without_condition(m, {f"{var.name} = 0" for var in lives})


@_mutant("an_open_server_has_no_fatal_error")
def fatal_error_survives_recovery(m: Machine) -> Machine:
    """FatalError is not taken back when the server opens."""
    return without_effect(m, state.FATAL_ERROR, False)


@_mutant("fatal_error_keeps_to_its_states")
def late_crash_keeps_its_state(m: Machine) -> Machine:
    """A crash during the late states of a shutdown does not go to PM_WAIT_DEAD_END."""
    return without_effect(m, state.STATE, PM.PM_WAIT_DEAD_END, {"reap_one_of_many"})


@_mutant("a_crash_restart_has_no_request_pending", "small-18")
def requests_at_startup_change_nothing(m: Machine) -> Machine:
    """A request in PM_STARTUP is noted and nothing is done."""
    return without_effect(m, state.STATE, PM.PM_STOP_BACKENDS, _REQUEST)


@_mutant("the_kill_clock_has_a_reason")
def clock_runs_on_after_recovery(m: Machine) -> Machine:
    """AbortStartTime is not cleared when the crash is over."""
    return without_effect(m, state.ABORT_CLOCK, False)


@_mutant("fast_and_immediate_leave_the_open_states")
def fast_waits_like_smart(m: Machine) -> Machine:
    """A fast request leaves pmState as it is."""
    return without_effect(m, state.STATE, PM.PM_STOP_BACKENDS, _REQUEST)


@_mutant("smart_is_never_pending_before_the_server_was_open")
def smart_waits_for_recovery(m: Machine) -> Machine:
    """A smart request during start-up waits for its end."""
    return without_effect(m, state.STATE, PM.PM_STOP_BACKENDS, _REQUEST)


@_mutant("doors_close_only_for_a_shutdown")
def smart_is_not_remembered(m: Machine) -> Machine:
    """A smart request closes the doors, but Shutdown stays as it was."""
    return without_effect(m, state.SHUTDOWN, Shutdown.SmartShutdown)


@_mutant("a_smart_shutdown_closes_the_doors")
def smart_accepts(m: Machine) -> Machine:
    """New clients are let in during a smart shutdown."""
    return without_effect(m, state.CONNS_ALLOWED, False)


@_mutant("the_orderly_states_are_orderly")
def immediate_does_not_set_the_state_back(m: Machine) -> Machine:
    """An immediate request leaves the late states as they are (MM-04)."""
    return without_effect(m, state.STATE, PM.PM_WAIT_BACKENDS, _REQUEST)


@_mutant("startup_status_agrees_with_the_records")
def restart_forgets_its_startup_process(m: Machine) -> Machine:
    """StartupStatus is not set when the startup process is forked."""
    return without_effect(m, state.STARTUP_STATUS, StartupStatus.STARTUP_RUNNING)


@_mutant("starting_up_needs_a_startup_process")
def birth_without_startup_process(m: Machine) -> Machine:
    """No startup process is forked at birth."""
    return without_effect(m, state.LIFE[Kind.STARTUP], Life.RUNNING, {"begin"})


@_mutant("a_running_server_has_no_startup_process")
def startup_process_is_not_struck_off(m: Machine) -> Machine:
    """The record of the startup process is kept when it has ended."""
    return without_effect(m, state.LIFE[Kind.STARTUP], Life.ABSENT, _REAPS)


@_mutant("a_failed_startup_is_final")
def failed_startup_is_no_crash(m: Machine) -> Machine:
    """A startup process that failed is noted, but nobody is told to die."""
    return without_effect(m, state.FATAL_ERROR, True, _REAPS)


@_mutant("io_workers_keep_to_their_number")
def io_workers_without_limit(m: Machine) -> Machine:
    """The pool of io workers grows beyond io_workers."""
    guard = next(a for a in m.actions if a.family == "launch_io_worker").guards[-1]
    return without_guard(m, "launch_io_worker", repr(guard))


@_mutant("sessions_keep_to_their_slots")
def one_session_too_many(m: Machine) -> Machine:
    """The last slot is given away once more."""
    guard = next(a for a in m.actions if a.family == "admit_client").guards[-1]
    return without_guard(m, "admit_client", repr(guard))


@_mutant("a_crash_is_announced_once")
def every_death_is_announced(m: Machine) -> Machine:
    """Deaths that the crash itself caused are announced as crashes."""
    return always(m, "terminating any other active server processes")


@_mutant("the_pid_file_says_stopping_while_stopping")
def pid_file_is_not_updated(m: Machine) -> Machine:
    """A shutdown request does not write "stopping"."""
    return without_effect(m, state.PID_FILE, PidFile.STOPPING)


@_mutant("a_running_server_says_ready")
def pid_file_stays_starting(m: Machine) -> Machine:
    """PM_RUN does not write "ready"."""
    return without_effect(m, state.PID_FILE, PidFile.READY)


@_mutant("the_pid_file_lives_as_long_as_the_postmaster")
def pid_file_is_left(m: Machine) -> Machine:
    """The postmaster leaves its pid file behind."""
    return without_effect(m, state.PID_FILE, PidFile.NONE)


@_mutant("nobody_is_forked_out_of_season")
def writers_are_launched_in_any_state(m: Machine) -> Machine:
    """Checkpointer and background writer are started again during a shutdown."""
    guard = next(a for a in m.actions if a.family == "launch_writer").guards[2]
    return without_guard(m, "launch_writer", repr(guard))


@_mutant("the_orderly_states_have_outlived_the_sessions")
def shutdown_checkpoint_beside_sessions(m: Machine) -> Machine:
    """The shutdown checkpoint does not wait for sessions."""
    lives = (state.COUNT[Kind.BACKEND, life] for life in state.COUNTED_LIVES)
    return without_condition(m, {f"{var.name} = 0" for var in lives})


@_mutant("the_checkpointer_ends_after_the_io_workers")
def checkpointer_does_not_wait_for_io_workers(m: Machine) -> Machine:
    """PM_WAIT_IO_WORKERS does not wait (HB-46)."""
    lives = (state.COUNT[Kind.IO_WORKER, life] for life in state.COUNTED_LIVES)
    return without_condition(m, {f"{var.name} = 0" for var in lives})


@_mutant("the_orderly_states_have_their_checkpointer")
def checkpointer_may_leave_first(m: Machine) -> Machine:
    """The death of the checkpointer is no crash."""
    return _silent(m, "reap_checkpointer", Life.CRASHED)


@_mutant("nobody_serves_before_recovery_is_over")
def walwriter_during_recovery(m: Machine) -> Machine:
    """Walwriter and autovacuum launcher are started in any state."""
    return without_guard(m, "launch_in_run", "pmState = PM_RUN")


@_mutant("only_refused_clients_hold_an_orderly_end")
def archival_is_skipped(m: Machine) -> Machine:
    """After the shutdown checkpoint the postmaster goes straight to PM_WAIT_DEAD_END."""
    return with_value(m, state.STATE, PM.PM_WAIT_XLOG_ARCHIVAL, PM.PM_WAIT_DEAD_END)


@_mutant("in_a_crash_everybody_was_told_to_die")
def walwriter_is_not_told(m: Machine) -> Machine:
    """SIGQUIT does not reach the walwriter."""
    return without_effect(m, state.LIFE[Kind.WAL_WRITER], Life.QUITTING)


@_mutant("immediate_has_told_everybody_to_die")
def bgwriter_is_not_told(m: Machine) -> Machine:
    """SIGQUIT does not reach the background writer."""
    return without_effect(m, state.LIFE[Kind.BG_WRITER], Life.QUITTING)


@_mutant("whoever_got_sigquit_has_a_clock")
def nobody_arms_the_clock(m: Machine) -> Machine:
    """AbortStartTime is never set: no SIGKILL follows (HB-35)."""
    return without_effect(m, state.ABORT_CLOCK, True)


@_mutant("no_server_opens_on_memory_of_the_dead")
def crash_of_bgwriter_is_ignored(m: Machine) -> Machine:
    """The background writer's crash is taken for a normal end."""
    return without_effect(m, state.FATAL_ERROR, True, {"reap_background_process"})


@_mutant("a_restart_was_allowed", "no-restart-18")
def restart_in_any_case(m: Machine) -> Machine:
    """restart_after_crash is not looked at."""
    return never(m, 'shutting down because "restart_after_crash" is off')


@_mutant("exit_0_after_an_orderly_request_means_shut_down", "small-15")
def shutdown_checkpoint_is_not_recorded(m: Machine) -> Machine:
    """The shutdown checkpoint does not change the control file."""
    return without_effect(m, state.CONTROL, families={"shutdown_checkpoint_ends"})


@_mutant("exit_0_means_a_request_and_no_crash")
def abnormal_shutdown_is_not_told(m: Machine) -> Machine:
    """A crash during a shutdown ends with status 0."""
    return never(m, "abnormal database system shutdown")


@_mutant("exit_1_means_a_crash")
def every_exit_is_abnormal(m: Machine) -> Machine:
    """An orderly end has status 1."""
    return with_value(m, state.EXIT, Exit.EXITED_0, Exit.EXITED_1)


@_mutant("a_running_server_is_in_production_on_disk")
def recovery_is_not_recorded(m: Machine) -> Machine:
    """The end of recovery does not change the control file."""
    return without_effect(m, state.CONTROL, Control.IN_PRODUCTION)


@_mutant("nobody_is_there_before_the_first_fork", "full-18")
def logger_before_the_first_fork(m: Machine) -> Machine:
    """The loop's care for children begins before the first of them was forked."""
    return without_guard(m, "launch_logger", "not (pmState = PM_INIT)")


@_mutant("versions_keep_to_their_own_states")
def old_state_in_a_new_release(m: Machine) -> Machine:
    """18 waits for the checkpointer in PM_SHUTDOWN."""
    return with_value(m, state.STATE, PM.PM_WAIT_XLOG_SHUTDOWN, PM.PM_SHUTDOWN)


@_mutant("the_last_wait_is_for_children_that_were_told")
def refused_clients_are_not_told(m: Machine) -> Machine:
    """PM_WAIT_DEAD_END waits for dead-end children without telling them to end."""
    deaf = without_effect(m, state.COUNT[Kind.DEAD_END_BACKEND, Life.QUITTING])
    return without_effect(deaf, state.COUNT[Kind.DEAD_END_BACKEND, Life.RUNNING], 0)
