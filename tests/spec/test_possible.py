"""What nothing may keep from happening is possible in the model, and missed in a changed one."""

from dataclasses import replace

import pytest

from pglife_spec.explore.changed import Explored
from pglife_spec.lang.machine import Action
from pglife_spec.postgres import declared
from pglife_spec.postgres.build import build
from pglife_spec.postgres.configurations import config
from pglife_spec.postgres.declared import case_of
from pglife_spec.postgres.possible import POSSIBLE
from pglife_spec.postgres.state.postmaster import EXITED, PENDING
from pglife_spec.postgres.words import Kind, Shutdown

MACHINE = build()
#: What happens only before a shutdown is requested is missed after that.
NARROWED = {
    "every_live_child_can_be_killed": case_of(declared.child_crashes, kind=Kind.CHECKPOINTER),
    "every_request_can_come_at_any_moment": case_of(
        declared.operator_requests_shutdown, mode=Shutdown.FastShutdown
    ),
    "every_process_can_be_terminated_by_an_operator": declared.operator_terminates_session[0],
    "clients_can_leave_at_any_moment": declared.client_disconnects[0],
    "a_signaled_child_can_exit": case_of(declared.child_exits_at_sigquit, kind=Kind.BACKEND),
    "failures_can_come_at_any_moment": declared.startup_fails[0],
}


@pytest.fixture(scope="module")
def right() -> Explored:
    small = config(
        "possible",
        18,
        repaired=True,
        bounds={"backend": 1, "dead_end": 0},
        io_workers=0,
        writers=False,
        restart_after_crash=False,
    )
    return Explored(MACHINE, small, final=EXITED, possible=POSSIBLE)


def test_the_model_can_do_it_wherever_it_must(right: Explored) -> None:
    program = right.program
    cases = [
        (program.predicate(here), {program.index(a) for a in some}, each.name)
        for each in POSSIBLE
        for here, some in each.cases
    ]
    met = set()
    for state, steps in right.steps.items():
        taken = {action for action, _ in steps}
        for here, some, name in cases:
            if here(state):
                met.add(name)
                assert some & taken, (name, program.unpack(state))
    assert met == NARROWED.keys()


@pytest.mark.parametrize("name", NARROWED)
def test_what_is_kept_from_happening_is_missed(right: Explored, name: str) -> None:
    action = next(a for a in MACHINE.actions if a.name == NARROWED[name].name)
    assert right.judge(_narrowed(action)).killed_by == name


def _narrowed(action: Action) -> Action:
    return replace(action, guards=(*action.guards, ~PENDING))
