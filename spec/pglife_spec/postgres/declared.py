"""The declared actions by name: `declared.startup_finishes_recovery` is the list of its cases.

An action that is declared for several kinds of children, or for several shutdown modes, has one
case for each; `Action.choices` says which it is. `case_of()` picks one.
"""

import enum
from collections.abc import Sequence

from pglife_spec.lang.machine import Action
from pglife_spec.postgres.actions.admission import (
    accept_client_in_wait_dead_end,
    admit_client,
    client_disconnects,
    fork_for_client_fails,
    operator_terminates_session,
    refuse_client,
)
from pglife_spec.postgres.actions.archiver import (
    launch_archiver,
    reap_and_replace_archiver,
    reap_archiver,
    reap_startup_and_launch_archiver,
)
from pglife_spec.postgres.actions.autovacuum import signal_autovacuum_launcher
from pglife_spec.postgres.actions.faults import (
    child_crashes,
    counted_child_crashes,
    fork_begins_to_fail,
    fork_works_again,
    operator_sends_sigint_to_checkpointer,
    operator_sends_sigusr2_to_checkpointer,
    operator_stops_io_worker,
    operator_terminates_background_process,
    startup_fails,
    startup_fork_begins_to_fail,
)
from pglife_spec.postgres.actions.io_pool import operator_changes_io_workers, shrink_io_pool
from pglife_spec.postgres.actions.launch import (
    fork_first_children,
    launch_background_process,
    launch_io_worker,
    launch_logger,
)
from pglife_spec.postgres.actions.reaping import (
    end_reaping,
    process_pmsignal,
    reap_background_process,
    reap_checkpointer,
    reap_counted_child,
    reap_logger,
    reap_startup,
)
from pglife_spec.postgres.actions.requests import (
    issue_sigkill,
    operator_requests_reload,
    operator_requests_shutdown,
    process_reload_request,
    process_shutdown_request,
)
from pglife_spec.postgres.actions.standby import (
    launch_slotsync_worker,
    launch_walreceiver,
    operator_promotes,
    reap_replication_process,
)
from pglife_spec.postgres.actions.workers import (
    reap_background_worker,
    reap_finished_background_worker,
    restart_background_worker,
    start_background_workers,
)
from pglife_spec.postgres.children.after_wal import (
    archiver_fails,
    archiver_finishes,
    backend_becomes_walsender,
    operator_stops_archiver,
    walsender_disconnects,
    walsender_finishes,
)
from pglife_spec.postgres.children.autovacuum import (
    autovacuum_worker_exits_without_entry,
    autovacuum_worker_frees_its_entry,
    autovacuum_worker_takes_its_entry,
    emergency_launcher_exits,
    launcher_asks_again,
    launcher_asks_for_worker,
    launcher_cancels_request,
    launcher_is_asked_for,
)
from pglife_spec.postgres.children.checkpointer import (
    checkpointer_begins_shutdown_checkpoint,
    checkpointer_exits_at_sigusr2,
    checkpointer_finishes_shutdown_checkpoint,
)
from pglife_spec.postgres.children.exits import (
    background_process_exits_at_sigterm,
    child_exits_at_sigquit,
    dead_end_child_exits,
    signaled_child_exits,
)
from pglife_spec.postgres.children.replication import (
    slotsync_worker_connects,
    slotsync_worker_exits_at_sigterm,
    slotsync_worker_fails,
    slotsync_worker_is_not_wanted,
    slotsync_worker_starts,
    slotsync_worker_stops_at_promotion,
    walreceiver_exits_at_sigterm,
    walreceiver_is_not_wanted,
    walreceiver_loses_the_primary,
    walreceiver_starts,
)
from pglife_spec.postgres.children.standby import (
    operator_resumes_replay,
    startup_ends_redo_at_target,
    startup_enters_archive_recovery,
    startup_exits_at_target,
    startup_gives_up_walreceiver,
    startup_is_promoted,
    startup_pauses_at_target,
    startup_reaches_consistency,
    startup_removes_signal_file,
    startup_requests_walreceiver,
    startup_restarts_walreceiver,
    startup_stops_slotsync_worker,
)
from pglife_spec.postgres.children.startup import (
    startup_begins_redo,
    startup_exits,
    startup_exits_at_sigterm,
    startup_finishes_recovery,
    startup_writes_control_file,
)
from pglife_spec.postgres.children.workers import background_worker_ends

LAUNCHES = (
    *launch_logger,
    *launch_io_worker,
    *launch_background_process,
    *launch_archiver,
    *start_background_workers,
    *restart_background_worker,
    *launch_slotsync_worker,
    *launch_walreceiver,
)
"""The postmaster starts a missing child."""

REAPS = (
    *reap_startup_and_launch_archiver,
    *reap_startup,
    *reap_checkpointer,
    *reap_background_process,
    *reap_background_worker,
    *reap_finished_background_worker,
    *reap_and_replace_archiver,
    *reap_archiver,
    *reap_logger,
    *reap_counted_child,
    *reap_replication_process,
)
"""The postmaster reaps one child."""

ADMISSIONS = (*admit_client, *refuse_client, *fork_for_client_fails)
"""The postmaster accepts a client's connection."""


def case_of(cases: Sequence[Action], **choices: enum.Enum) -> Action:
    """The case with these choices; without choices the only one.

    Raises:
        ValueError: if there is no such case, or more than one.
    """
    wanted = {name: value.name.lower() for name, value in choices.items()}
    (found,) = (a for a in cases if wanted.items() <= a.choices.items())
    return found


def among(action: Action, *declared: Sequence[Action]) -> bool:
    """Whether the action is one of these; actions are known by their names."""
    return any(action.name == case.name for cases in declared for case in cases)


__all__ = [
    "ADMISSIONS",
    "LAUNCHES",
    "REAPS",
    "accept_client_in_wait_dead_end",
    "admit_client",
    "among",
    "archiver_fails",
    "archiver_finishes",
    "autovacuum_worker_exits_without_entry",
    "autovacuum_worker_frees_its_entry",
    "autovacuum_worker_takes_its_entry",
    "backend_becomes_walsender",
    "background_process_exits_at_sigterm",
    "background_worker_ends",
    "case_of",
    "checkpointer_begins_shutdown_checkpoint",
    "checkpointer_exits_at_sigusr2",
    "checkpointer_finishes_shutdown_checkpoint",
    "child_crashes",
    "child_exits_at_sigquit",
    "client_disconnects",
    "counted_child_crashes",
    "dead_end_child_exits",
    "emergency_launcher_exits",
    "end_reaping",
    "fork_begins_to_fail",
    "fork_first_children",
    "fork_for_client_fails",
    "fork_works_again",
    "issue_sigkill",
    "launch_archiver",
    "launch_background_process",
    "launch_io_worker",
    "launch_logger",
    "launch_slotsync_worker",
    "launch_walreceiver",
    "launcher_asks_again",
    "launcher_asks_for_worker",
    "launcher_cancels_request",
    "launcher_is_asked_for",
    "operator_changes_io_workers",
    "operator_promotes",
    "operator_requests_reload",
    "operator_requests_shutdown",
    "operator_resumes_replay",
    "operator_sends_sigint_to_checkpointer",
    "operator_sends_sigusr2_to_checkpointer",
    "operator_stops_archiver",
    "operator_stops_io_worker",
    "operator_terminates_background_process",
    "operator_terminates_session",
    "process_pmsignal",
    "process_reload_request",
    "process_shutdown_request",
    "reap_and_replace_archiver",
    "reap_archiver",
    "reap_background_process",
    "reap_background_worker",
    "reap_checkpointer",
    "reap_counted_child",
    "reap_finished_background_worker",
    "reap_logger",
    "reap_replication_process",
    "reap_startup",
    "reap_startup_and_launch_archiver",
    "refuse_client",
    "restart_background_worker",
    "shrink_io_pool",
    "signal_autovacuum_launcher",
    "signaled_child_exits",
    "slotsync_worker_connects",
    "slotsync_worker_exits_at_sigterm",
    "slotsync_worker_fails",
    "slotsync_worker_is_not_wanted",
    "slotsync_worker_starts",
    "slotsync_worker_stops_at_promotion",
    "start_background_workers",
    "startup_begins_redo",
    "startup_ends_redo_at_target",
    "startup_enters_archive_recovery",
    "startup_exits",
    "startup_exits_at_sigterm",
    "startup_exits_at_target",
    "startup_fails",
    "startup_finishes_recovery",
    "startup_fork_begins_to_fail",
    "startup_gives_up_walreceiver",
    "startup_is_promoted",
    "startup_pauses_at_target",
    "startup_reaches_consistency",
    "startup_removes_signal_file",
    "startup_requests_walreceiver",
    "startup_restarts_walreceiver",
    "startup_stops_slotsync_worker",
    "startup_writes_control_file",
    "walreceiver_exits_at_sigterm",
    "walreceiver_is_not_wanted",
    "walreceiver_loses_the_primary",
    "walreceiver_starts",
    "walsender_disconnects",
    "walsender_finishes",
]
