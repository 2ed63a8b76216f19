"""Each pin enters its state and releases it, on a server that logs its states."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from pglife_conformance.base import deadlines
from pglife_conformance.base.failures import Expectation, Hang, Inconclusive
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import Outcome
from pglife_conformance.events import FAST
from pglife_conformance.hold.pin import (
    ARCHIVER_HELD,
    Pin,
    pin_fork_failure,
    pin_smart_pending,
    pin_startup,
    pin_wait_backends,
    pin_wait_backends_after_crash,
    pin_wait_checkpointer,
    pin_wait_dead_end,
    pin_wait_dead_end_after_crash,
    pin_wait_io_workers,
    pin_wait_xlog_archival,
    pin_wait_xlog_shutdown,
)
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import RunState
from pglife_conformance.pytest.claims import settings
from pglife_conformance.targets.base import Target

PinState = Callable[[Cluster], AbstractContextManager[Pin]]

SHUTDOWNS: list[tuple[PinState, str]] = [
    (pin_wait_backends, "PM_WAIT_BACKENDS"),
    (pin_wait_xlog_shutdown, "PM_WAIT_XLOG_SHUTDOWN"),
    (pin_wait_io_workers, "PM_WAIT_IO_WORKERS"),
    (pin_wait_checkpointer, "PM_WAIT_CHECKPOINTER"),
    (pin_wait_dead_end, "PM_WAIT_DEAD_END"),
]
CRASHES: list[tuple[PinState, str]] = [
    (pin_wait_backends_after_crash, "PM_WAIT_BACKENDS"),
    (pin_wait_dead_end_after_crash, "PM_WAIT_DEAD_END"),
    (pin_startup, "PM_STARTUP"),
]


@pytest.fixture(autouse=True)
def logs_states(target: Target) -> None:
    if Need.PMSTATE_LOG not in target.capabilities:
        pytest.skip("the target does not log its states (PM-01)")


@pytest.mark.parametrize(("pin_state", "name"), SHUTDOWNS)
def test_states_of_a_shutdown(cluster: Cluster, pin_state: PinState, name: str) -> None:
    with pin_state(cluster) as pin:
        cluster.expect_pmstate(name)
        assert pin.is_there()
        assert cluster.is_running()
    cluster.expect_exit(code=0)


@pytest.mark.parametrize(("pin_state", "name"), CRASHES)
def test_states_of_a_crash(cluster: Cluster, pin_state: PinState, name: str) -> None:
    then = cluster.since()
    try:
        with pin_state(cluster):
            cluster.expect_pmstate(name)
    except AssertionError:
        if then.find_log("^issuing SIGKILL to recalcitrant children$"):
            pytest.skip("the SIGKILL timeout (SL-05) had passed before the state was read")
        raise
    then.expect_ready()


def test_a_pin_is_released_once(cluster: Cluster) -> None:
    with Pin(cluster, Kind.WALWRITER) as pin:
        states = {kid.kind: kid.state for kid in cluster.children()}
        assert states[Kind.WALWRITER] is RunState.STOPPED
        pin.release()
        pin.release()
    cluster.wait_for(
        "the walwriter to go on", lambda: cluster.child(Kind.WALWRITER).state is RunState.RUNNING
    )


def test_a_dead_child_cannot_be_pinned(cluster: Cluster) -> None:
    session = cluster.session()
    child = session.child
    session.close()
    cluster.expect_death(child)
    with pytest.raises((Expectation, Inconclusive)):
        Pin(cluster, child)


def test_a_hang_is_distinguished_from_a_slow_server(cluster: Cluster) -> None:
    # A server that has just started may still have a line to write; half of the time is for that.
    with pytest.raises(Hang):
        cluster.expect_log("never", within=5)

    def busy() -> None:
        cluster.session().close()
        time.sleep(0.01)

    with pytest.raises(Expectation) as caught:
        cluster.wait_for("a condition that stays false while clients connect", busy, 5)
    assert not isinstance(caught.value, Hang)


def test_a_claim_that_nothing_happens(cluster: Cluster) -> None:
    cluster.expect_still("the server runs", cluster.is_running, for_s=0.1)
    cluster.request_shutdown(FAST)
    with pytest.raises(Expectation):
        cluster.expect_still("the server runs", cluster.is_running, deadlines.SHUTDOWN_LIMIT)


@pytest.fixture
def has_archiver(target: Target) -> None:
    if Need.ARCHIVER not in target.capabilities:
        pytest.skip("no archiver (PR-07)")


@settings(**ARCHIVER_HELD)
def test_an_archive_command_that_sleeps(has_archiver: None, cluster: Cluster) -> None:
    with pin_wait_xlog_archival(cluster) as archiver:
        assert cluster.pmstate() == "PM_WAIT_XLOG_ARCHIVAL"
        assert any(kid.key == archiver.key for kid in cluster.children())
    cluster.expect_exit(code=0)


def test_a_smart_shutdown_is_pending(cluster: Cluster) -> None:
    with pin_smart_pending(cluster) as session:
        assert cluster.pmstate() == "PM_RUN"
        assert session.query("select 1") == [("1",)]
    cluster.expect_exit(code=0)


def test_forks_fail_at_will(cluster: Cluster) -> None:
    then = cluster.since()
    with pin_fork_failure(cluster):
        assert cluster.attempt().outcome is not Outcome.ADMITTED
        then.expect_log("could not fork new process for connection")
    cluster.session().close()
