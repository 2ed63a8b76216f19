"""The SIGKILL timeout: children that survive QUIT for five seconds are killed, once.

Source: rules CR-06 to CR-09, CR-37, SL-04 to SL-06; postmaster.c: ServerLoop(),
DetermineSleepTime(), TerminateChildren().

Each scenario takes five seconds, so there are few, and each checks much.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.base.needs import CRASH, Need
from pglife_conformance.base.overload import is_overloaded
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import FAST, IMMEDIATE, SMART
from pglife_conformance.expect.lines import (
    READY_LINE,
    REINITIALIZING,
    SHUT_DOWN,
    SIGKILL_ROUND,
    TERMINATING,
    killed_line,
)
from pglife_conformance.expect.since import Since
from pglife_conformance.hold.pin import Pin
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.signals import pending_signals
from pglife_conformance.pytest.claims import claim, settings

SERVER_LOOP = "postmaster.c: ServerLoop()"

MANY_STOPPED = pytest.mark.unmonitored(
    "with so many stopped children the model has too many behaviours"
)

NOT_BEFORE_S = 3.9
"""Five seconds as whole seconds of time() (SL-05), which is behind by a tick of the kernel."""
AT_LATEST_S = 20.0
AT_LATEST_15_S = 90.0
"""Until 15 the postmaster may sleep its minute first (SL-06)."""
ON_TIME_S = 5.6
"""At most five seconds from the line about a crash to that of the round, and some tolerance."""
TRIES = 4
SLOW_S = 1.0
"""A step begun earlier than this after a crash has time to finish before the round."""


class Countdown:
    """The five seconds in which a scenario must finish its checks while a child is stopped.

    It is created before the crash. A step that began in time and fails is a failure. A step that
    a slow machine delayed is inconclusive if the round has been logged meanwhile.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._mark = cluster.since()
        self._began = time.monotonic()

    @contextmanager
    def step(self) -> Iterator[None]:
        """A check that must be made while the server waits for the child."""
        is_late = time.monotonic() - self._began > SLOW_S
        try:
            yield
        except Inconclusive:
            raise
        except (AssertionError, OSError) as problem:
            # OSError: no process listens any more.
            has_struck = self._mark.find_log(f"^{SIGKILL_ROUND}$")
            if is_late and has_struck and is_overloaded():
                late = Inconclusive("a step made before the round", f"too slow; {problem}")
                raise late from problem
            raise

    def let_go(self) -> Callable[[list[str]], list[str]]:
        """End the countdown; return a filter that drops the line of an unavoidable round.

        Half of the time must be left for the child to exit; otherwise the round may be logged.
        """
        was_late = time.monotonic() - self._began > NOT_BEFORE_S / 2 and is_overloaded()
        return lambda lines: [x for x in lines if not (was_late and x == SIGKILL_ROUND)]


def expect_round(cluster: Cluster, then: Since, began: float, line: str = SIGKILL_ROUND) -> None:
    """Wait for the SIGKILL round and check that it did not come too early."""
    limit = AT_LATEST_S if cluster.major >= 16 else AT_LATEST_15_S
    then.expect_log(f"^{line}$", within=limit)
    assert time.monotonic() - began >= NOT_BEFORE_S


@claim("CR-07 SL-05 CR-03 CR-09", source=SERVER_LOOP, needs=CRASH)
@MANY_STOPPED
def test_children_that_survive_quit_are_killed_once(cluster: Cluster) -> None:
    """After five seconds every remaining child is killed, and the server restarts."""
    session = cluster.session()
    silent = cluster.silent_client()
    kinds = [Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER, Kind.LOGICAL_REPLICATION_LAUNCHER]
    stubborn = [cluster.child(kind) for kind in kinds] + [session.child, silent.child]
    if Need.IO_WORKERS in cluster.target.capabilities:
        stubborn.append(cluster.child(Kind.IO_WORKER))
    pins = [Pin(cluster, child) for child in stubborn]
    then = cluster.since()
    began = time.monotonic()
    victim = cluster.crash(Kind.WALWRITER)
    then.expect_log(f"^{TERMINATING}$")
    cluster.expect_only(*stubborn)
    # The last child may be signalled after the others have exited.
    cluster.wait_for(
        "QUIT pending in each",
        lambda: all(signal.SIGQUIT in pending_signals(child) for child in stubborn),
    )
    expect_round(cluster, then, began)
    for pin in pins:
        cluster.expect_death(pin.child)
    then.expect_ready()
    died = killed_line(cluster, victim)
    lines = [died, TERMINATING, SIGKILL_ROUND, REINITIALIZING, READY_LINE]
    then.expect_postmaster_lines(lines)
    cluster.expect_complete()


def _keys(cluster: Cluster) -> list[tuple[int, int]]:
    return sorted(kid.key for kid in cluster.children())


@claim("SL-05 CR-07 TR18-18 SM-23", source=SERVER_LOOP, needs=CRASH)
@MANY_STOPPED
def test_immediate_shutdown_kills_children_that_survive_quit(cluster: Cluster) -> None:
    """The round follows an immediate request, too; until 17 it spares dead-end children. Exit 0."""
    session = cluster.session()
    cluster.request_shutdown(SMART, logged=True)
    refused = cluster.silent_client()
    pins = [Pin(cluster, session.child), Pin(cluster, refused.child)]
    then = cluster.since()
    began = time.monotonic()
    cluster.request_shutdown(IMMEDIATE)
    expect_round(cluster, then, began)
    cluster.expect_death(pins[0].child)
    if cluster.major <= 17:
        cluster.expect_still("the dead-end child alive", pins[1].is_there, 0.3)
        pins[1].release()
        refused.disconnect()
    cluster.expect_exit(code=0)
    lines = ["received immediate shutdown request", SIGKILL_ROUND, SHUT_DOWN]
    then.expect_postmaster_lines(lines)


@claim(
    "CR-06 SL-05", source=SERVER_LOOP, needs=CRASH, since=16, why="there is no such setting before"
)
@settings(send_abort_for_kill="on")
def test_round_may_abort_instead_of_kill(cluster: Cluster) -> None:
    """With send_abort_for_kill the round sends ABRT, once; it stays pending in a stopped child."""
    session = cluster.session()
    then = cluster.since()
    with Pin(cluster, session.child) as pin:
        began = time.monotonic()
        victim = cluster.crash(Kind.WALWRITER)
        expect_round(cluster, then, began, "issuing SIGABRT to recalcitrant children")
        cluster.expect_pending(pin.child, signal.SIGQUIT, signal.SIGABRT)
    then.expect_ready()
    lines = then.postmaster_lines()
    round_line = "issuing SIGABRT to recalcitrant children"
    died = killed_line(cluster, victim)
    assert lines == [died, TERMINATING, round_line, REINITIALIZING, READY_LINE]


@claim("CR-37 TR18-18 SL-05", source=SERVER_LOOP, needs=CRASH)
def test_immediate_request_restarts_the_sigkill_timeout(cluster: Cluster) -> None:
    """After an immediate request during a crash the round comes five seconds later; exit 1."""
    session = cluster.session()
    then = cluster.since()
    with Pin(cluster, session.child) as pin:
        crashed = time.monotonic()
        cluster.crash(Kind.WALWRITER)
        then.expect_log(f"^{TERMINATING}$")
        # More than one second: otherwise the old timeout might expire no sooner than the new one.
        cluster.let_pass(1.5, since=crashed)
        began = time.monotonic()
        cluster.request_shutdown(IMMEDIATE)
        request = then.expect_line("received immediate shutdown request")
        struck = then.find_log(f"^{SIGKILL_ROUND}$")
        was_slow = time.monotonic() - crashed >= NOT_BEFORE_S and is_overloaded()
        if struck is not None and struck.index < request.index and was_slow:
            raise Inconclusive("a request before the round", "the round came before it")
        expect_round(cluster, then, began)
        cluster.expect_death(pin.child)
    cluster.expect_exit(code=1)
    lines = then.postmaster_lines()
    assert lines[1:] == [
        TERMINATING,
        "received immediate shutdown request",
        SIGKILL_ROUND,
        "abnormal database system shutdown",
        SHUT_DOWN,
    ]


@claim(
    "SL-05 SL-04 CR-11",
    source="postmaster.c: DetermineSleepTime()",
    needs=CRASH,
    since=16,
    why="SL-06: until 15 it may sleep its minute first",
)
@settings(autovacuum="off", max_logical_replication_workers="0")
def test_round_is_on_time(cluster: Cluster) -> None:
    """The postmaster sleeps until its SIGKILL timeout and no longer: five seconds after a crash.

    It may be late when other processes use the processor, but not each time.
    """
    late = []
    for _ in range(TRIES):
        then = cluster.since()
        with Pin(cluster, cluster.session().child):
            cluster.crash(Kind.WALWRITER)
            record = then.expect_log(f"^{TERMINATING}$")
            struck = then.expect_log(f"^{SIGKILL_ROUND}$", within=AT_LATEST_S)
        then.expect_ready()
        took = struck.moment - record.moment
        if took < ON_TIME_S:
            return
        late.append(f"{took:.2f}")
    problem = (f"the round within {ON_TIME_S:g} s of the crash", f"{', '.join(late)} s")
    raise Inconclusive(*problem) if is_overloaded() else cluster.watcher.failure(*problem)


@claim("CR-31 SL-05", source=SERVER_LOOP, needs=CRASH)
def test_crash_during_a_shutdown_starts_the_sigkill_timeout(cluster: Cluster) -> None:
    """In a crash during a fast shutdown remaining children are killed; the postmaster exits 1."""
    session = cluster.session()
    then = cluster.since()
    with Pin(cluster, session.child):
        cluster.request_shutdown(FAST)
        then.expect_line("aborting any active transactions")
        began = time.monotonic()
        victim = cluster.crash(Kind.CHECKPOINTER)
        expect_round(cluster, then, began)
        cluster.expect_exit(code=1)
    lines = then.postmaster_lines(launcher_aside=True)
    assert lines[2:] == [
        killed_line(cluster, victim),
        TERMINATING,
        SIGKILL_ROUND,
        "abnormal database system shutdown",
        SHUT_DOWN,
    ]
