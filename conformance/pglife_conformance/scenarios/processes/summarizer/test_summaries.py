"""The walsummarizer: its summaries, the WAL kept for it, and a promotion.

Source: postmaster/walsummarizer.c: SummarizeWAL(), summarizer_read_local_xlog_page(),
GetOldestUnsummarizedLSN(), MaybeRemoveOldWalSummaries(); access/transam/xlog.c: KeepLogSeg().
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pglife_conformance.base import deadlines
from pglife_conformance.base.needs import SQL, Need
from pglife_conformance.cluster.cluster import Cluster, MakeCluster
from pglife_conformance.cluster.session import Session
from pglife_conformance.cluster.standby import start_pair, stop
from pglife_conformance.hold.pin import Pin
from pglife_conformance.observation.idle import IdleProbe
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.sleeping import sleep_ms
from pglife_conformance.pytest.claims import claim, settings

HISTORIC = r"^timeline 1 became historic, can read up to [0-9A-F]+/[0-9A-F]+$"


@claim(
    "WS-02 RC-12",
    source="walsummarizer.c: summarizer_read_local_xlog_page()",
    needs=[Need.STANDBY, Need.WALSUMMARIZER, Need.FULL_SQL],
)
def test_summarizer_follows_a_promotion(make_cluster: MakeCluster) -> None:
    """A summarizer that waits for WAL notices a promotion, logs it at DEBUG1, and continues on the
    new timeline."""
    pair = start_pair(make_cluster, summarize=True)
    standby = pair.standby
    summarizer = standby.child(Kind.WALSUMMARIZER)
    standby.expect_idle(summarizer)
    before = standby.since()
    with standby.session() as session:
        assert session.query("select pg_promote()") == [("t",)]
        session.query("checkpoint")
        line = before.expect_log(HISTORIC, within=deadlines.START_LIMIT)
        assert (line.pid, line.level) == (summarizer.pid, "DEBUG")
        place = standby.data / "pg_wal" / "summaries"
        standby.wait_for(
            "a summary of the new timeline", lambda: any(place.glob("00000002*.summary")), 20.0
        )
        gap = (
            "select (select max(end_lsn) from pg_available_wal_summaries() where tli = 1) = "
            "(select min(start_lsn) from pg_available_wal_summaries() where tli = 2)"
        )
        assert session.query(gap) == [("t",)]
    assert standby.child(Kind.WALSUMMARIZER).key == summarizer.key
    stop(standby, pair.primary)


@claim("WS-02", source="walsummarizer.c: SummarizeWAL()", needs=[Need.WALSUMMARIZER, Need.FULL_SQL])
@settings(summarize_wal="on", autovacuum="off")
def test_summary_lists_changed_blocks(cluster: Cluster) -> None:
    """A summary lists the written blocks of all forks but the free space map, and the shortest
    length of a relation since."""
    with cluster.session() as session:
        session.query("create table something as select generate_series(1, 1000) as a")
        session.query("create table other as select 1 as a")
        session.query("checkpoint")
        (began,) = session.query("select pg_current_wal_insert_lsn()")[0]
        session.query("update something set a = 0 where ctid = '(2,1)'")
        # Pages 3 and 4 become empty, and are cut off.
        session.query("delete from something where ctid > '(2,100)'")
        session.query("vacuum something")
        session.query("truncate other")
        session.query("checkpoint")
        (ended,) = session.query("select pg_current_wal_insert_lsn()")[0]
        # Whatever is written after a checkpoint makes the summarizer see its end.
        session.query("create table more(a int); checkpoint")
        until = f"select summarized_lsn >= '{ended}' from pg_get_wal_summarizer_state()"
        session.expect_rows(until, [("t",)], 20.0)
        changed = set(
            session.query(
                "select relname, relforknumber, relblocknumber, is_limit_block"
                " from pg_available_wal_summaries() s, pg_class,"
                " lateral pg_wal_summary_contents(s.tli, s.start_lsn, s.end_lsn) c"
                f" where s.end_lsn > '{began}' and c.relfilenode = pg_relation_filenode(oid)"
                " and relname in ('something', 'other')"
            )
        )
    blocks = {row[1:3] for row in changed if row[0] == "something" and row[3] == "f"}
    assert {("0", "2"), ("2", "0")} <= blocks <= {("0", "0"), ("0", "1"), ("0", "2"), ("2", "0")}
    assert {("something", "0", "3", "t"), ("other", "0", "0", "t")} <= changed


FEW_SEGMENTS = {"summarize_wal": "on", "autovacuum": "off", "min_wal_size": "2MB"}
DAY_S = 24 * 3600
UNNEEDED = """
    select format('%s%s%s.summary', lpad(to_hex(tli), 8, '0'), hex(start_lsn), hex(end_lsn))
    from pg_available_wal_summaries() where end_lsn <= oldest()"""
HELPERS = """
    create function hex(place pg_lsn) returns text as $$
        select upper(lpad(to_hex((place - '0/0')::bigint), 16, '0')) $$ language sql;
    create function oldest() returns pg_lsn as $$
        select '0/0'::pg_lsn + min(segment_number * bytes)
        from pg_ls_waldir() w, pg_split_walfile_name(w.name),
            pg_size_bytes(current_setting('wal_segment_size')) bytes
        where w.name ~ '^[0-9A-F]{24}$' $$ language sql"""
"""The name of a summary's file, and where the WAL begins that is still there."""


def fill_a_segment(session: Session) -> None:
    """Something for a summary, and a segment that is full."""
    session.query("drop table if exists something")
    session.query("create table something as select 1 as a")
    session.query("select pg_switch_wal()")
    session.query("checkpoint")


def summarize_all(cluster: Cluster, session: Session) -> None:
    """The summarizer has come to the last checkpoint, at least."""
    session.query("checkpoint")
    (ended,) = session.query("select redo_lsn from pg_control_checkpoint()")[0]
    session.query("create table if not exists more(a int); checkpoint")
    until = f"select summarized_lsn >= '{ended}' from pg_get_wal_summarizer_state()"
    session.expect_rows(until, [("t",)], 30.0)


@claim("WS-02", source="xlog.c: KeepLogSeg()", needs=[Need.WALSUMMARIZER, Need.FULL_SQL])
@settings(**FEW_SEGMENTS)
def test_wal_is_kept_until_it_has_been_summarized(cluster: Cluster) -> None:
    """While a summarizer is stopped, no checkpoint removes WAL that it has not read; afterwards one
    does."""
    with cluster.session() as session:
        summarize_all(cluster, session)
        (name,) = session.query("select pg_walfile_name(pg_current_wal_lsn())")[0]
        oldest = cluster.data / "pg_wal" / str(name)
        summarizer = cluster.child(Kind.WALSUMMARIZER)
        cluster.expect_idle(summarizer)
        with Pin(cluster, summarizer):
            for _ in range(4):
                fill_a_segment(session)
                assert oldest.exists()

        def is_gone() -> bool:
            session.query("create table if not exists more(a int); checkpoint")
            return not oldest.exists()

        cluster.wait_for("that segment to be taken", is_gone, 30.0)


@claim(
    "WS-06",
    source="walsummarizer.c: MaybeRemoveOldWalSummaries()",
    needs=[Need.WALSUMMARIZER, Need.FULL_SQL],
)
@settings(**FEW_SEGMENTS)
@pytest.mark.parametrize("keep_time", ["1d", "0"])
def test_summaries_are_kept_for_wal_summary_keep_time(cluster: Cluster, keep_time: str) -> None:
    """The first checkpoint after wal_summary_keep_time removes a summary whose WAL has been
    removed, and no other; with 0 no summary is removed."""
    cluster.reload(wal_summary_keep_time=keep_time)
    place = cluster.data / "pg_wal" / "summaries"

    def there() -> set[str]:
        return {path.name for path in place.glob("*.summary")}

    with cluster.session() as session:
        session.query(HELPERS)
        for _ in range(5):
            fill_a_segment(session)
            summarize_all(cluster, session)
        young = there()
        summarize_all(cluster, session)
        assert young <= there()
        old = there()
        for name in old:
            long_ago = time.time() - 2 * DAY_S
            os.utime(place / name, (long_ago, long_ago))
        unneeded = {str(row[0]) for row in session.query(UNNEEDED)} & old
        assert unneeded
        assert unneeded < old
        summarize_all(cluster, session)
        wanted = old if keep_time == "0" else old - unneeded
        rest = IdleProbe(cluster.child(Kind.WALSUMMARIZER).pid)
        cluster.wait_for(
            f"{sorted(wanted)} of them", lambda: there() & old == wanted and rest.is_idle(), 30.0
        )


@claim("WS-02", source="walsummarizer.c: WalSummarizerMain()", needs=[*SQL, Need.WALSUMMARIZER])
@settings(summarize_wal="on")
def test_walsummarizer_writes_a_summary_for_each_checkpoint(cluster: Cluster) -> None:
    """The WAL between two checkpoints is summarized as soon as the second is complete."""
    place = cluster.data / "pg_wal" / "summaries"

    def summaries() -> int:
        return len(list(place.glob("*.summary")))

    with cluster.session() as session:
        for number in range(2):
            before = summaries()
            session.query(f"create table something_{number}()")
            session.query("checkpoint")
            session.query(f"create table something_else_{number}()")
            cluster.wait_for("another summary", lambda before=before: summaries() > before)  # type: ignore[misc]


SLEEP_COMES_WITHIN_S = 30.0
"""Fifty rounds of a walwriter, each of which a loaded machine may stretch."""
SUMMARIZER = "walsummarizer.c: summarizer_wait_for_wal()"
SUMMARIZER_MS = 200
"""MS_PER_SLEEP_QUANTUM (walsummarizer.c)."""


@claim("WS-02 WS-04", source=SUMMARIZER, needs=[*SQL, Need.WALSUMMARIZER])
@settings(summarize_wal="on")
def test_walsummarizer_sleeps_longer_the_less_there_is(cluster: Cluster) -> None:
    """A sleep after which there was no new WAL is followed by one of twice its length; after much
    WAL the shortest follows."""
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


AFTER_ERROR_MS = 10_000
LATEST_S = 60.0


@contextlib.contextmanager
def nothing_can_be_made_in(cluster: Cluster, place: Path) -> Iterator[None]:
    """No process can create a file in this directory."""
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
    """A summarizer that fails logs an ERROR, sleeps for ten seconds, and tries again in the same
    process."""
    before = cluster.since()
    summarizer = cluster.child(Kind.WALSUMMARIZER)
    place = cluster.data / "pg_wal" / "summaries"
    with cluster.session() as session:
        with nothing_can_be_made_in(cluster, place):
            session.query("create table something(); checkpoint")
            line = before.expect_log("^could not create file .*summaries")
            assert (line.pid, line.level) == (summarizer.pid, "ERROR")
            cluster.expect_sleep(summarizer, AFTER_ERROR_MS)
            there = set(place.iterdir())
        cluster.wait_for("a summary", lambda: set(place.glob("*.summary")) - there, LATEST_S)
        before.expect_undisturbed()
