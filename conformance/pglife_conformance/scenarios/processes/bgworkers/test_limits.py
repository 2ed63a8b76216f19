"""How many background workers there may be."""

import pytest

from pglife_conformance.base import deadlines
from pglife_conformance.base.deadlines import START_LIMIT
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster, MakeCluster
from pglife_conformance.cluster.standby import READ_ONLY_LINE
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.support.parallel_workers import PARALLEL, launched, make_table

START = "postmaster.c: maybe_start_bgworkers()"
SQL = [Need.FULL_SQL, Need.PROCESS_TITLES]
PLANNED = 4


@claim("BG-01 PR-16 BG-13", source=START, needs=SQL)
@pytest.mark.parametrize(("processes", "expected"), [(1, 0), (3, 2), (8, 4)])
def test_room_for_background_workers(
    make_cluster: MakeCluster, processes: int, expected: int
) -> None:
    """max_worker_processes limits all background workers together, the replication launcher
    included, however often they restart."""
    cluster = make_cluster(**PARALLEL, max_worker_processes=processes)
    cluster.start()
    with cluster.session() as session:
        make_table(session)
        for _ in range(5):
            cluster.wait_for(f"{expected} parallel workers", lambda: launched(session) == expected)
    assert len(cluster.children(Kind.LOGICAL_REPLICATION_LAUNCHER)) == 1


@claim(
    "BG-05 BG-25", source="postmaster.c: bgworker_should_start_now()", needs=[*SQL, Need.STANDBY]
)
@settings(**PARALLEL | {"max_connections": "100"})
def test_background_workers_of_a_hot_standby(cluster: Cluster) -> None:
    """In PM_HOT_STANDBY parallel workers are started, and the replication launcher is not."""
    with cluster.session() as session:
        make_table(session)
    cluster.stop()
    cluster.write_file("standby.signal")
    cluster.start(wait=False)
    cluster.expect_log(f"^{READ_ONLY_LINE}$", within=deadlines.START_LIMIT)
    with cluster.session() as session:
        cluster.wait_for("all parallel workers", lambda: launched(session) == PLANNED)
        assert cluster.children(Kind.LOGICAL_REPLICATION_LAUNCHER) == []
        then = cluster.since()
        session.query("select pg_promote(false)")
        ready = "^database system is ready to accept connections$"
        then.expect_log(ready, within=deadlines.START_LIMIT)
        cluster.child(Kind.LOGICAL_REPLICATION_LAUNCHER)
        cluster.wait_for("all parallel workers", lambda: launched(session) == PLANNED)


NEEDS = [Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.FULL_SQL]
TOO_MANY = "^too many background workers$"


@claim("BG-01 BG-25", source="bgworker.c: RegisterBackgroundWorker()", needs=NEEDS)
@pytest.mark.unmonitored("the model has room for its workers")
@pytest.mark.parametrize(
    ("room", "is_wanted"), [(0, True), (0, False), (1, True)], ids=["none", "none-wanted", "one"]
)
def test_room_for_workers_of_the_servers_own(
    make_cluster: MakeCluster, room: int, is_wanted: bool
) -> None:
    """The logical replication launcher is started if max_worker_processes has room for it;
    otherwise the log says so, unless the launcher is not wanted."""
    cluster = make_cluster(
        max_worker_processes=room, max_logical_replication_workers=4 if is_wanted else 0
    )
    # Not all children start, so there is no full set to wait for.
    cluster.start(wait=False)
    cluster.expect_log("^database system is ready to accept connections$", within=START_LIMIT)
    line = cluster.find_log(TOO_MANY)
    if room > 0:
        cluster.child(Kind.LOGICAL_REPLICATION_LAUNCHER)
        assert line is None
        return
    cluster.child(Kind.AUTOVACUUM_LAUNCHER)
    assert not cluster.children(Kind.LOGICAL_REPLICATION_LAUNCHER)
    assert (line is not None) == is_wanted
    if line is not None:
        assert (line.pid, line.level) == (cluster.pid, "LOG")
        assert line.detail == (
            "Up to 0 background workers can be registered with the current settings."
        )
        assert line.hint == (
            'Consider increasing the configuration parameter "max_worker_processes".'
        )
