"""The walsummarizer of a standby that is promoted.

Source       rules WS-02, RC-12; postmaster/walsummarizer.c: summarizer_read_local_xlog_page().
"""

from __future__ import annotations

import pytest

from pglife_conformance import deadlines
from pglife_conformance.claims import claim
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
