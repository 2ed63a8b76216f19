"""The defects of docs/findings.md that can be made to happen: each scenario asserts what is right.

A release that has the defect breaks the claim, which is expected of it (Defect) and must happen
every time; a target that declares the repair is held to the claim. That something never ends is
shown by who is left: nobody who has been told anything, and nobody who would end by himself.

Source       docs/findings.md; postmaster.c: process_pm_child_exit(), HandleChildCrash(),
             process_pm_shutdown_request(), PostmasterStateMachine().
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator

import pytest

from pglife_conformance.base import deadlines
from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import FAST, SMART, ShutdownMode
from pglife_conformance.expect.lines import (
    ABNORMAL,
    READY_LINE,
    REINITIALIZING,
    SHUT_DOWN,
    SIGKILL_ROUND,
    STARTUP_FAILED,
    TERMINATING,
    killed_line,
)
from pglife_conformance.hold.pin import Pin, StoppedPostmaster, pin_wait_checkpointer
from pglife_conformance.hold.ptrace import Traced
from pglife_conformance.hold.startup_barrier import StartupBarrier
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child, RunState, read_stat
from pglife_conformance.observation.signals import pending_signals
from pglife_conformance.pytest.claims import Defect, claim
from pglife_spec import actions

REAPER = "postmaster.c: process_pm_child_exit()"
REQUEST = "postmaster.c: process_pm_shutdown_request()"
HANDLER = "postmaster.c: HandleChildCrash()"
CLOCK = "postmaster.c: ServerLoop()"
CRASH = [Need.OS_SIGNALS, Need.CRASH_INJECTION, Need.PROCESS_TITLES]

REST_S = 1.5
"""How long nothing may move before an end that needs nobody is taken to be none."""

ANOTHER_ROUND_S = deadlines.SIGKILL_TIMEOUT + deadlines.REACTION_LIMIT
"""Until a child must have died of a round of SIGKILL whose clock begins to run now."""

HELPERS = frozenset({Kind.CHECKPOINTER, Kind.BACKGROUND_WRITER, Kind.IO_WORKER})


def finding(number: str, repair: str, *, since: int = 15, until: int = 18) -> Defect:
    """A defect by its number in docs/findings.md."""
    return Defect(f"{number} in docs/findings.md", repair, since=since, until=until)


# How the startup process is held, and let go.


@contextlib.contextmanager
def startup_held_after_crash(
    cluster: Cluster, victim: Kind = Kind.WALWRITER
) -> Iterator[tuple[StartupBarrier, Child]]:
    """PM_STARTUP after a crash, FatalError set; the helpers are there too (OB-02)."""
    barrier = StartupBarrier(cluster)
    then = cluster.since()
    cluster.crash(victim)
    then.expect_line(REINITIALIZING)
    startup = barrier.wait_for_startup(then)
    cluster.child(Kind.CHECKPOINTER)
    cluster.child(Kind.BACKGROUND_WRITER)
    yield barrier, startup
    barrier.open()


def expect_reaped(cluster: Cluster, child: Child) -> None:
    """The postmaster has taken its exit status."""
    cluster.wait_for(
        f"{child} to be reaped", lambda: child.key not in {kid.key for kid in cluster.watcher.kids}
    )


def ask_whether_it_is_over(cluster: Cluster) -> None:
    """Wait until the postmaster has finished what it is about: a client is served after it (SL-01).

    How the client fares is no matter: a child forked for it may be told to quit at once.
    """
    cluster.attempt()


def expect_zombie(cluster: Cluster, child: Child) -> None:
    """It has ended, and a postmaster that is stopped cannot have reaped it."""

    def is_dead() -> bool:
        kids = cluster.watcher.kids
        return any(k.key == child.key and k.state is RunState.ZOMBIE for k in kids)

    cluster.wait_for(f"the end of {child}", is_dead, deadlines.START_LIMIT)


def is_busy(pid: int) -> bool:
    """It runs or wants to: whoever waits for a processor has been told something already."""
    stat = read_stat(pid)
    return stat is not None and stat.state in "RD"


def expect_end(cluster: Cluster, code: int, *, but_for: frozenset[Kind]) -> None:
    """The postmaster exits with this status.

    It is not waited for in vain: when nobody is left but children of these kinds, none of them
    with an order that it has not taken, and nothing has moved for a while, no end will come.
    """
    rest: tuple[object, float] = (None, 0.0)

    def over() -> str | None:
        nonlocal rest
        seen = cluster.watcher.last
        assert seen is not None
        if seen.exit_code is not None:
            return "exit"
        at_rest = bool(seen.kids) and all(
            kid.is_alive and kid.kind in but_for and not pending_signals(kid) for kid in seen.kids
        )
        at_rest = at_rest and not any(map(is_busy, [cluster.pid, *(k.pid for k in seen.kids)]))
        now = time.monotonic()
        sight = (tuple(kid.key for kid in seen.kids), len(cluster.watcher.log.records))
        if not at_rest or sight != rest[0]:
            rest = (sight, now)
            return None
        return "rest" if now - rest[1] >= REST_S * cluster.scale else None

    if cluster.wait_for("the postmaster's exit", over, deadlines.SHUTDOWN_LIMIT) == "rest":
        raise cluster.watcher.failure(
            f"the postmaster's exit with {code}",
            f"nobody moves, and nobody has been told anything: {cluster.watcher.summary()}",
            hangs=True,
        )
    cluster.expect_exit(code)


# F01 to F03, F07, F08: FatalError outlives the reinitialisation.


@claim(
    "INV-91",
    "INV-92",
    "INV-93",
    "MM-01",
    source=REQUEST,
    needs=CRASH,
    defects=[finding("F01", "startup_shutdown_after_crash_quits")],
    spec=actions.process_shutdown_request,
)
@pytest.mark.parametrize("mode", [FAST, SMART])
def test_shutdown_while_a_crashed_server_starts_up(cluster: Cluster, mode: ShutdownMode) -> None:
    """A shutdown requested in the PM_STARTUP after a crash ends the server."""
    then = cluster.since()
    with startup_held_after_crash(cluster):
        cluster.request_shutdown(mode)
        then.expect_log(f"^received {mode} shutdown request$")
    expect_end(cluster, 1, but_for=frozenset({Kind.CHECKPOINTER, Kind.IO_WORKER}))
    then.expect_line(ABNORMAL)
    assert cluster.pid_file() is None


@claim(
    "INV-94",
    "INV-14",
    "INV-16",
    "PR-20",
    "SM-11",
    source=HANDLER,
    needs=CRASH,
    defects=[finding("F02", "crash_during_fatal_error_in_startup")],
    spec=actions.reap_startup,
)
def test_startup_process_dies_while_a_crashed_server_starts_up(cluster: Cluster) -> None:
    """A startup process that dies in the PM_STARTUP after a crash is named, everybody is told to
    quit, and the postmaster exits 1."""
    with startup_held_after_crash(cluster) as (_, startup):
        then = cluster.since()
        cluster.crash(startup)
        expect_reaped(cluster, startup)
        expect_end(cluster, 1, but_for=HELPERS)
    told = [killed_line(cluster, startup), TERMINATING, STARTUP_FAILED, SHUT_DOWN]
    then.expect_postmaster_lines(told)


@claim(
    "INV-61",
    "INV-64",
    "INV-82",
    "CR-38",
    source=HANDLER,
    needs=CRASH,
    defects=[finding("F03", "crash_during_fatal_error_in_startup")],
    spec=actions.reap_background_process,
)
@pytest.mark.parametrize("kind", [Kind.BACKGROUND_WRITER, Kind.CHECKPOINTER], ids=str)
def test_crash_while_a_crashed_server_starts_up(cluster: Cluster, kind: Kind) -> None:
    """A child that crashes in the PM_STARTUP after a crash is a new crash: shared memory is made
    anew once more before the server opens."""
    with startup_held_after_crash(cluster):
        then = cluster.since()
        victim = cluster.crash(kind)
        expect_reaped(cluster, victim)
        ask_whether_it_is_over(cluster)
        found = then.find_log(f"^{TERMINATING}$")
        if found is None:
            raise cluster.watcher.failure(
                f"the crash of {victim} is handled", "it was reaped, and nobody was told to quit"
            )
    then.expect_ready()
    told = [killed_line(cluster, victim), TERMINATING, REINITIALIZING, READY_LINE]
    then.expect_postmaster_lines(told)


@claim(
    "INV-13",
    "INV-14",
    "INV-16",
    "INV-94",
    "MM-08",
    source="postmaster.c: process_pm_pmsignal()",
    needs=CRASH,
    defects=[finding("F07", "crash_during_fatal_error_in_startup", since=18)],
    spec=actions.process_pmsignal,
)
def test_startup_process_dies_right_after_it_has_begun_redo(cluster: Cluster) -> None:
    """A startup process whose death comes to the postmaster together with its message that redo
    has begun does not leave a server in recovery without it: exit 1."""
    with startup_held_after_crash(cluster) as (barrier, startup):
        # After redo the startup process waits for a checkpoint, so that it can be killed there.
        with Pin(cluster, Kind.CHECKPOINTER):
            then = cluster.since()
            with StoppedPostmaster(cluster):
                barrier.open()
                then.expect_log("^redo (starts at|is not required)")
                cluster.crash(startup)
            expect_reaped(cluster, startup)
        expect_end(cluster, 1, but_for=HELPERS)
    told = [killed_line(cluster, startup), TERMINATING, STARTUP_FAILED, SHUT_DOWN]
    then.expect_postmaster_lines(told)


@claim(
    "INV-94",
    "INV-91",
    "INV-108",
    "TR18-25",
    source="postmaster.c: process_pm_pmsignal()",
    needs=CRASH,
    since=18,
    why="INT to the checkpointer does nothing before",
    defects=[finding("F08", "xlog_shutdown_in_crash_startup_is_crash", since=18)],
    spec=actions.process_pmsignal,
)
def test_checkpointer_shuts_wal_down_while_a_crashed_server_starts_up(cluster: Cluster) -> None:
    """A checkpointer that has been sent INT in the PM_STARTUP after a crash, and so serves nobody
    any more, does not hold the restart: it is a new crash."""
    with startup_held_after_crash(cluster):
        then = cluster.since()
        checkpointer = cluster.signal_child(Kind.CHECKPOINTER, signal.SIGINT)
        then.expect_log("^postmaster received pmsignal signal$")
        ask_whether_it_is_over(cluster)
        found = then.find_log("^WAL was shut down unexpectedly$")
        if found is None:
            raise cluster.watcher.failure(
                "a new crash", f"the message that {checkpointer} is out of service went unheard"
            )
    then.expect_ready()
    told = ["WAL was shut down unexpectedly", REINITIALIZING, READY_LINE]
    then.expect_postmaster_lines(told)


# The others.


@claim(
    "INV-61",
    "INV-64",
    "TR18-04",
    "RP-01",
    source=REAPER,
    needs=CRASH,
    defects=[finding("F04", "startup_exit_in_crash_not_run")],
    spec=actions.reap_startup,
)
def test_startup_process_ends_beside_a_crash(stopped_cluster: Cluster) -> None:
    """A startup process that exits 0 after a crash has been handled does not open the server:
    shared memory is made anew first."""
    cluster = stopped_cluster
    barrier = StartupBarrier(cluster)
    cluster.start(wait=False)
    startup = barrier.wait_for_startup()
    cluster.child(Kind.CHECKPOINTER)
    cluster.child(Kind.BACKGROUND_WRITER)
    with StoppedPostmaster(cluster):
        barrier.open()
        expect_zombie(cluster, startup)
        # All others too: nobody is left whose death by QUIT would be a second crash.
        then = cluster.since()
        for child in cluster.children():
            cluster.crash(child)
    then.expect_line(READY_LINE, within=deadlines.CRASH_RESTART_LIMIT)
    then.expect_line(TERMINATING)
    if then.find_log(f"^{REINITIALIZING}$") is None:
        raise cluster.watcher.failure(
            "shared memory is made anew after a crash", "the server has opened without"
        )
    then.expect_ready()


@claim(
    "INV-94",
    "INV-90",
    "INV-110",
    "CR-08",
    source=CLOCK,
    needs=CRASH,
    defects=[finding("F06", "sigkill_reaches_dead_end", until=17)],
    spec=actions.issue_sigkill,
)
def test_the_round_kills_a_dead_end_child_too(cluster: Cluster) -> None:
    """A dead-end child that cannot take QUIT is killed with the others after five seconds, and the
    restart goes on."""
    session = cluster.session()
    then = cluster.since()
    with Pin(cluster, session.child) as held:
        cluster.crash(Kind.WALWRITER)
        then.expect_line(TERMINATING)
        # It comes now, so that the postmaster sets out anew to sleep until its clock (SL-06).
        refused = cluster.silent_client()
        with Pin(cluster, refused.child) as pin:
            if then.find_log(f"^{SIGKILL_ROUND}$") is not None:
                raise Inconclusive("a dead-end child before the round", "the five seconds are over")
            then.expect_line(SIGKILL_ROUND)
            cluster.expect_death(held.child)
            cluster.expect_death(pin.child)
    then.expect_ready()


@claim(
    "INV-94",
    "INV-90",
    "INV-110",
    "CR-08",
    source=CLOCK,
    needs=CRASH,
    defects=[finding("F06", "sigkill_reaches_dead_end")],
    spec=actions.issue_sigkill,
)
def test_a_client_refused_after_the_round_is_not_spared(cluster: Cluster) -> None:
    """A dead-end child that was forked after the round of SIGKILL and cannot take QUIT does not
    hold the restart either: another round reaches it."""
    session = cluster.session()
    then = cluster.since()
    with Pin(cluster, session.child) as held:
        with Traced(cluster, held.child):
            cluster.crash(Kind.WALWRITER)
            then.expect_line(SIGKILL_ROUND)
            cluster.expect_death(held.child)
            refused = cluster.silent_client()
            pin = Pin(cluster, refused.child)
        expect_reaped(cluster, held.child)
        cluster.expect_death(pin.child, ANOTHER_ROUND_S)
    then.expect_ready()


@claim(
    "INV-40",
    "INV-110",
    "SV-25",
    source=CLOCK,
    needs=[*CRASH, Need.PMSTATE_LOG, Need.IO_WORKERS],
    defects=[finding("F10", "no_accept_after_wait_dead_end", since=18)],
    spec=actions.serve_last_client,
)
def test_no_client_is_served_in_pm_wait_dead_end(cluster: Cluster) -> None:
    """A client that connects while the postmaster has the end of the checkpointer to handle is not
    given a child in PM_WAIT_DEAD_END, and does not hold the shutdown."""
    then = cluster.since()
    with pin_wait_checkpointer(cluster) as checkpointer:
        first = cluster.silent_client()
        with Pin(cluster, first.child):
            with StoppedPostmaster(cluster):
                checkpointer.release()
                expect_zombie(cluster, checkpointer.child)
                late = cluster.silent_client(wait_for_child=False)
            then.expect_log("from PM_WAIT_CHECKPOINTER to PM_WAIT_DEAD_END")
        cluster.expect_death(first.child)
        expect_end(cluster, 0, but_for=frozenset({Kind.UNKNOWN}))
    late.disconnect()
