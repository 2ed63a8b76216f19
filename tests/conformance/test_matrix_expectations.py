"""What the cells of the matrix expect, computed without a server."""

from signal import SIGQUIT

import pytest

from pglife_conformance.expect.lines import TERMINATING
from pglife_conformance.matrix import by_model
from pglife_conformance.matrix.events import Event, ExitsOn, Harmless, Kill, Request, events_in
from pglife_conformance.matrix.expected import PRIMARY_STARTS, Expected
from pglife_conformance.matrix.states import (
    RUN,
    STARTUP_CRASH,
    STATES,
    WAIT_DEAD_END,
    ShutdownLevel,
    State,
)
from pglife_conformance.observation.kinds import Kind
from pglife_spec import PM

CELLS = [
    pytest.param(major, state, event, id=f"{major}-{state}-{event}")
    for major in (15, 18)
    for state in STATES
    for event in events_in(state)
    if major >= max(state.since, event.since)
    if getattr(event, "kind", None) not in (state.gone_in_17 if major < 18 else ())
]


def expected(major: int, state: State, event: Event) -> Expected:
    return by_model.expectation(state, event, major)


@pytest.mark.parametrize(("major", "state", "event"), CELLS)
def test_cell(major: int, state: State, event: Event) -> None:
    """Every cell has an expectation: a crash is announced once, a harmless signal does nothing."""
    seen = expected(major, state, event)
    if isinstance(event, Harmless):
        assert (seen.lines, seen.signals, seen.forked.total()) == ([], {}, 0)
        assert seen.children == state.children_on_entry(major)
    crashes = isinstance(event, Kill) or (isinstance(event, ExitsOn) and event.code == 2)
    if not state.fatal:
        assert seen.lines.count(TERMINATING) == crashes or getattr(event, "code", 1) == 0
    if crashes and not state.fatal and seen.pm is not PM.PM_NO_CHILDREN:
        assert all(SIGQUIT in seen.signals[kind] for kind in +seen.children if kind != event.kind)


def test_a_killed_child_in_18() -> None:
    """In PM_RUN the postmaster logs the death, sends SIGQUIT, and starts again in the end."""
    seen = expected(18, RUN, Kill(Kind.WALWRITER))
    death = "WAL writer process (walwriter) was terminated by signal 9: Killed"
    assert seen.lines == [death, TERMINATING, "PM_RUN -> PM_WAIT_BACKENDS"]
    assert seen.refusal == "the database system is in recovery mode"
    assert seen.finale is not None
    assert (seen.finale.lines[-1], seen.finale.exit_code) == (PRIMARY_STARTS, None)


def test_a_client_of_the_last_state() -> None:
    """In PM_WAIT_DEAD_END the postmaster accepts no client."""
    assert not expected(18, WAIT_DEAD_END, Harmless(ShutdownLevel.FAST)).accepts


@pytest.mark.parametrize("repaired", [False, True])
def test_a_server_with_a_finding_need_not_end(repaired: bool) -> None:
    """F01: after a crash a shutdown in PM_STARTUP ends only with the repair."""
    repairs = ["startup_shutdown_after_crash_quits"] if repaired else []
    seen = by_model.expectation(STARTUP_CRASH, Request(ShutdownLevel.FAST), 18, repairs)
    assert (seen.finale is not None) is repaired
