"""The background writer: its sleep, what wakes it, and what its timer does."""

import time
from collections.abc import Callable

import pytest

from pglife_conformance.base.needs import SIGNALS, SQL, Need
from pglife_conformance.cluster.cluster import Cluster, MakeCluster
from pglife_conformance.cluster.standby import ALONE, READ_ONLY_LINE, stop
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.signals import was_woken
from pglife_conformance.observation.sleeping import sleep_ms
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.processes.test_inherited import files_of
from pglife_conformance.scenarios.support.all_processes import run_counts
from pglife_conformance.scenarios.support.sleeping import pinned_asleep
from pglife_conformance.scenarios.support.wal import place

BUFFER_DELAY_MS = 200
BUFFER_LONG_MS = 50 * BUFFER_DELAY_MS
SLEEP_COMES_WITHIN_S = 30.0
"""Fifty rounds of a walwriter, each of which a loaded machine may stretch."""


@claim("BW-01", source="bgwriter.c: BackgroundWriterMain()", needs=SQL)
@settings(bgwriter_delay=f"{BUFFER_DELAY_MS}ms")
def test_background_writer_sleeps_long_after_two_idle_rounds(cluster: Cluster) -> None:
    """Woken by a session that needs buffers, the background writer makes at least three rounds of
    the ordinary length."""
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


SNAPSHOT_AGAIN_S = 15
LATEST_S = 30
"""What comes so much too late is not late by the machine's doing."""
QUIET = {"autovacuum": "off", "bgwriter_delay": "10ms"}
"""Only the asked session writes WAL, and the background writer checks its timer often."""


@claim("BW-02", source="bgwriter.c: BackgroundWriterMain()", needs=[*SQL, Need.STANDBY])
@pytest.mark.waits_long
def test_running_transactions_are_recorded_every_fifteen_seconds(make_cluster: MakeCluster) -> None:
    """After a change the background writer records the running transactions once where a standby
    may read them; with wal_level = minimal, or on a standby, it never does."""
    standby = make_cluster(**ALONE, **QUIET)
    standby.write_file("standby.signal")
    standby.start(wait=False)
    standby.expect_log(f"^{READ_ONLY_LINE}$")
    minimal = make_cluster(**QUIET, wal_level="minimal", max_wal_senders=0)
    minimal.start()
    began = time.monotonic()
    primary = make_cluster(**QUIET)
    primary.start()
    with primary.session() as on_primary, minimal.session() as on_minimal:
        ends = {}
        for session in (on_primary, on_minimal):
            session.query("create table something()")
            place(session)
            ends[session] = place(session)
        primary.wait_for("a record", lambda: place(on_primary) != ends[on_primary], LATEST_S)
        assert time.monotonic() - began >= SNAPSHOT_AGAIN_S
        last = place(on_primary)
        primary.expect_still("no other", lambda: place(on_primary) == last, 0.5)
        assert place(on_minimal) == ends[on_minimal]
    writer = standby.child(Kind.BACKGROUND_WRITER)
    assert standby.log(pid=writer.pid) == []
    stop(standby, minimal, primary)


@claim(
    "BW-01 CK-01",
    source="checkpointer.c: FirstCallSinceLastCheckpoint()",
    needs=[Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.FULL_SQL],
)
@settings(shared_buffers="1MB", bgwriter_delay="10ms", bgwriter_lru_multiplier="10")
def test_dropped_file_is_not_kept_open_after_a_checkpoint(cluster: Cluster) -> None:
    """After a checkpoint the background writer has closed a dropped file that it wrote to."""
    writer = cluster.child(Kind.BACKGROUND_WRITER)
    with cluster.session() as session:
        for _ in range(2):
            session.query("create table something(a int)")
            ((path,),) = session.query("select pg_relation_filepath('something')")
            assert path is not None
            file = str((cluster.data / path).resolve())

            def is_open(file: str = file) -> bool:
                session.query("insert into something select generate_series(1, 20000)")
                return file in files_of(writer.pid)

            cluster.wait_for("a background writer that writes to the table", is_open)
            session.query("drop table something")
            session.query("checkpoint")
            cluster.wait_for(
                "no file of the table held open",
                lambda file=file: (
                    not any(  # type: ignore[misc]
                        name.startswith(file) for name in files_of(writer.pid)
                    )
                ),
            )


ALL_NEEDS = [*SIGNALS, Need.FULL_SQL, Need.ARCHIVER, Need.LOGGER]
HIBERNATING_LONG = {"bgwriter_delay": "600ms"}
"""A background writer hibernates for fifty times its delay, so that is thirty seconds."""
WELL_BEFORE_IT_WAKES_BY_ITSELF_S = 10.0


def _wakes_of(cluster: Cluster, kind: Kind) -> Callable[[], int]:
    pid = cluster.child(kind).pid
    return lambda: run_counts(pid)[0]


@claim("PG-34 BW-01", source="bgwriter.c: BackgroundWriterMain()", needs=[*SIGNALS, *ALL_NEEDS])
@settings(**HIBERNATING_LONG)
def test_hibernating_background_writer_is_woken_by_a_session(cluster: Cluster) -> None:
    """A session that needs a buffer wakes a hibernating background writer."""
    with cluster.session() as session:
        session.query("create table something as select generate_series(1, 1000)")
        asleep = (
            "select 1 from pg_stat_activity where lower(wait_event) = 'bgwriterhibernate' "
            "and backend_type = 'background writer'"
        )
        session.expect_rows(asleep, [("1",)])
        wakes = _wakes_of(cluster, Kind.BACKGROUND_WRITER)
        then = wakes()
        session.query("create table more as select generate_series(1, 1000)")
        cluster.wait_for("a wake-up", lambda: wakes() > then, WELL_BEFORE_IT_WAKES_BY_ITSELF_S)
