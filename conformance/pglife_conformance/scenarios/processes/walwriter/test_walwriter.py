"""The walwriter: its sleep, its wake-ups, and asynchronous commits."""

import time

from pglife_conformance.base.needs import SIGNALS, SQL, Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.signals import was_woken
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.support.sleeping import pinned_asleep

WAL_DELAY_MS = 30
WAL_LONG_MS = 25 * WAL_DELAY_MS
SLEEP_COMES_WITHIN_S = 30.0
"""Fifty rounds of a walwriter, each of which a loaded machine may stretch."""


@claim("BW-04", source="walwriter.c: WalWriterMain()", needs=SQL)
@settings(wal_writer_delay=f"{WAL_DELAY_MS}ms")
def test_walwriter_that_sleeps_long_is_woken_by_each_commit(cluster: Cluster) -> None:
    """From the first long sleep on, each asynchronous commit wakes the walwriter."""
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
    """A walwriter in a short sleep is woken by a large commit, not by a small one."""
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


@claim("BW-04", source="walwriter.c: WalWriterMain()", needs=[*SIGNALS, Need.FULL_SQL])
def test_walwriter_flushes_what_is_committed_asynchronously(cluster: Cluster) -> None:
    """The walwriter soon flushes an asynchronous commit, without another process's help."""
    with cluster.session() as session:
        session.query("create table something(a int); set synchronous_commit = off")
        for _ in range(2):
            # Before the commit is written: after it, at the end of a page, the place would be that
            # of a record to come, behind the header of the next page.
            inserted = "insert into something values (1) returning pg_current_wal_insert_lsn()"
            where = session.query(inserted)[0][0]
            cluster.wait_for(
                "the flush",
                lambda where=where: (  # type: ignore[misc]
                    session.query(f"select pg_current_wal_flush_lsn() >= '{where}'") == [("t",)]
                ),
            )
