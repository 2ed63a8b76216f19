"""The clock of five seconds: who is left after QUIT is killed, once.

Source       rules CR-06 to CR-09, CR-37, SL-04 to SL-06; postmaster.c: ServerLoop(),
             DetermineSleepTime(), TerminateChildren().

Each of these takes five seconds, so there are few, and each looks at much.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.base.needs import Need
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

CLOCK = "postmaster.c: ServerLoop()"
CRASH = [Need.OS_SIGNALS, Need.CRASH_INJECTION, Need.PROCESS_TITLES]

MANY_STOPPED = pytest.mark.unmonitored("with so many stopped the model has too many ways to go on")

NOT_BEFORE_S = 3.9
"""Five seconds as whole seconds of time() (SL-05), which is behind by a tick of the kernel."""
AT_LATEST_S = 20.0
AT_LATEST_15_S = 90.0
"""Until 15 the postmaster may sleep its minute first (SL-06)."""
ON_TIME_S = 5.6
"""Five seconds at most from the line about a crash to that of the round, and some way to go."""
TRIES = 4
SLOW_S = 1.0
"""Whoever begins something earlier than this after a crash has time for it before the round."""


class Countdown:
    """The five seconds in which a scenario must be done with what a stopped child holds.

    Begun before the crash. A step that was begun in time and fails is a failure; one that a slow
    machine has kept waiting tells nothing if the round has struck meanwhile.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._mark = cluster.since()
        self._began = time.monotonic()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Something that is to be seen while the child holds the server."""
        is_late = time.monotonic() - self._began > SLOW_S
        try:
            yield
        except Inconclusive:
            raise
        except (AssertionError, OSError) as problem:
            # OSError: nobody listens any more.
            has_struck = self._mark.find_log(f"^{SIGKILL_ROUND}$")
            if is_late and has_struck and is_overloaded():
                late = Inconclusive("a step made before the round", f"too slow; {problem}")
                raise late from problem
            raise

    def let_go(self) -> Callable[[list[str]], list[str]]:
        """The child goes on; gives what drops the line of a round that could no longer be helped.

        Half of the time is left for the child to end, or else the round may be told.
        """
        was_late = time.monotonic() - self._began > NOT_BEFORE_S / 2 and is_overloaded()
        return lambda lines: [x for x in lines if not (was_late and x == SIGKILL_ROUND)]


def expect_round(cluster: Cluster, then: Since, began: float, line: str = SIGKILL_ROUND) -> None:
    """Wait for the SIGKILL round and check that it did not come too early."""
    limit = AT_LATEST_S if cluster.target.version.major >= 16 else AT_LATEST_15_S
    then.expect_log(f"^{line}$", within=limit)
    assert time.monotonic() - began >= NOT_BEFORE_S


@claim("CR-07", "SL-05", "CR-03", "CR-09", source=CLOCK, needs=CRASH)
@MANY_STOPPED
def test_whoever_survives_quit_is_killed_once(cluster: Cluster) -> None:
    """After five seconds every child that is left is killed, and the restart follows."""
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
    keys = sorted(child.key for child in stubborn)
    cluster.wait_for("the end of all others", lambda: _keys(cluster) == keys)
    # Whoever is told last may be told after the others have ended.
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


@claim("SL-05", "CR-07", "TR18-18", "SM-23", source=CLOCK, needs=CRASH)
@MANY_STOPPED
def test_immediate_shutdown_kills_whoever_survives_quit(cluster: Cluster) -> None:
    """The same after an immediate request; until 17 a dead-end child is spared. Exit 0."""
    session = cluster.session()
    cluster.request_shutdown(SMART)
    cluster.expect_log("^received smart shutdown request$")
    refused = cluster.silent_client()
    pins = [Pin(cluster, session.child), Pin(cluster, refused.child)]
    then = cluster.since()
    began = time.monotonic()
    cluster.request_shutdown(IMMEDIATE)
    expect_round(cluster, then, began)
    cluster.expect_death(pins[0].child)
    if cluster.target.version.major <= 17:
        cluster.expect_still("the dead-end child there", pins[1].is_there, 0.3)
        pins[1].release()
        refused.disconnect()
    cluster.expect_exit(code=0)
    lines = ["received immediate shutdown request", SIGKILL_ROUND, SHUT_DOWN]
    then.expect_postmaster_lines(lines)


@claim("CR-06", "SL-05", source=CLOCK, needs=CRASH, since=16, why="there is no such setting before")
@settings(send_abort_for_kill="on")
def test_round_may_abort_instead_of_kill(cluster: Cluster) -> None:
    """With send_abort_for_kill the round sends ABRT, which a stopped child keeps; and only once."""
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


@claim("CR-37", "TR18-18", "SL-05", source=CLOCK, needs=CRASH)
def test_immediate_request_starts_the_clock_anew(cluster: Cluster) -> None:
    """An immediate request during a crash: killed five seconds after the request, exit 1."""
    session = cluster.session()
    then = cluster.since()
    with Pin(cluster, session.child) as pin:
        crashed = time.monotonic()
        cluster.crash(Kind.WALWRITER)
        then.expect_log(f"^{TERMINATING}$")
        # More than one second: otherwise the old clock might strike no sooner than the new one.
        cluster.wait_for("1.5 seconds after the crash", lambda: time.monotonic() > crashed + 1.5)
        began = time.monotonic()
        cluster.request_shutdown(IMMEDIATE)
        request = then.expect_line("received immediate shutdown request")
        struck = then.find_log(f"^{SIGKILL_ROUND}$")
        was_slow = time.monotonic() - crashed >= NOT_BEFORE_S and is_overloaded()
        if struck is not None and struck.index < request.index and was_slow:
            raise Inconclusive("a request before the round", "the round was there before it")
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
    "SL-05",
    "SL-04",
    "CR-11",
    source="postmaster.c: DetermineSleepTime()",
    needs=CRASH,
    since=16,
    why="SL-06: until 15 it may sleep its minute first",
)
@settings(autovacuum="off", max_logical_replication_workers="0")
def test_round_is_on_time(cluster: Cluster) -> None:
    """The postmaster sleeps until its clock strikes and no longer: five seconds after a crash.

    It may be late when others want the processor, but not each time.
    """
    late = []
    for _ in range(TRIES):
        then = cluster.since()
        with Pin(cluster, cluster.session().child):
            cluster.crash(Kind.WALWRITER)
            told = then.expect_log(f"^{TERMINATING}$")
            struck = then.expect_log(f"^{SIGKILL_ROUND}$", within=AT_LATEST_S)
        then.expect_ready()
        took = struck.moment - told.moment
        if took < ON_TIME_S:
            return
        late.append(f"{took:.2f}")
    problem = (f"the round within {ON_TIME_S:g} s of the crash", f"{', '.join(late)} s")
    raise Inconclusive(*problem) if is_overloaded() else cluster.watcher.failure(*problem)


@claim("CR-31", "SL-05", source=CLOCK, needs=CRASH)
def test_crash_during_a_shutdown_has_its_clock_too(cluster: Cluster) -> None:
    """A crash during a fast shutdown: whoever does not end is killed, and the end is an exit 1."""
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
