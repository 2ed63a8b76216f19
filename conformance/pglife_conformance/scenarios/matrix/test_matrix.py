"""The matrix: every state of the postmaster that can be held, times every event.

Each cell holds one state, stops all children so that the signals they are sent stay pending, lets
one event happen, and compares everything that can be seen with the rules; then it continues all
children and compares the rest of the server's life.

Source: rules CN-01..07, TR18-01..35, SM-01..13, RP-10..29, SH-01..28, CR-01..28.
"""

from collections.abc import Callable

import pytest
from _pytest.mark.structures import ParameterSet

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import MakeCluster
from pglife_conformance.matrix.cell import TooSlow, play
from pglife_conformance.matrix.events import Event, Request, events_in
from pglife_conformance.matrix.states import RUN, RUN_SMART, STATES, State, cluster_settings
from pglife_conformance.pytest.claims import Claim
from pglife_conformance.targets.base import Target

SOURCE = "postmaster.c: PostmasterStateMachine(), process_pm_child_exit(), HandleChildCrash()"
_ATTEMPTS = 3
NEEDS = [Need.OS_SIGNALS, Need.CRASH_INJECTION, Need.PROCESS_TITLES]


def _cell(state: State, event: Event) -> ParameterSet:
    """One cell, as a claim of its own."""
    made = Claim(
        rules=(*event.rules, *state.rules),
        source=SOURCE,
        needs=frozenset({*NEEDS, *state.needs}),
        since=max(state.since, event.since, _first_release(state, event)),
        why="earlier releases have no such state, or no such process in it",
    )
    marks = [pytest.mark.claim(made)]
    if state.is_standby:
        marks.append(pytest.mark.unmonitored("standbys are beyond the model"))
    elif state in (RUN, RUN_SMART) or not isinstance(event, Request):
        # Many stopped children cost the monitor seconds of search; requests are enough.
        marks.append(pytest.mark.unmonitored("the rules of the matrix judge this cell alone"))
    return pytest.param(event, marks=marks, id=str(event))


def _first_release(state: State, event: Event) -> int:
    kind = getattr(event, "kind", None)
    return 18 if kind in state.gone_in_17 else 0


def _scenario(state: State) -> Callable[..., None]:
    @pytest.mark.parametrize("event", [_cell(state, event) for event in events_in(state)])
    def scenario(make_cluster: MakeCluster, target: Target, event: Event) -> None:
        """In this state this event does what the rules say and nothing else."""
        # Where the SIGKILL timeout fires in the middle of a cell, the cell is played again.
        for attempt in range(1, _ATTEMPTS + 1):
            cluster = make_cluster(**cluster_settings(state, target.version.major))
            if state.starts_running:
                cluster.start()
            try:
                play(cluster, state, event)
            except TooSlow:
                if attempt == _ATTEMPTS:
                    raise
                cluster.release_everything()
            else:
                return

    scenario.__name__ = scenario.__qualname__ = f"test_in_{state.name.lower()}"
    made: Callable[..., None] = scenario
    return made


globals().update({f"test_in_{state.name.lower()}": _scenario(state) for state in STATES})
