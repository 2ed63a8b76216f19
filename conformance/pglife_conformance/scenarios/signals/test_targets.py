"""Who is told what when a shutdown or a crash begins, with every kind of child there.

All children are stopped, so that what each has been told stays pending (test_06_signals_sent.py
does the same for the kinds that every server has).

Source       rules SM-02, SM-20, SM-21, TR18-10, TR18-18, TR18-20, TR17-17, CR-02, BG-19, RC-17;
             postmaster.c: PostmasterStateMachine(), SignalChildren(), TerminateChildren().
"""

from __future__ import annotations

import contextlib
import signal
from collections import Counter
from collections.abc import Iterator

import pytest

from pglife_conformance.base import deadlines
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import READY_LINE, Cluster, MakeCluster
from pglife_conformance.cluster.standby import (
    ARCHIVES_ALWAYS,
    READ_ONLY_LINE,
    Pair,
    start_pair,
    stop,
    walsender,
)
from pglife_conformance.events import FAST, IMMEDIATE, SMART, ShutdownMode
from pglife_conformance.expect.lines import TERMINATING
from pglife_conformance.hold.pin import Pin
from pglife_conformance.observation.control_file import ControlState
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.signals import pending_signals
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.shutdown.test_waits import wait_for_rest
from pglife_conformance.scenarios.signals.test_optional_processes import (
    autovacuum_worker,
    parallel_worker,
)
from pglife_conformance.scenarios.signals.test_sent_by_the_postmaster import (
    BACKGROUND,
    SESSIONS,
    everybody_stopped,
    expect_told,
    told_by_kind,
)

MACHINE = "postmaster.c: PostmasterStateMachine()"
TERMINATE = "postmaster.c: TerminateChildren()"
FATAL = "postmaster.c: HandleFatalError()"
PRIMARY = [
    Need.OS_SIGNALS,
    Need.PROCESS_TITLES,
    Need.FULL_SQL,
    Need.SQL_FUNCTIONS,
    Need.AUTOVACUUM_WORKER,
    Need.ARCHIVER,
    Need.WALSENDER,
    Need.LOGGER,
]
STANDBY = [
    Need.OS_SIGNALS,
    Need.PROCESS_TITLES,
    Need.FULL_SQL,
    Need.SQL_FUNCTIONS,
    Need.STANDBY,
    Need.ARCHIVER,
    Need.WALSENDER,
]
pytestmark = pytest.mark.unmonitored("the model has no such processes")

EVERYBODY = settings(
    archive_mode="on",
    archive_command="true",
    autovacuum_naptime="1s",
    logging_collector="on",
)

TERM_SET = BACKGROUND | {
    Kind.AUTOVACUUM_WORKER,
    Kind.PARALLEL_WORKER,
    Kind.WALSUMMARIZER,
    Kind.SLOTSYNC_WORKER,
    Kind.STARTUP,
    Kind.WALRECEIVER,
}
"""SM-02 without clients. Neither archiver nor walsender, checkpointer, io worker."""


def is_settled(cluster: Cluster, silent: int) -> bool:
    """Nobody has an order that he has not taken, and no autovacuum worker comes or goes but the
    busy one; one without title might be such a worker, or one of so many silent clients' own."""
    kids = cluster.children()
    kinds = Counter(kid.kind for kid in kids)
    return (
        not any(pending_signals(kid) for kid in kids)
        and kinds[Kind.AUTOVACUUM_WORKER] == 1
        and kinds[Kind.UNKNOWN] == silent
    )


def stop_launcher(cluster: Cluster, silent: int) -> Pin:
    """The first to be stopped, at a good moment: it is told USR2 of each worker that comes or goes,
    and the reload that went before must not be pending any more."""

    def stopped() -> Pin | None:
        if not is_settled(cluster, silent):
            return None
        pin = Pin(cluster, Kind.AUTOVACUUM_LAUNCHER)
        # Whoever it has asked for before has then been forked.
        wait_for_rest(cluster)
        if is_settled(cluster, silent):
            return pin
        pin.release()
        return None

    return cluster.wait_for("a moment to stop everybody", stopped, deadlines.START_LIMIT)


@contextlib.contextmanager
def full_house(cluster: Cluster, *, clients: bool) -> Iterator[list[Pin]]:
    """A primary with every kind of child of its own, all stopped."""
    wanted = {*BACKGROUND, Kind.ARCHIVER, Kind.WALSENDER, Kind.AUTOVACUUM_WORKER}
    if cluster.target.version.major >= 17:
        cluster.reload(summarize_wal="on")
        wanted.add(Kind.WALSUMMARIZER)
    with contextlib.ExitStack() as stack:
        with autovacuum_worker(cluster):
            # Its session has gone when it is stopped; the worker is busy for a long time.
            pass
        walsender(cluster)
        if clients:
            stack.enter_context(parallel_worker(cluster))
            cluster.silent_client()
            wanted |= {Kind.PARALLEL_WORKER, *SESSIONS}
        cluster.wait_for(
            "the whole house",
            lambda: (
                {kid.kind for kid in cluster.children()} >= wanted
                and len(cluster.children(Kind.CLIENT_BACKEND)) == clients
            ),
        )
        stack.enter_context(stop_launcher(cluster, silent=int(clients)))
        kids = [kid for kid in cluster.children() if kid.kind is not Kind.LOGGER]
        yield [stack.enter_context(Pin(cluster, kid)) for kid in kids]


@claim(
    "SM-02",
    "TR18-20",
    "TR17-17",
    "SM-20",
    "SM-21",
    "BG-19",
    "INV-39",
    "AR-09",
    source=MACHINE,
    needs=PRIMARY,
)
@EVERYBODY
@pytest.mark.parametrize("mode", [FAST, SMART])
def test_ordered_shutdown_tells_the_term_set_of_a_full_house(
    cluster: Cluster, mode: ShutdownMode
) -> None:
    """TERM to autovacuum worker, parallel worker, summarizer; not to archiver and walsender."""
    with full_house(cluster, clients=mode is FAST) as pins:
        cluster.request_shutdown(mode)
        told = TERM_SET | SESSIONS
        expect_told(cluster, told_by_kind(pins, signal.SIGTERM, told))
    cluster.expect_exit(code=0)


@claim("TR18-18", "TR17-15", "SH-09", source=TERMINATE, needs=PRIMARY)
@EVERYBODY
def test_immediate_shutdown_tells_a_full_house_to_quit(cluster: Cluster) -> None:
    """QUIT to everybody but the logger, archiver and walsender included."""
    with full_house(cluster, clients=True) as pins:
        cluster.request_shutdown(IMMEDIATE)
        expect_told(cluster, {pin.child: {signal.SIGQUIT} for pin in pins})
    cluster.expect_exit(code=0)


@claim("CR-02", "TR18-10", source=FATAL, needs=[*PRIMARY, Need.CRASH_INJECTION])
@EVERYBODY
def test_crash_tells_a_full_house_to_quit(cluster: Cluster) -> None:
    """QUIT to everybody but the logger, archiver and walsender included."""
    then = cluster.since()
    with full_house(cluster, clients=True) as pins:
        victim = cluster.crash(Kind.WALWRITER)
        then.expect_log(f"^{TERMINATING}$")
        others = [pin.child for pin in pins if pin.child.key != victim.key]
        expect_told(cluster, {child: {signal.SIGQUIT} for child in others})
    # Not expect_ready(): an archiver comes no sooner than ten seconds after the last.
    then.expect_log(f"^{READY_LINE}$", within=deadlines.CRASH_RESTART_LIMIT)
    stop(cluster)


# A standby.


@pytest.fixture
def pair(make_cluster: MakeCluster) -> Pair:
    """A hot standby with everybody that it can have."""
    return start_pair(make_cluster, slotsync=True, summarize=True, **ARCHIVES_ALWAYS)


@contextlib.contextmanager
def standby_stopped(pair: Pair, *, clients: bool) -> Iterator[list[Pin]]:
    """Everybody of a hot standby, stopped."""
    standby = pair.standby
    wanted = {
        Kind.STARTUP,
        Kind.CHECKPOINTER,
        Kind.BACKGROUND_WRITER,
        Kind.WALRECEIVER,
        Kind.ARCHIVER,
        Kind.WALSENDER,
    }
    walsender(standby)
    if clients:
        standby.session()
        standby.silent_client()
        wanted |= SESSIONS
    if standby.target.version.major >= 17:
        wanted |= {Kind.WALSUMMARIZER, Kind.SLOTSYNC_WORKER}
    standby.wait_for(
        f"these kinds: {sorted(kind.value for kind in wanted)}",
        lambda: {kid.kind for kid in standby.children()} - {Kind.IO_WORKER} == wanted,
        describe=standby.watcher.summary,
    )
    standby.wait_for(
        "all orders taken", lambda: not any(pending_signals(kid) for kid in standby.children())
    )
    with everybody_stopped(standby) as pins:
        yield pins


@claim("SM-02", "TR18-20", "TR18-16", "TR18-14", "TR18-19", "RC-17", source=MACHINE, needs=STANDBY)
@pytest.mark.parametrize("mode", [FAST, SMART])
def test_ordered_shutdown_tells_the_term_set_of_a_standby(pair: Pair, mode: ShutdownMode) -> None:
    """TERM to startup, walreceiver, slotsync worker, summarizer; not to archiver and walsender."""
    standby = pair.standby
    then = standby.since()
    with standby_stopped(pair, clients=mode is FAST) as pins:
        standby.request_shutdown(mode)
        told = TERM_SET | SESSIONS
        expect_told(standby, told_by_kind(pins, signal.SIGTERM, told))
        aborting = then.find_log("^aborting any active transactions$")
        assert (aborting is not None) == (mode is FAST)
    standby.expect_exit(code=0)
    assert standby.controldata_state() is ControlState.SHUT_DOWN_IN_RECOVERY


@claim("TR18-18", "TR17-15", source=TERMINATE, needs=STANDBY)
def test_immediate_shutdown_tells_a_standby_to_quit(pair: Pair) -> None:
    """QUIT to everybody of a standby."""
    with standby_stopped(pair, clients=True) as pins:
        pair.standby.request_shutdown(IMMEDIATE)
        expect_told(pair.standby, {pin.child: {signal.SIGQUIT} for pin in pins})
    pair.standby.expect_exit(code=0)


@claim("CR-02", "TR18-10", "CR-27", source=FATAL, needs=[*STANDBY, Need.CRASH_INJECTION])
def test_crash_tells_a_standby_to_quit(pair: Pair) -> None:
    """QUIT to everybody of a standby, and then it starts anew as a standby."""
    standby = pair.standby
    then = standby.since()
    with standby_stopped(pair, clients=True) as pins:
        victim = standby.crash(Kind.BACKGROUND_WRITER)
        then.expect_log(f"^{TERMINATING}$")
        others = [pin.child for pin in pins if pin.child.key != victim.key]
        expect_told(standby, {child: {signal.SIGQUIT} for child in others})
    then.expect_log(f"^{READ_ONLY_LINE}$", within=deadlines.CRASH_RESTART_LIMIT)
    stop(standby)
