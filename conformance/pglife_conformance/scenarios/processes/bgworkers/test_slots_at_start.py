"""Background workers that are registered before the server starts.

Source       rules BG-01, BG-25; bgworker.c: RegisterBackgroundWorker(), launcher.c:
             ApplyLauncherRegister().
"""

from __future__ import annotations

import pytest

from pglife_conformance.base.deadlines import START_LIMIT
from pglife_conformance.base.needs import Need
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim
from pglife_conformance.pytest.fixtures import MakeCluster

NEEDS = [Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.FULL_SQL]
TOO_MANY = "^too many background workers$"


@claim("BG-01", "BG-25", source="bgworker.c: RegisterBackgroundWorker()", needs=NEEDS)
@pytest.mark.unmonitored("the model has room for its workers")
@pytest.mark.parametrize(
    ("room", "is_wanted"), [(0, True), (0, False), (1, True)], ids=["none", "none-wanted", "one"]
)
def test_room_for_workers_of_the_servers_own(
    make_cluster: MakeCluster, room: int, is_wanted: bool
) -> None:
    """The logical replication launcher comes if max_worker_processes has room for it; if not, the
    log says so, unless nobody wanted it."""
    cluster = make_cluster(
        max_worker_processes=room, max_logical_replication_workers=4 if is_wanted else 0
    )
    # There is no whole family to wait for.
    cluster.start(wait=False)
    cluster.expect_log("^database system is ready to accept connections$", within=START_LIMIT)
    told = cluster.find_log(TOO_MANY)
    if room > 0:
        cluster.child(Kind.LOGICAL_REPLICATION_LAUNCHER)
        assert told is None
        return
    cluster.child(Kind.AUTOVACUUM_LAUNCHER)
    assert not cluster.children(Kind.LOGICAL_REPLICATION_LAUNCHER)
    assert (told is not None) == is_wanted
    if told is not None:
        assert (told.pid, told.level) == (cluster.pid, "LOG")
        assert told.detail == (
            "Up to 0 background workers can be registered with the current settings."
        )
        assert told.hint == (
            'Consider increasing the configuration parameter "max_worker_processes".'
        )
