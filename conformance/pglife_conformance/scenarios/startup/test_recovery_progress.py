"""The log lines of the startup process about its progress.

Source: postmaster/startup.c: has_startup_progress_timeout_expired(),
begin_startup_progress_phase().
"""

import re

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import IMMEDIATE
from pglife_conformance.pytest.claims import claim

PROGRESS = r"^redo in progress, elapsed time: \d+\.\d\d s, current LSN: [0-9A-F]+/[0-9A-F]+$"
ANY = "elapsed time: "


@claim(
    "RC-01 RC-22",
    source="startup.c: has_startup_progress_timeout_expired()",
    needs=[Need.FULL_SQL],
    since=15,
    why="the startup process does not log its progress before",
)
@pytest.mark.parametrize(("interval", "logged"), [("1h", False), ("0", False), ("1ms", True)])
def test_recovery_logs_its_progress_at_intervals(
    stopped_cluster: Cluster, interval: str, logged: bool
) -> None:
    """Recovery logs its progress when log_startup_progress_interval has passed, not before."""
    cluster = stopped_cluster
    cluster.configure(log_startup_progress_interval=interval)
    cluster.start()
    with cluster.session() as session:
        session.query("create table something(a int)")
        session.query("insert into something select generate_series(1, 20000)")
    cluster.stop(IMMEDIATE)
    then = cluster.since()
    cluster.start()
    done = then.expect_log("^redo done at ")
    lines = [r for r in then.log() if re.search(PROGRESS, r.message)]
    if logged:
        assert {record.level for record in lines} == {"LOG"}
        # The log line has hundredths of a second; each interval causes at most one line.
        elapsed_ms = 1000 * (float(done.message.rpartition("elapsed: ")[2].split()[0]) + 0.01)
        assert len(lines) <= elapsed_ms + 1
    else:
        then.expect_no_log(ANY)
