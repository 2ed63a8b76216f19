"""The declared actions by name: `declared.recovery_ends` is the list of its cases.

An action that is declared for several kinds of children, or for several shutdown modes, has one
case for each; `Action.choices` says which it is. `case_of()` picks one.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from pglife_spec.lang.machine import Action
from pglife_spec.postgres.actions.admission import (
    admit_client,
    client_leaves,
    client_meets_fork_failure,
    refuse_client,
    serve_last_client,
    session_is_terminated,
)
from pglife_spec.postgres.actions.birth import (
    begin,
    launch_in_run,
    launch_io_worker,
    launch_logger,
    launch_logical_replication_launcher,
    launch_writer,
)
from pglife_spec.postgres.actions.faults import (
    background_process_is_terminated,
    checkpointer_gets_stray_sigint,
    checkpointer_gets_stray_sigusr2,
    child_crashes,
    fork_begins_to_fail,
    fork_works_again,
    io_worker_is_terminated,
    one_of_many_crashes,
    processes_become_scarce,
    startup_fails,
)
from pglife_spec.postgres.actions.reaping import (
    end_reaping,
    process_pmsignal,
    reap_background_process,
    reap_checkpointer,
    reap_logger,
    reap_logical_replication_launcher,
    reap_one_of_many,
    reap_startup,
)
from pglife_spec.postgres.actions.requests import (
    issue_sigkill,
    operator_requests_reload,
    operator_requests_shutdown,
    process_reload_request,
    process_shutdown_request,
)
from pglife_spec.postgres.children import (
    background_process_ends_when_told,
    checkpointer_ends_when_told,
    child_quits,
    recovery_ends,
    refused_client_goes,
    shutdown_checkpoint_begins,
    shutdown_checkpoint_ends,
    startup_begins_redo,
    startup_ends_when_told,
    startup_finishes,
    told_child_ends,
)

LAUNCHES = (
    *launch_logger,
    *launch_io_worker,
    *launch_writer,
    *launch_in_run,
    *launch_logical_replication_launcher,
)
"""The postmaster starts a missing child."""

REAPS = (
    *reap_startup,
    *reap_checkpointer,
    *reap_background_process,
    *reap_logical_replication_launcher,
    *reap_logger,
    *reap_one_of_many,
)
"""The postmaster reaps one child."""

ADMISSIONS = (*admit_client, *refuse_client, *client_meets_fork_failure)
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
    "admit_client",
    "among",
    "background_process_ends_when_told",
    "background_process_is_terminated",
    "begin",
    "case_of",
    "checkpointer_ends_when_told",
    "checkpointer_gets_stray_sigint",
    "checkpointer_gets_stray_sigusr2",
    "child_crashes",
    "child_quits",
    "client_leaves",
    "client_meets_fork_failure",
    "end_reaping",
    "fork_begins_to_fail",
    "fork_works_again",
    "io_worker_is_terminated",
    "issue_sigkill",
    "launch_in_run",
    "launch_io_worker",
    "launch_logger",
    "launch_logical_replication_launcher",
    "launch_writer",
    "one_of_many_crashes",
    "operator_requests_reload",
    "operator_requests_shutdown",
    "process_pmsignal",
    "process_reload_request",
    "process_shutdown_request",
    "processes_become_scarce",
    "reap_background_process",
    "reap_checkpointer",
    "reap_logger",
    "reap_logical_replication_launcher",
    "reap_one_of_many",
    "reap_startup",
    "recovery_ends",
    "refuse_client",
    "refused_client_goes",
    "serve_last_client",
    "session_is_terminated",
    "shutdown_checkpoint_begins",
    "shutdown_checkpoint_ends",
    "startup_begins_redo",
    "startup_ends_when_told",
    "startup_fails",
    "startup_finishes",
    "told_child_ends",
]
