"""Why a server hangs, in words: who waits for whom, which signals were sent, which finding."""

import pytest

from pglife_spec.explore import check_property, explore
from pglife_spec.postgres.build import build
from pglife_spec.postgres.configurations import config
from pglife_spec.postgres.waits import awaited, explain
from pglife_spec.postgres.words import PM, Kind, Shutdown

MACHINE = build()
PROPERTIES = {prop.name: prop for prop in MACHINE.properties}


def lasso(version, name, *, dead_end=0, **params):
    made = config("waits", version, bounds={"backend": 0, "dead_end": dead_end}, **params)
    said = check_property(explore(MACHINE, made, claims=[]), PROPERTIES[name])
    assert said.lasso is not None
    return said.lasso


@pytest.mark.parametrize(
    ("version", "name", "more", "expected"),
    [
        (
            18,
            "every_fast_shutdown_ends",
            {"io_workers": 0},
            [
                "the postmaster is in PM_WAIT_BACKENDS, Shutdown = FastShutdown, FatalError, and",
                "waits for checkpointer: running; SIGTERM in step N, which does not end it",
                "known as F01 in docs/findings.md; "
                "changed by repair startup_shutdown_after_crash_quits",
            ],
        ),
        (
            15,
            "every_immediate_shutdown_ends",
            {"dead_end": 1},
            [
                "the postmaster is in PM_WAIT_DEAD_END, Shutdown = ImmediateShutdown, and",
                "waits for dead-end client backend: running; no signal",
                "known as F06 in docs/findings.md; changed by repair sigkill_reaches_dead_end",
            ],
        ),
        (
            18,
            "every_recovery_ends",
            {"io_workers": 0},
            [
                "the postmaster is in PM_RECOVERY, and",
                "does not wait for checkpointer: running; no signal",
                "does not wait for background writer: running; no signal",
                "waits for no child: no step of its own is left",
                "known as F02 or F03 or F07 in docs/findings.md; "
                "changed by repair crash_during_fatal_error_in_startup",
            ],
        ),
    ],
    ids=["F01", "F06", "F07"],
)
def test_a_hang_is_explained(version, name, more, expected):
    trace = lasso(version, name, **more)
    step = str(next((i for i, m in enumerate(trace.moments) if "SIGTERM" in str(m.evidence)), 0))
    assert explain(MACHINE, trace) == [line.replace("step N", f"step {step}") for line in expected]


def test_a_shutdown_waits_for_its_targets_and_not_for_the_checkpointer():
    trace = lasso(18, "every_fast_shutdown_ends", io_workers=0)
    reached = [
        awaited(m.state, trace.params)
        for m in trace.moments
        if m.state["pmState"] is PM.PM_WAIT_BACKENDS
        and m.state["Shutdown"] is Shutdown.FastShutdown
    ]
    assert Kind.STARTUP in reached[0]
    assert Kind.LOGGER not in reached[0]
    assert reached[-1] == (Kind.CHECKPOINTER,)
