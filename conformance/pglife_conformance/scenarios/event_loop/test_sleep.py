"""How long the postmaster sleeps, and what wakes it.

Source: postmaster.c: ServerLoop(), DetermineSleepTime().
"""

import contextlib
import math
import signal
import time
from datetime import datetime

import pytest

from pglife_conformance.base import deadlines
from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.base.needs import CRASH, SIGNALS, SQL, Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.standby import stop
from pglife_conformance.events import FAST, IMMEDIATE
from pglife_conformance.expect.lines import SIGKILL_ROUND, TERMINATING, exited_line
from pglife_conformance.expect.since import Since
from pglife_conformance.hold.pin import Pin, pin_wait_backends, pin_wait_dead_end
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.log import LogRecord
from pglife_conformance.pytest.claims import claim
from pglife_conformance.scenarios.replication.test_launcher import RESTART_INTERVAL_S
from pglife_conformance.scenarios.support.event_loop import (
    MAY_USE,
    Awake,
    exit_lines,
    expect_asleep,
)
from pglife_conformance.scenarios.support.sleeping import expect_sleep

LOOP = "postmaster.c: ServerLoop()"
SLEEP = "postmaster.c: DetermineSleepTime()"


@claim("SL-01 SL-06", source=LOOP)
def test_postmaster_sleeps_when_it_has_done_its_work(cluster: Cluster) -> None:
    """After a reload, a client and a child's exit the postmaster sleeps again."""
    with cluster.session() as session:
        child = session.child
        cluster.reload_and_wait()
    cluster.expect_reaped(child)
    expect_asleep(cluster)


@claim("SL-06", source=SLEEP, needs=SIGNALS)
@pytest.mark.parametrize("state", ["PM_WAIT_BACKENDS", "PM_WAIT_DEAD_END"])
def test_postmaster_sleeps_while_it_waits_in_a_shutdown(cluster: Cluster, state: str) -> None:
    """A postmaster that waits for a child in a shutdown uses no CPU time."""
    enter = pin_wait_backends if state == "PM_WAIT_BACKENDS" else pin_wait_dead_end
    with enter(cluster):
        expect_asleep(cluster)
    cluster.release_everything()
    cluster.expect_exit(code=0)


@claim("SL-06 BG-12 SH-27", source=SLEEP, needs=SIGNALS)
def test_postmaster_sleeps_while_a_worker_waits_for_its_restart(cluster: Cluster) -> None:
    """Until a background worker may be restarted the postmaster sleeps; it logs the exit once."""
    then, began = cluster.since(), time.monotonic()
    victim = cluster.end_child(Kind.LOGICAL_REPLICATION_LAUNCHER, signal.SIGTERM)
    then.expect_log("exited with exit code 1$")
    expect_asleep(cluster)
    # The children are read before the clock: after the interval another launcher may run.
    running = cluster.children(Kind.LOGICAL_REPLICATION_LAUNCHER)
    assert not running or time.monotonic() - began >= RESTART_INTERVAL_S
    assert exit_lines(cluster, victim.pid, then) == [("LOG", exited_line(cluster, victim, 1))]


SPINS_S = 0.5
"""A postmaster that sleeps until its timeout is awake for a moment; one that wakes early spins
for a second."""
AT_LATEST_S = 7.6
"""Five seconds, whole seconds, and a busy machine; a timeout restarted by the client would fire at
eight. The time that the postmaster waited for a processor is added."""


@claim("SL-05 SL-06 CR-07", source=SLEEP, needs=CRASH, since=16, why="15 may sleep for a minute")
def test_postmaster_sleeps_until_its_sigkill_timeout_although_a_client_wakes_it(
    cluster: Cluster,
) -> None:
    """After a crash the postmaster sleeps until it sends SIGKILL five seconds later, although a
    client wakes it meanwhile; it logs that at level LOG."""
    session = cluster.session()
    then = cluster.since()
    # The postmaster counts whole seconds: start at the beginning of one.
    beginning = math.ceil(time.time())
    cluster.wait_for("the beginning of a second", lambda: time.time() >= beginning)
    with Pin(cluster, session.child):
        began, at_crash = time.monotonic(), Awake.of(cluster)
        cluster.crash(Kind.WALWRITER)
        crashed = then.expect_log(f"^{TERMINATING}$")
        cluster.let_pass(3.0, since=began)
        cluster.attempt().disconnect()
        cluster.expect_idle()
        before = last = Awake.of(cluster)

        def sigkill_round() -> LogRecord | None:
            nonlocal last
            # The restart, after the line, is not counted.
            now = Awake.of(cluster)
            record = then.find_log(f"^{SIGKILL_ROUND}$")
            last = last if record is not None else now
            return record

        record = cluster.wait_for("the SIGKILL round", sigkill_round, deadlines.CRASH_RESTART_LIMIT)
        late_s = Awake.of(cluster).waited_s - at_crash.waited_s
        assert record.level == "LOG"
        assert _seconds(record) - _seconds(crashed) <= AT_LATEST_S * cluster.scale + late_s
        assert not last.has_spun(before, SPINS_S)
    then.expect_ready()
    stop(cluster)


def _seconds(record: LogRecord) -> float:
    return datetime.strptime(record.time, "%Y-%m-%d %H:%M:%S.%f %Z").timestamp()


AT_LEAST_S = 2.0
"""A shorter observation proves nothing."""


def watch_until_sigkill(cluster: Cluster, since: Since) -> tuple[float, bool]:
    """How many seconds the postmaster was watched until the SIGKILL round, and whether it spun.

    A restart or the postmaster's exit, after the line, is not counted.
    """
    began, before = time.monotonic(), Awake.of(cluster)
    took, last = 0.0, before

    def is_logged() -> bool:
        nonlocal took, last
        now, then = None, time.monotonic()
        with contextlib.suppress(OSError):
            now = Awake.of(cluster)
        if since.find_log(f"^{SIGKILL_ROUND}$") is not None:
            return True
        if now is not None:
            took, last = then - began, now
        return False

    cluster.wait_for("the SIGKILL round", is_logged)
    return took, last.has_spun(before, MAY_USE * took)


@claim(
    "SL-05 SL-06 BG-12",
    source="postmaster.c: DetermineSleepTime()",
    needs=[Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.CRASH_INJECTION],
    since=16,
    why="15 may sleep for a minute",
)
@pytest.mark.parametrize("when", ["crash", "immediate shutdown"])
def test_postmaster_sleeps_until_it_kills(cluster: Cluster, when: str) -> None:
    """The postmaster sleeps until it sends SIGKILL, also while a worker awaits its restart."""
    session = cluster.session()
    then = cluster.since()
    cluster.end_child(Kind.LOGICAL_REPLICATION_LAUNCHER, signal.SIGTERM)
    then.expect_log("exited with exit code 1$")
    then = cluster.since()
    with Pin(cluster, session.child):
        if when == "crash":
            cluster.crash(Kind.WALWRITER)
            then.expect_log(f"^{TERMINATING}$")
        else:
            cluster.request_shutdown(IMMEDIATE, logged=True)
        took, has_spun = watch_until_sigkill(cluster, then)
    if took < AT_LEAST_S:
        raise Inconclusive(f"{AT_LEAST_S:g} seconds until SIGKILL", f"{took:.1f} of them")
    assert not has_spun
    if when == "crash":
        then.expect_ready()
        cluster.request_shutdown(FAST)
    cluster.expect_exit(code=0)


POSTMASTER_MS = 60_000
BY_SELECT = "the postmaster of earlier releases waits with select()"


@claim("SL-04", source="postmaster.c: DetermineSleepTime()", needs=SQL, since=16, why=BY_SELECT)
def test_idle_postmaster_sleeps_for_a_minute(cluster: Cluster) -> None:
    """Without a pending timeout the postmaster sleeps for a minute."""
    with cluster.session():
        expect_sleep(cluster, "postmaster", cluster.pid, POSTMASTER_MS)


@claim("BG-12", source="postmaster.c: DetermineSleepTime()", needs=SQL, since=16, why=BY_SELECT)
def test_postmaster_sleeps_until_a_worker_is_to_be_started_again(cluster: Cluster) -> None:
    """After the logical replication launcher has exited the postmaster sleeps for at most five
    seconds: no other event would make it restart the launcher."""
    cluster.end_child(Kind.LOGICAL_REPLICATION_LAUNCHER, signal.SIGTERM)
    cluster.expect_sleep(cluster.pid, range(1, 1000 * RESTART_INTERVAL_S + 1))
