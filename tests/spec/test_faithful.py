"""Runs that PostgreSQL can take, and runs that it cannot: where the model was once too free.

Begin with RUNS: each row is a run by the names of its actions, and what is true after it; or the
last step is one that PostgreSQL cannot take there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import pytest

from pglife_spec.lang.expr import Value
from pglife_spec.meanings.python.program import DISABLED, Program, compile_machine
from pglife_spec.postgres.build import build
from pglife_spec.postgres.configurations import config

START = ("fork_first_children",)
OPEN = (*START, "startup_finishes_recovery", "startup_exits", "reap_startup(exited_0)")
OPENED = (*OPEN, "end_reaping", "launch_background_process(wal_writer)")
FAST = ("operator_requests_shutdown(fastshutdown)", "process_shutdown_request(fastshutdown)")
IMMEDIATE = (
    "operator_requests_shutdown(immediateshutdown)",
    "process_shutdown_request(immediateshutdown)",
)
#: A fast shutdown in PM_RUN, up to the shutdown checkpoint.
LATE = (
    *OPENED,
    *FAST,
    "background_process_exits_at_sigterm(bg_writer)",
    "background_process_exits_at_sigterm(wal_writer)",
    "reap_background_process(bg_writer, exited_0)",
    "reap_background_process(wal_writer, exited_0)",
    "end_reaping",
)
REAP_BG_WRITER = "reap_background_process(bg_writer, crashed)"
KILLED = (
    "startup(crashed)",
    "checkpointer(crashed)",
    "background_process(bg_writer, crashed)",
    "counted_child(io_worker, crashed)",
)
CRASH = ("child_crashes(checkpointer)", "reap_checkpointer(crashed)")
IO_WORKER_STOPS = (
    "operator_stops_io_worker",
    "signaled_child_exits(io_worker)",
    "reap_counted_child(io_worker, exited_0)",
)


@dataclass(frozen=True)
class Run:
    """Steps from a start, by default a clean one, and some values after them; None: the last step
    is impossible."""

    claim: str
    version: int
    steps: tuple[str, ...]
    then: Mapping[str, object] | None
    params: tuple[tuple[str, Value], ...] = ()
    control: str = "SHUT_DOWN"

    def __str__(self) -> str:
        return f"{self.claim.replace(' ', '_')}-{self.version}"


STRAY = (("stray_signals", True),)
RELOADS = (("reloads", True),)
NO_IO_WORKERS = (("io_workers", 0),)
FORKS = (("fork_faults", True), *NO_IO_WORKERS)

UNCLEAN = "IN_PRODUCTION"
#: A death and a message are both there after a step.
BOTH = (
    *START,
    "startup_writes_control_file",
    "startup_begins_redo",
    "child_crashes(bg_writer)",
    "operator_requests_reload",
    "process_reload_request",
)
RUNS = [
    Run(
        "a death between the entry in the control file and the message leaves the entry",
        18,
        (*START, "startup_writes_control_file", "child_crashes(startup)"),
        {"control": "IN_CRASH_RECOVERY", "RECOVERY_STARTED": False},
        control=UNCLEAN,
    ),
    Run(
        "redo is not reported before it is in the control file",
        18,
        (*START, "startup_begins_redo"),
        None,
        control=UNCLEAN,
    ),
    Run(
        "the startup process may still begin redo when SIGQUIT was sent",
        18,
        (*START, "startup_writes_control_file", *CRASH, "startup_begins_redo"),
        {"startup": "QUITTING", "RECOVERY_STARTED": True},
        control=UNCLEAN,
    ),
    Run(
        "no child is left behind where every fork fails",
        18,
        ("fork_begins_to_fail", *START),
        {"checkpointer": "ABSENT", "bgwriter": "ABSENT", "postmaster": "EXITED_1"},
        FORKS,
    ),
    Run(
        "children are left behind where only the startup process cannot be forked",
        18,
        ("startup_fork_begins_to_fail", *START),
        {"checkpointer": "RUNNING", "bgwriter": "RUNNING", "postmaster": "EXITED_1"},
        FORKS,
    ),
    Run(
        "a late crash closes the sockets",
        18,
        (*LATE, *CRASH),
        {"pmState": "PM_WAIT_DEAD_END", "listening": False},
    ),
    Run(
        "after a late crash an immediate request does not open the sockets again",
        18,
        (*LATE, *CRASH, "end_reaping", *IMMEDIATE, "refuse_client(cac_shutdown)"),
        None,
    ),
    Run("deaths come before messages", 18, (*BOTH, "process_pmsignal"), None, RELOADS, UNCLEAN),
    Run("messages come before deaths", 15, (*BOTH, REAP_BG_WRITER), None, RELOADS, UNCLEAN),
    Run(
        "what was pending after one reaping comes before the next",
        18,
        (*OPEN, *FAST[:1], "end_reaping", "child_crashes(bg_writer)", REAP_BG_WRITER),
        None,
    ),
    Run(
        "what is missing is launched before a request that waited",
        18,
        (*OPEN, *FAST[:1], "end_reaping", *FAST[1:]),
        None,
    ),
    Run(
        "a handler follows a handler before anything is launched",
        15,
        (*OPEN, *FAST[:1], "end_reaping", *FAST[1:]),
        {"pmState": "PM_WAIT_BACKENDS"},
    ),
    Run(
        "a client of the wait that led to the last state is not served after the timer",
        18,
        (
            *START,
            *IMMEDIATE,
            "issue_sigkill",
            *(f"reap_{child}" for child in KILLED),
            "end_reaping",
        ),
        {"postmaster": "EXITED_0"},
    ),
    Run(
        "SIGUSR2 during the shutdown checkpoint lets the checkpointer finish and exit",
        18,
        (
            *LATE,
            "operator_sends_sigusr2_to_checkpointer",
            "checkpointer_begins_shutdown_checkpoint",
            "checkpointer_finishes_shutdown_checkpoint",
        ),
        {"checkpointer": "EXITED_0", "XLOG_IS_SHUTDOWN": True, "control": "SHUT_DOWN"},
        STRAY,
    ),
    Run(
        "the postmaster takes that exit for a crash",
        18,
        (
            *LATE,
            "operator_sends_sigusr2_to_checkpointer",
            "checkpointer_begins_shutdown_checkpoint",
            "checkpointer_finishes_shutdown_checkpoint",
            "reap_checkpointer(exited_0)",
        ),
        {"FatalError": True, "pmState": "PM_WAIT_DEAD_END"},
        STRAY,
    ),
    Run(
        "an io worker is replaced while it is reaped",
        18,
        (*START, *IO_WORKER_STOPS),
        {"io_worker.running": 1, "reaping": True},
    ),
    Run(
        "no io worker is launched while another child is reaped",
        18,
        (
            *START,
            "startup_finishes_recovery",
            "startup_exits",
            "counted_child_crashes(io_worker, running)",
            "reap_startup(exited_0)",
            "launch_io_worker",
        ),
        None,
    ),
]


@cache
def server(version: int, params: tuple[tuple[str, Value], ...]) -> Program:
    """A small server of a release."""
    return compile_machine(build(), config("faithful", version, **dict(params)))


@pytest.mark.parametrize("run", RUNS, ids=str)
def test_a_run_is_as_in_postgresql(run: Run) -> None:
    program = server(run.version, run.params)
    state = next(s for s in program.initial if program.unpack(s)["control"].name == run.control)
    *before, last = run.steps
    for step in before:
        state = program.step(step, state)
        assert state >= 0, step
    if run.then is None:
        assert program.step(last, state) == DISABLED
        return
    values = program.unpack(program.step(last, state))
    assert {name: getattr(values[name], "name", values[name]) for name in run.then} == run.then
