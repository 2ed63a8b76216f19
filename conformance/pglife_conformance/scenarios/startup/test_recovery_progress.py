"""What a startup process says of its progress, and when it says nothing.

Source       rules RC-01, RC-22; postmaster/startup.c: has_startup_progress_timeout_expired(),
             begin_startup_progress_phase().
"""

from __future__ import annotations

import re

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import IMMEDIATE
from pglife_conformance.pytest.claims import claim

PROGRESS = r"^redo in progress, elapsed time: \d+\.\d\d s, current LSN: [0-9A-F]+/[0-9A-F]+$"
ANY = "elapsed time: "


@claim(
    "RC-01",
    "RC-22",
    source="startup.c: has_startup_progress_timeout_expired()",
    needs=[Need.FULL_SQL],
    since=15,
    why="startup is silent about its progress before",
)
@pytest.mark.parametrize(("interval", "told"), [("1h", False), ("0", False), ("1ms", True)])
def test_recovery_tells_its_progress_at_intervals(
    stopped_cluster: Cluster, interval: str, told: bool
) -> None:
    """With log_startup_progress_interval recovery tells how far it is, but not before."""
    cluster = stopped_cluster
    cluster.configure(log_startup_progress_interval=interval)
    cluster.start()
    with cluster.session() as session:
        session.query("create table something(a int)")
        session.query("insert into something select generate_series(1, 20000)")
    cluster.request_shutdown(IMMEDIATE)
    cluster.expect_exit(code=0)
    then = cluster.since()
    cluster.start()
    done = then.expect_log("^redo done at ")
    lines = [r for r in then.log() if re.search(PROGRESS, r.message)]
    if told:
        assert {record.level for record in lines} == {"LOG"}
        # It is told in hundredths of a second how long that was; no interval brings two lines.
        elapsed_ms = 1000 * (float(done.message.rpartition("elapsed: ")[2].split()[0]) + 0.01)
        assert len(lines) <= elapsed_ms + 1
    else:
        then.expect_no_log(ANY)
