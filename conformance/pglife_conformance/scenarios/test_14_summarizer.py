"""What the walsummarizer writes, and whether it follows a promotion.

Source       rules WS-02, RC-12; postmaster/walsummarizer.c: summarizer_read_local_xlog_page(),
             SummarizeWAL().
"""

from __future__ import annotations

import pytest

from pglife_conformance import deadlines
from pglife_conformance.claims import claim, settings
from pglife_conformance.cluster import Cluster
from pglife_conformance.crashes import Before
from pglife_conformance.fixtures import MakeCluster
from pglife_conformance.needs import Need
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.rest import Rest
from pglife_conformance.standbys import start_pair, stop

HISTORIC = r"^timeline 1 became historic, can read up to [0-9A-F]+/[0-9A-F]+$"


@claim(
    "WS-02",
    "RC-12",
    source="walsummarizer.c: summarizer_read_local_xlog_page()",
    needs=[Need.STANDBY, Need.WALSUMMARIZER, Need.FULL_SQL],
)
@pytest.mark.unmonitored("the model has no standby")
def test_summarizer_goes_over_to_the_new_timeline(make_cluster: MakeCluster) -> None:
    """A summarizer that waits for WAL learns of a promotion, says so at DEBUG1, and goes on."""
    pair = start_pair(make_cluster, summarize=True)
    standby = pair.standby
    summarizer = standby.child(Kind.WALSUMMARIZER)
    rest = Rest(summarizer.pid)
    standby.wait_for("a summarizer that waits", rest.has_come)
    before = Before.of(standby)
    with standby.session() as session:
        assert session.query("select pg_promote()") == [("t",)]
        session.query("checkpoint")
        told = standby.expect_log(HISTORIC, since=before.mark, within=deadlines.START_LIMIT)
        assert (told.pid, told.level) == (summarizer.pid, "DEBUG")
        place = standby.data / "pg_wal" / "summaries"
        standby.wait_for(
            "a summary of the new timeline", lambda: any(place.glob("00000002*.summary")), 20.0
        )
    assert standby.child(Kind.WALSUMMARIZER).key == summarizer.key
    stop(standby, pair.primary)


@claim("WS-02", source="walsummarizer.c: SummarizeWAL()", needs=[Need.WALSUMMARIZER, Need.FULL_SQL])
@settings(summarize_wal="on", autovacuum="off")
def test_summary_tells_what_was_changed(cluster: Cluster) -> None:
    """A summary has the blocks that were written, of all forks but the free space map, and how
    short a relation has been since."""
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
        cluster.wait_for("a summary", lambda: session.query(until) == [("t",)], 20.0)
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
