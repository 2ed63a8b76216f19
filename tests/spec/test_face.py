"""The public face: names, what is imported when, and what each step shows from outside."""

import signal
import subprocess
import sys

import pytest

import pglife_spec
from pglife_spec import (
    CONFIGS,
    Config,
    Kind,
    Life,
    Schedule,
    actions,
    among,
    case_of,
    machine,
    outside,
    program,
    schedule,
    view_of,
)
from pglife_spec.postgres.words import PM, Signal


@pytest.mark.parametrize("name", pglife_spec.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(pglife_spec, name) is not None


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(pglife_spec, "nothing")  # noqa: B009


def test_z3_is_imported_only_for_proofs() -> None:
    code = (
        "import sys, pglife_spec; assert 'z3' not in sys.modules; "
        "from pglife_spec import prove_each; assert 'z3' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Actions.


def test_case_of_needs_one_case() -> None:
    assert case_of(actions.child_crashes, kind=Kind.LOGGER).choices == {"kind": "logger"}
    with pytest.raises(ValueError, match="too many values"):
        case_of(actions.child_crashes)
    with pytest.raises(ValueError, match="not enough values"):
        case_of(actions.child_crashes, kind=Kind.BACKEND)


def test_every_step_has_one_cause() -> None:
    """A step of the postmaster or of a child needs no cause; the rest is listed."""
    unasked = {
        a.family
        for a in machine().actions
        if outside.cause_of(a) is outside.Cause.NOTHING and a.actor.is_environment
    }
    assert unasked == {
        "archiver_fails",
        "backend_becomes_walsender",
        "background_worker_ends",
        "client_disconnects",
        "launcher_asks_for_worker",
        "launcher_cancels_request",
        "launcher_is_asked_for",
        "operator_changes_io_workers",
        "operator_requests_reload",
        "walsender_disconnects",
    }
    by_client = {a.family for a in machine().actions if outside.cause_of(a) is outside.Cause.CLIENT}
    assert by_client == {"admit_client", "refuse_client", "fork_for_client_fails"}


def test_every_death_by_sigquit_is_reaped_as_a_crash() -> None:
    pairs = outside.reap_after_quit()
    assert {outside.kind_of(quits) for quits, _ in pairs} == set(Kind) - {Kind.LOGGER}
    for quits, reap in pairs:
        assert outside.kind_of(quits) is outside.kind_of(reap)
        assert outside.life_of(reap) is Life.CRASHED


@pytest.mark.parametrize(
    ("kind", "number", "expected"),
    [
        (Kind.WAL_WRITER, signal.SIGKILL, {"child_crashes(wal_writer)"}),
        (Kind.WAL_WRITER, signal.SIGINT, {"operator_terminates_background_process(wal_writer)"}),
        (Kind.BG_WRITER, signal.SIGINT, set()),
        (Kind.CHECKPOINTER, signal.SIGTERM, set()),
        (Kind.CHECKPOINTER, signal.SIGUSR2, {"operator_sends_sigusr2_to_checkpointer"}),
        (Kind.IO_WORKER, signal.SIGUSR2, {"operator_stops_io_worker"}),
        (Kind.STARTUP, signal.SIGTERM, {"startup_fails"}),
        (Kind.BACKEND, signal.SIGTERM, set()),
        (
            Kind.BACKEND,
            signal.SIGQUIT,
            {
                f"counted_child_crashes(backend, {life})"
                for life in ("running", "terminating", "quitting")
            },
        ),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_signal_to_a_child(kind: Kind, number: signal.Signals, expected: set[str]) -> None:
    assert {a.name for a in outside.signal_to_child(kind, number)} == expected


@pytest.mark.parametrize("mode", ["smart", "fast", "immediate"])
def test_shutdown_request_by_the_words_of_the_log(mode: str) -> None:
    assert outside.shutdown_request(mode).choices == {"mode": f"{mode}shutdown"}


# Log lines.


@pytest.mark.parametrize(
    ("level", "message", "line"),
    [
        ("LOG", "database system is shut down", ("log", "database system is shut down")),
        ("DEBUG1", "updating PMState from PM_RUN to PM_X", ("pmstate", "PM_RUN", "PM_X")),
        ("LOG", "updating PMState from PM_RUN to PM_X", None),
        ("FATAL", "database system is shut down", None),
        ("LOG", "checkpoint starting: time", None),
        ("LOG", "io worker (PID 7) exited with exit code 2", ("log", "crash", "IO_WORKER")),
        (
            "LOG",
            "server process (PID 7) was terminated by signal 9: Killed",
            ("log", "crash", "SERVER_PROCESS"),
        ),
        ("LOG", "system logger process (PID 7) was terminated by signal 9: Killed", None),
        (
            "LOG",
            'background worker "logical replication launcher" (PID 7) exited with exit code 1',
            ("log", "bgworker exited", "BG_WORKER"),
        ),
        (
            "LOG",
            "could not fork startup process: Resource temporarily unavailable",
            ("log", 'could not fork "startup" process'),
        ),
        (
            "LOG",
            "shutting down because restart_after_crash is off",
            ("log", 'shutting down because "restart_after_crash" is off'),
        ),
    ],
)
def test_line_of(level: str, message: str, line: outside.Line | None) -> None:
    assert outside.line_of(level, message) == line


def test_crash_of_an_unknown_child() -> None:
    with pytest.raises(outside.UnknownChildError, match="untracked child process"):
        outside.line_of("LOG", "untracked child process (PID 7) exited with exit code 1")


def test_server_process_is_a_session_or_a_dead_end_child() -> None:
    seen = (*outside.CRASH, "SERVER_PROCESS")
    same = {kind for kind in Kind if outside.is_same_line((*outside.CRASH, kind.name), seen)}
    assert same == {Kind.BACKEND, Kind.DEAD_END_BACKEND, Kind.WAL_SENDER, Kind.AUTOVAC_WORKER}


# The schedule.


def started(name: str) -> tuple[Schedule, int]:
    """A schedule, and the state of an idle server that was started after a clean shutdown."""
    runs = program(CONFIGS[name])
    view, made = view_of(runs), Schedule(runs)
    state = made.run(next(filter(view.was_shut_down, runs.initial))).after
    for action in (*actions.startup_finishes_recovery, *actions.startup_exits):
        state = runs.step(action, state)
    return made, made.run(state).after


@pytest.mark.parametrize("version", [15, 18])
def test_one_iteration_starts_the_server(version: int) -> None:
    made, state = started(f"small-{version}")
    view = view_of(made.program)
    assert made.is_idle(state)
    assert view.pm_state(state) is PM.PM_RUN
    assert view.pid_file(state) == "ready"
    assert view.exit_code(state) is None
    there = dict(zip(Kind, view.children(state), strict=True))
    assert there[Kind.WAL_WRITER] == 1
    assert there[Kind.STARTUP] == 0


@pytest.mark.parametrize("version", [15, 18])
def test_a_request_is_handled_before_a_death(version: int) -> None:
    made, state = started(f"small-{version}")
    crash = case_of(actions.child_crashes, kind=Kind.BG_WRITER)
    for action in (crash, outside.shutdown_request("smart")):
        state = made.program.step(action, state)
    assert among(made.run(state).actions[0], actions.process_shutdown_request)


def test_a_reload_comes_first_up_to_17() -> None:
    first = {}
    for version in (15, 18):
        config = CONFIGS[f"small-{version}"]
        runs = program(Config("reloads", {**config.params, "reloads": True}, config.bounds))
        _, state = started(f"small-{version}")
        for action in (outside.shutdown_request("smart"), outside.RELOAD):
            state = runs.step(action, state)
        first[version] = Schedule(runs).run(state).actions[0]
    assert among(first[15], actions.process_reload_request)
    assert among(first[18], actions.process_shutdown_request)


def test_free_children_obey_and_stopped_ones_wait() -> None:
    made, state = started("small-18")
    state = made.program.step(outside.shutdown_request("fast"), state)
    stopped = made.run(state)
    view = view_of(made.program)
    assert view.pm_state(stopped.after) is PM.PM_WAIT_BACKENDS
    assert stopped.to_stop == {Kind.BG_WRITER, Kind.WAL_WRITER}
    assert (Kind.WAL_WRITER, frozenset({signal.SIGTERM})) in view.pending_orders(stopped.after)
    free = made.run(state, free=set(Kind))
    assert view.exit_code(free.after) == 0
    assert view.pid_file(free.after) is None
    sent = outside.signalled(free.evidence)
    assert sent[-1] == (Signal.SIGUSR2, Kind.CHECKPOINTER)


def test_the_timer_strikes_only_when_asked() -> None:
    made, state = started("small-18")
    crash = case_of(actions.child_crashes, kind=Kind.BG_WRITER)
    waiting = made.run(made.program.step(crash, state)).after
    assert made.is_idle(waiting)
    killed = made.run(waiting, first=schedule.TIMER)
    assert killed.actions[0] is schedule.TIMER
    assert Kind.STARTUP in killed.forked
