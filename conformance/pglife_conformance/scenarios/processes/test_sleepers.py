"""How long background processes sleep, who wakes them, and when nobody needs to.

Source       rules BG-25, BW-01, BW-04, CK-08, CR-41, IO-10, SL-04, WS-02; postmaster/postmaster.c,
             walwriter.c, bgwriter.c, checkpointer.c, walsummarizer.c, storage/aio/method_worker.c,
             replication/logical/launcher.c, access/transam/xlog.c: XLogSetAsyncXactLSN(),
             storage/buffer/freelist.c: StrategyGetBuffer().
"""

from __future__ import annotations

import contextlib
import re
import signal
import time
from collections.abc import Iterator

import pytest

from pglife_conformance.base.deadlines import CRASH_RESTART_LIMIT
from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.expect.crash import Before, expect_undisturbed
from pglife_conformance.hold.pin import Pin
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.leftovers import processes_in
from pglife_conformance.observation.log import LogRecord
from pglife_conformance.observation.processes import Child
from pglife_conformance.observation.rest import Rest
from pglife_conformance.observation.signals import orders_pending, was_woken
from pglife_conformance.observation.sleeping import sleep_ms, sleeps_without_end
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.processes.checkpointer.test_checkpoints import spread_checkpoint

SQL = [Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.FULL_SQL]

WAL_DELAY_MS = 30
WAL_LONG_MS = 25 * WAL_DELAY_MS
BUFFER_DELAY_MS = 200
BUFFER_LONG_MS = 50 * BUFFER_DELAY_MS
SLEEP_COMES_WITHIN_S = 30.0
"""Fifty rounds of a walwriter, each of which a loaded machine may stretch."""


POSTMASTER_MS = 60_000
LAUNCHER_MS = 180_000
BY_SELECT = "the postmaster waits by select() before"


def expect_sleep(cluster: Cluster, who: str, pid: int, ms: int) -> None:
    """Somebody sleeps, sooner or later, for exactly so long."""
    cluster.wait_for(
        f"{who} to sleep for {ms} ms",
        lambda: sleep_ms(pid) == ms,
        describe=lambda: f"{sleep_ms(pid)} ms",
    )


def expect_sleep_without_end(cluster: Cluster, child: Child) -> None:
    """A child sleeps, sooner or later, until an event ends it."""
    cluster.wait_for(
        f"{child} to sleep without end",
        lambda: sleeps_without_end(child.pid),
        describe=lambda: f"{sleep_ms(child.pid)} ms",
    )


@contextlib.contextmanager
def pinned_asleep(cluster: Cluster, child: Child, ms: int) -> Iterator[None]:
    """Hold a child in a sleep of exactly this length; nobody has woken it yet.

    One that wakes before it is stopped is tried again. A woken one is runnable from the moment
    that its latch is set, and so it is not taken for one that sleeps.
    """
    while True:
        cluster.wait_for(
            f"a sleep of {ms} ms", lambda: sleep_ms(child.pid) == ms, SLEEP_COMES_WITHIN_S
        )
        with Pin(cluster, child):
            if sleep_ms(child.pid) == ms and not was_woken(child.pid):
                yield
                return


# The walwriter.


@claim("BW-04", source="walwriter.c: WalWriterMain()", needs=SQL)
@settings(wal_writer_delay=f"{WAL_DELAY_MS}ms")
def test_walwriter_that_sleeps_long_is_woken_by_each_commit(cluster: Cluster) -> None:
    """From the first long sleep on, whoever commits asynchronously wakes the walwriter."""
    walwriter = cluster.child(Kind.WALWRITER)
    with cluster.session() as session:
        session.query("create table something(a int); set synchronous_commit = off")
        for _ in range(2):
            session.query("insert into something values (1)")
            # What counts is the first long sleep after work; should it be missed, the claim is
            # the same about those that follow.
            with pinned_asleep(cluster, walwriter, WAL_LONG_MS):
                session.query("insert into something values (2)")
                assert was_woken(walwriter.pid)


@claim(
    "BW-04",
    source="xlog.c: XLogSetAsyncXactLSN()",
    needs=SQL,
    since=18,
    why="a page that is full was enough before",
)
@settings(wal_writer_delay="2s", wal_writer_flush_after="64kB")
def test_walwriter_that_sleeps_for_a_moment_is_woken_by_volume_alone(cluster: Cluster) -> None:
    """A walwriter that will wake soon is woken by a commit of much, not by a small one."""
    began = time.monotonic()
    walwriter = cluster.child(Kind.WALWRITER)
    with cluster.session() as session:
        session.query("create table something(a text)")
        with pinned_asleep(cluster, walwriter, 2000):
            session.query("insert into something values ('committed, and flushed')")
            session.query("set synchronous_commit = off")
            session.query("insert into something values ('small')")
            # In its last round before a long sleep, the 49th, it asks to be woken already.
            if time.monotonic() - began < 40:
                assert not was_woken(walwriter.pid)
            session.query(
                "insert into something select repeat('x', 1000) from generate_series(1, 300)"
            )
            assert was_woken(walwriter.pid)


# The walsummarizer.

SUMMARIZER = "walsummarizer.c: summarizer_wait_for_wal()"
SUMMARIZER_MS = 200
"""MS_PER_SLEEP_QUANTUM (walsummarizer.c)."""


@claim("WS-02", source=SUMMARIZER, needs=[*SQL, Need.WALSUMMARIZER])
@settings(summarize_wal="on")
def test_walsummarizer_sleeps_longer_the_less_there_is(cluster: Cluster) -> None:
    """Each sleep after which there was no WAL is followed by one of twice its length; after much
    WAL the shortest comes."""
    summarizer = cluster.child(Kind.WALSUMMARIZER)

    def sleeps(ms: int) -> bool:
        return sleep_ms(summarizer.pid) == ms

    def sleeps_short() -> bool:
        # Seen or not, such a sleep is over soon: once more then.
        if not sleeps(SUMMARIZER_MS):
            session.query(
                "insert into something select repeat('x', 1000) from generate_series(1, 100)"
            )
        return sleeps(SUMMARIZER_MS)

    with cluster.session() as session:
        session.query("create table something(a text)")
        for length in (4, 8):
            cluster.wait_for(
                f"a sleep of {length} quanta",
                lambda length=length: sleeps(length * SUMMARIZER_MS),  # type: ignore[misc]
                SLEEP_COMES_WITHIN_S,
            )
        cluster.wait_for("the shortest sleep", sleeps_short, SLEEP_COMES_WITHIN_S)


# The background writer.


@claim("BW-01", source="bgwriter.c: BackgroundWriterMain()", needs=SQL)
@settings(bgwriter_delay=f"{BUFFER_DELAY_MS}ms")
def test_background_writer_sleeps_long_after_two_idle_rounds(cluster: Cluster) -> None:
    """Woken by who needs buffers, it makes three rounds of the ordinary length at least."""
    writer = cluster.child(Kind.BACKGROUND_WRITER)
    with cluster.session() as session:
        session.query("create table something as select generate_series(1, 1000)")

        def sleeps_long() -> bool:
            return sleep_ms(writer.pid) == BUFFER_LONG_MS

        with pinned_asleep(cluster, writer, BUFFER_LONG_MS):
            # All is counted before it can look: one buffer of them would wake it too early.
            session.query("create table more as select generate_series(1, 1000)")
            assert was_woken(writer.pid)
            began = time.monotonic()
        # One that goes on is seen in its old sleep until it gets a processor.
        cluster.wait_for("the end of that sleep", lambda: not sleeps_long())
        while True:
            slept_long = sleeps_long()
            if time.monotonic() - began > 3 * BUFFER_DELAY_MS / 1000:
                break
            assert not slept_long
        cluster.wait_for("a long sleep", sleeps_long, SLEEP_COMES_WITHIN_S)


# The checkpointer.


@claim("CR-41", "CK-08", source="checkpointer.c: CheckpointWriteDelay()", needs=SQL)
@pytest.mark.unmonitored("the model ends with its postmaster")
@settings(log_checkpoints="on")
def test_spread_checkpoint_ends_with_the_postmaster(cluster: Cluster) -> None:
    """A checkpointer that takes its time goes at once when the postmaster dies."""
    mark = cluster.mark()
    with spread_checkpoint(cluster):
        cluster.signal_postmaster(signal.SIGKILL)
        cluster.wait_for("the postmaster's end", lambda: not cluster.is_running())
        cluster.wait_for(
            "the end of everybody",
            lambda: not processes_in(cluster.directory),
            CRASH_RESTART_LIMIT,
            describe=lambda: "; ".join(map(str, processes_in(cluster.directory))),
        )
    cluster.expect_no_log("^checkpoint complete: ", since=mark)


@claim("CK-01", source="checkpointer.c: AbsorbSyncRequests()", needs=SQL)
@settings(log_checkpoints="on", fsync="on")
def test_what_has_been_synced_is_not_synced_again(cluster: Cluster) -> None:
    """A file that was written is synced by one checkpoint; a file that has gone, by none."""

    def synced() -> int:
        mark = cluster.mark()
        session.query("checkpoint")
        done = cluster.expect_log("^checkpoint complete: ", since=mark)
        files = re.search(r"sync files=(\d+),", done.message)
        assert files is not None
        return int(files[1])

    with cluster.session() as session:
        before = Before.of(cluster)
        session.query("create table something as select generate_series(1, 1000)")
        assert synced() > 0
        session.query("drop table something")
        # Whoever looks at what is new may leave hints there, to be written with the next one.
        cluster.wait_for("a checkpoint that has nothing to sync", lambda: synced() == 0, 60.0)
        expect_undisturbed(cluster, before)


NAP_MS = 100


@claim("CK-08", "CK-01", source="checkpointer.c: CheckpointWriteDelay()", needs=SQL)
@settings(log_checkpoints="on")
@pytest.mark.parametrize("hurry", ["checkpoint", "shutdown"])
def test_hurried_checkpoint_takes_no_further_nap(cluster: Cluster, hurry: str) -> None:
    """Once somebody is in a hurry a spread checkpoint does not sleep between its writes."""
    mark = cluster.mark()
    checkpointer = cluster.child(Kind.CHECKPOINTER)
    with spread_checkpoint(cluster), cluster.session() as session, contextlib.ExitStack() as held:

        def done() -> LogRecord | None:
            assert sleep_ms(checkpointer.pid) != NAP_MS
            return cluster.find_log("^checkpoint complete: ", since=mark)

        held.enter_context(pinned_asleep(cluster, checkpointer, NAP_MS))
        if hurry == "checkpoint":
            session.send_query("checkpoint")
            rest = Rest(session.backend_pid)
            cluster.wait_for("the request made", rest.has_come)
        else:
            cluster.request_shutdown("fast")
            cluster.wait_for(
                "the order to the checkpointer", lambda: any(orders_pending(checkpointer))
            )
        # What made it go on is there already: it comes out of this nap without a look back.
        held.close()
        cluster.wait_for("the end of that nap", lambda: sleep_ms(checkpointer.pid) != NAP_MS)
        cluster.wait_for("the checkpoint without a nap", done, CRASH_RESTART_LIMIT)
        if hurry == "checkpoint":
            session.result()
        else:
            cluster.expect_exit(code=0)


# Io workers.


@claim("IO-10", source="method_worker.c: pgaio_worker_register()", needs=[*SQL, Need.IO_WORKERS])
@settings(io_workers="2")
def test_io_workers_wake_nobody_who_is_not_there(cluster: Cluster) -> None:
    """When all io workers have been called, one that finds more to do calls nobody else."""
    with cluster.session() as first, cluster.session() as second:
        for name in ("one", "two"):
            values = "select repeat('x', 500) from generate_series(1, 8000)"
            first.query(f"create table {name} as {values}")
        for session in (first, second):
            # What is read of catalogs has been read.
            session.query("select count(*) from one limit 0")
            session.query("select count(*) from two limit 0")
        before = Before.of(cluster)
        with contextlib.ExitStack() as held:
            for worker in cluster.children(Kind.IO_WORKER):
                rest = Rest(worker.pid)
                cluster.wait_for("an io worker at rest", rest.has_come)
                held.enter_context(Pin(cluster, worker))
            for session, name in ((first, "one"), (second, "two")):
                session.send_query(f"select count(*) from {name}")
                rest = Rest(session.backend_pid)
                cluster.wait_for("a session that waits for its first block", rest.has_come)
                if not session.is_silent():
                    raise Inconclusive("a table that is not in the buffers", "it was there")
        for session in (first, second):
            assert session.result() == [("8000",)]
        expect_undisturbed(cluster, before)


# Who has nothing to do.


@claim("SL-04", source="postmaster.c: DetermineSleepTime()", needs=SQL, since=16, why=BY_SELECT)
def test_postmaster_that_has_nothing_to_do_sleeps_for_a_minute(cluster: Cluster) -> None:
    """Without a clock of its own to wait for the postmaster looks around once a minute."""
    with cluster.session():
        expect_sleep(cluster, "postmaster", cluster.pid, POSTMASTER_MS)


@claim("BG-25", source="launcher.c: ApplyLauncherMain()", needs=SQL)
def test_logical_replication_launcher_sleeps_for_three_minutes(cluster: Cluster) -> None:
    """Without subscriptions it looks for some every three minutes."""
    launcher = cluster.child(Kind.LOGICAL_REPLICATION_LAUNCHER)
    expect_sleep(cluster, str(launcher), launcher.pid, LAUNCHER_MS)


@claim("IO-10", source="method_worker.c: IoWorkerMain()", needs=[*SQL, Need.IO_WORKERS])
def test_io_workers_and_sessions_sleep_until_they_are_asked(cluster: Cluster) -> None:
    """An io worker without a read, and a session without a statement, wait without end."""
    with cluster.session() as session:
        for child in (*cluster.children(Kind.IO_WORKER), session.child):
            expect_sleep_without_end(cluster, child)
