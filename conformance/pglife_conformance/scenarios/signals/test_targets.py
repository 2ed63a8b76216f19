"""The first signals of a shutdown or a crash, to every kind of child that a server may have.

All children are stopped, so the signals stay pending. test_sent_by_the_postmaster.py does the same
for the kinds that every server has.
Source: postmaster.c: PostmasterStateMachine(), SignalChildren(), TerminateChildren().
"""

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
from pglife_conformance.scenarios.signals.test_optional_processes import (
    autovacuum_worker,
    parallel_worker,
)
from pglife_conformance.scenarios.signals.test_sent_by_the_postmaster import (
    BACKGROUND,
    SESSIONS,
    all_children_stopped,
    expect_each_pending,
    sent_by_kind,
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

EVERY_KIND = settings(
    archive_mode="on", archive_command="true", autovacuum_naptime="1s", logging_collector="on"
)

TERM_SET = BACKGROUND | {
    Kind.AUTOVACUUM_WORKER,
    Kind.PARALLEL_WORKER,
    Kind.WALSUMMARIZER,
    Kind.SLOTSYNC_WORKER,
    Kind.STARTUP,
    Kind.WALRECEIVER,
}
"""SM-02 without clients. Archiver, walsender, checkpointer and io worker are not in the set."""


def is_settled(cluster: Cluster, silent: int) -> bool:
    """No child has a pending signal, and the busy autovacuum worker is the only one.

    A child without a title may be an autovacuum worker, or belong to one of the silent clients.
    """
    kids = cluster.children()
    kinds = Counter(kid.kind for kid in kids)
    return (
        not any(pending_signals(kid) for kid in kids)
        and kinds[Kind.AUTOVACUUM_WORKER] == 1
        and kinds[Kind.UNKNOWN] == silent
    )


def stop_launcher(cluster: Cluster, silent: int) -> Pin:
    """Stop the autovacuum launcher first, while it has no pending signal.

    A worker sends it USR2 when it starts and when it exits. The HUP of an earlier reload must
    not be pending.
    """

    def stopped() -> Pin | None:
        if not is_settled(cluster, silent):
            return None
        pin = Pin(cluster, Kind.AUTOVACUUM_LAUNCHER)
        # An idle postmaster has forked every worker that the launcher requested before.
        cluster.expect_idle()
        if is_settled(cluster, silent):
            return pin
        pin.release()
        return None

    return cluster.wait_for("an idle launcher stopped", stopped, deadlines.START_LIMIT)


@contextlib.contextmanager
def every_kind_stopped(cluster: Cluster, *, clients: bool) -> Iterator[list[Pin]]:
    """Stop all children of a primary that has every kind of child."""
    wanted = {*BACKGROUND, Kind.ARCHIVER, Kind.WALSENDER, Kind.AUTOVACUUM_WORKER}
    if cluster.major >= 17:
        cluster.reload(summarize_wal="on")
        wanted.add(Kind.WALSUMMARIZER)
    with contextlib.ExitStack() as stack:
        with autovacuum_worker(cluster):
            # The session must exit before the children are stopped. The worker stays busy.
            pass
        walsender(cluster)
        if clients:
            stack.enter_context(parallel_worker(cluster))
            cluster.silent_client()
            wanted |= {Kind.PARALLEL_WORKER, *SESSIONS}
        cluster.wait_for(
            "a child of each kind",
            lambda: (
                {kid.kind for kid in cluster.children()} >= wanted
                and len(cluster.children(Kind.CLIENT_BACKEND)) == clients
            ),
        )
        stack.enter_context(stop_launcher(cluster, silent=int(clients)))
        kids = [kid for kid in cluster.children() if kid.kind is not Kind.LOGGER]
        yield [stack.enter_context(Pin(cluster, kid)) for kid in kids]


@claim("SM-02 TR18-20 TR17-17 SM-20 SM-21 BG-19 INV-39 AR-09", source=MACHINE, needs=PRIMARY)
@EVERY_KIND
@pytest.mark.parametrize("mode", [FAST, SMART])
def test_ordered_shutdown_sends_term_to_the_term_set(cluster: Cluster, mode: ShutdownMode) -> None:
    """An ordered shutdown first sends TERM to the term set, not to archiver and walsender."""
    with every_kind_stopped(cluster, clients=mode is FAST) as pins:
        cluster.request_shutdown(mode)
        kinds = TERM_SET | SESSIONS
        expect_each_pending(cluster, sent_by_kind(pins, signal.SIGTERM, kinds))
    cluster.expect_exit(code=0)


@claim("TR18-18 TR17-15 SH-09", source=TERMINATE, needs=PRIMARY)
@EVERY_KIND
def test_immediate_shutdown_sends_quit_to_every_kind(cluster: Cluster) -> None:
    """An immediate shutdown sends QUIT to all but the logger, also to archiver and walsender."""
    with every_kind_stopped(cluster, clients=True) as pins:
        cluster.request_shutdown(IMMEDIATE)
        expect_each_pending(cluster, {pin.child: {signal.SIGQUIT} for pin in pins})
    cluster.expect_exit(code=0)


@claim("CR-02 TR18-10", source=FATAL, needs=[*PRIMARY, Need.CRASH_INJECTION])
@EVERY_KIND
def test_crash_sends_quit_to_every_kind(cluster: Cluster) -> None:
    """After a crash QUIT is sent to all but the logger, also to archiver and walsender."""
    then = cluster.since()
    with every_kind_stopped(cluster, clients=True) as pins:
        victim = cluster.crash(Kind.WALWRITER)
        then.expect_log(f"^{TERMINATING}$")
        others = [pin.child for pin in pins if pin.child.key != victim.key]
        expect_each_pending(cluster, {child: {signal.SIGQUIT} for child in others})
    # Not expect_ready(): an archiver starts at the earliest ten seconds after the last one.
    then.expect_log(f"^{READY_LINE}$", within=deadlines.CRASH_RESTART_LIMIT)
    stop(cluster)


# The same on a standby.


@pytest.fixture
def pair(make_cluster: MakeCluster) -> Pair:
    """A hot standby with every kind of child that a standby may have."""
    return start_pair(make_cluster, slotsync=True, summarize=True, **ARCHIVES_ALWAYS)


@contextlib.contextmanager
def standby_stopped(pair: Pair, *, clients: bool) -> Iterator[list[Pin]]:
    """Stop all children of a hot standby."""
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
    if standby.major >= 17:
        wanted |= {Kind.WALSUMMARIZER, Kind.SLOTSYNC_WORKER}
    standby.wait_for(
        f"these kinds: {sorted(kind.value for kind in wanted)}",
        lambda: {kid.kind for kid in standby.children()} - {Kind.IO_WORKER} == wanted,
        describe=standby.watcher.summary,
    )
    standby.wait_for(
        "no pending signal", lambda: not any(pending_signals(kid) for kid in standby.children())
    )
    with all_children_stopped(standby) as pins:
        yield pins


@claim("SM-02 TR18-20 TR18-16 TR18-14 TR18-19 RC-17", source=MACHINE, needs=STANDBY)
@pytest.mark.parametrize("mode", [FAST, SMART])
def test_ordered_shutdown_sends_term_to_the_set_of_a_standby(
    pair: Pair, mode: ShutdownMode
) -> None:
    """An ordered shutdown of a standby first sends TERM to the startup process and the term set."""
    standby = pair.standby
    then = standby.since()
    with standby_stopped(pair, clients=mode is FAST) as pins:
        standby.request_shutdown(mode)
        kinds = TERM_SET | SESSIONS
        expect_each_pending(standby, sent_by_kind(pins, signal.SIGTERM, kinds))
        aborting = then.find_log("^aborting any active transactions$")
        assert (aborting is not None) == (mode is FAST)
    standby.expect_exit(code=0)
    assert standby.controldata_state() is ControlState.SHUT_DOWN_IN_RECOVERY


@claim("TR18-18 TR17-15", source=TERMINATE, needs=STANDBY)
def test_immediate_shutdown_sends_quit_to_every_kind_of_a_standby(pair: Pair) -> None:
    """An immediate shutdown of a standby sends QUIT to all its children."""
    with standby_stopped(pair, clients=True) as pins:
        pair.standby.request_shutdown(IMMEDIATE)
        expect_each_pending(pair.standby, {pin.child: {signal.SIGQUIT} for pin in pins})
    pair.standby.expect_exit(code=0)


@claim("CR-02 TR18-10 CR-27", source=FATAL, needs=[*STANDBY, Need.CRASH_INJECTION])
def test_crash_sends_quit_to_every_kind_of_a_standby(pair: Pair) -> None:
    """After a crash a standby sends QUIT to all its children, and restarts as a standby."""
    standby = pair.standby
    then = standby.since()
    with standby_stopped(pair, clients=True) as pins:
        victim = standby.crash(Kind.BACKGROUND_WRITER)
        then.expect_log(f"^{TERMINATING}$")
        others = [pin.child for pin in pins if pin.child.key != victim.key]
        expect_each_pending(standby, {child: {signal.SIGQUIT} for child in others})
    then.expect_log(f"^{READ_ONLY_LINE}$", within=deadlines.CRASH_RESTART_LIMIT)
    stop(standby)
