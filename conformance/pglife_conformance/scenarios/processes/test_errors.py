"""Background processes that meet an error: they tell it, wait, and go on.

Source       rules WS-03, IO-09; postmaster/walsummarizer.c: WalSummarizerMain(),
             storage/aio/method_worker.c: IoWorkerMain().
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import ServerError
from pglife_conformance.expect.crash import Before, expect_undisturbed
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.sleeping import sleep_ms
from pglife_conformance.pytest.claims import claim, settings

SQL = [Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.FULL_SQL]
AFTER_ERROR_MS = 10_000
LATEST_S = 60.0
DATA_CORRUPTED = "XX001"
BLOCKS, DAMAGED = 100, 50
BLOCK_SIZE = 8192


@contextlib.contextmanager
def nothing_can_be_made_in(cluster: Cluster, place: Path) -> Iterator[None]:
    """Nobody can make a file in this directory."""
    mode = place.stat().st_mode

    def put_back() -> None:
        if place.exists():
            place.chmod(mode)

    cluster.at_end.append(put_back)
    place.chmod(0o500)
    yield
    put_back()


@claim("WS-03", source="walsummarizer.c: WalSummarizerMain()", needs=[*SQL, Need.WALSUMMARIZER])
@settings(summarize_wal="on")
def test_walsummarizer_waits_after_an_error(cluster: Cluster) -> None:
    """A summarizer that fails tells of it and sleeps for ten seconds, then it tries again; the one
    that goes on is the same process."""
    before = Before.of(cluster)
    summarizer = cluster.child(Kind.WALSUMMARIZER)
    place = cluster.data / "pg_wal" / "summaries"
    with cluster.session() as session:
        with nothing_can_be_made_in(cluster, place):
            session.query("create table something(); checkpoint")
            told = cluster.expect_log("^could not create file .*summaries", since=before.mark)
            assert (told.pid, told.level) == (summarizer.pid, "ERROR")
            cluster.wait_for(
                "a sleep of ten seconds",
                lambda: sleep_ms(summarizer.pid) == AFTER_ERROR_MS,
                describe=lambda: f"{sleep_ms(summarizer.pid)} ms",
            )
            there = set(place.iterdir())
        cluster.wait_for("a summary", lambda: set(place.glob("*.summary")) - there, LATEST_S)
        expect_undisturbed(cluster, before)


@claim("IO-09", source="method_worker.c: IoWorkerMain()", needs=[*SQL, Need.CONTROL_FILE])
def test_page_that_is_damaged_is_a_sessions_error(cluster: Cluster) -> None:
    """A page that cannot be used is told to the session that wants it, which goes on; nobody else
    is concerned, and all other pages can be read."""
    values = f"select i, repeat('x', 7000) as x from generate_series(1, {BLOCKS}) i"
    with cluster.session() as session:
        session.query(f"create table big as {values} limit 0")
        session.query("alter table big alter x set storage plain")
        session.query(f"insert into big {values}")
        ((path,),) = session.query("select pg_relation_filepath('big')")
    cluster.request_shutdown("fast")
    cluster.expect_exit(code=0)
    with (cluster.data / str(path)).open("r+b") as file:
        file.seek(DAMAGED * BLOCK_SIZE)
        file.write(b"damage" * 100)
    cluster.start()
    with cluster.session() as session:
        before = Before.of(cluster)
        for _ in range(2):
            with pytest.raises(ServerError) as told:
                session.query("select count(*) from big")
            assert told.value.sqlstate == DATA_CORRUPTED
            found = told.value.answer.message
            assert found.startswith(f"invalid page in block {DAMAGED} of relation "), found
            others = f"select count(*) from big where ctid < '({DAMAGED},0)'"
            assert session.query(others) == [(str(DAMAGED),)]
        expect_undisturbed(cluster, before)
