"""The matrix: every state of the postmaster that can be held, times every event.

Each cell holds one state, stops the whole family so that one sees who is told what, lets one
thing happen, and compares everything that can be seen with what the rules say; then it lets go
and compares the rest of the life.

Source       rules of sections 2.4, 2.5, 2.7, 2.8, 3.4, 4.1 and 5; pglife_conformance/matrix/.
"""

from __future__ import annotations

import pytest

from pglife_conformance.claims import claim
from pglife_conformance.fixtures import MakeCluster
from pglife_conformance.matrix.cell import play
from pglife_conformance.matrix.events import Event, events_in
from pglife_conformance.matrix.states import STATES, State, cluster_settings
from pglife_conformance.needs import Need
from pglife_conformance.targets.base import Target

SOURCE = "postmaster.c: PostmasterStateMachine(), process_pm_child_exit(), HandleChildCrash()"
NEEDS = [Need.OS_SIGNALS, Need.CRASH_INJECTION, Need.PROCESS_TITLES]


def _scenario(state: State) -> object:
    @claim(
        "SH-01",
        "SH-03",
        "CR-02",
        "RP-02",
        "SM-02",
        *state.rules,
        source=SOURCE,
        needs=[*NEEDS, *state.needs],
        since=state.since,
        why="earlier releases have no such state",
    )
    @pytest.mark.parametrize("event", list(events_in(state)), ids=str)
    def scenario(make_cluster: MakeCluster, target: Target, event: Event) -> None:
        """In this state this event does what the rules say and nothing else."""
        cluster = make_cluster(**cluster_settings(state, target.version.major))
        if state.starts_running:
            cluster.start()
        play(cluster, state, event)

    scenario.__name__ = scenario.__qualname__ = f"test_in_{state.name.lower()}"
    if state.is_standby:
        return pytest.mark.unmonitored("standbys are beyond the model")(scenario)
    return scenario


globals().update({f"test_in_{state.name.lower()}": _scenario(state) for state in STATES})
