"""How long the autovacuum launcher sleeps.

Source       rule AV-01; autovacuum.c: launcher_determine_sleep(), rebuild_database_list().
"""

from __future__ import annotations

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.sleeping import sleep_ms
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.pytest.fixtures import MakeCluster

SHORTEST_MS = 100
LONGEST_MS = 300_000
NAPTIME_S = 240
DATABASES = 3


@claim(
    "AV-01",
    source="autovacuum.c: launcher_determine_sleep()",
    needs=[Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.FULL_SQL],
)
@pytest.mark.parametrize("naptime_s", [10, 299, 3600, 2_000_000])
def test_launcher_sleeps_for_its_naptime_and_no_more_than_five_minutes(
    make_cluster: MakeCluster, naptime_s: int
) -> None:
    """The autovacuum launcher looks again after autovacuum_naptime, or sooner if there is a
    database whose turn it is; if that is too long, after five minutes and a fraction."""
    cluster = make_cluster(autovacuum_naptime=naptime_s)
    cluster.start()
    launcher = cluster.child(Kind.AUTOVACUUM_LAUNCHER)
    slept = cluster.wait_for("a launcher that sleeps", lambda: sleep_ms(launcher.pid))
    if naptime_s * 1000 < LONGEST_MS:
        assert SHORTEST_MS <= slept <= naptime_s * 1000
    else:
        assert LONGEST_MS <= slept < LONGEST_MS + 1000


@claim(
    "AV-01",
    source="autovacuum.c: rebuild_database_list()",
    needs=[Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.FULL_SQL],
)
@settings(autovacuum_naptime=NAPTIME_S)
def test_launcher_sleeps_for_a_databases_share_of_its_naptime(cluster: Cluster) -> None:
    """The autovacuum launcher spreads the databases that are in use evenly over its naptime."""
    names = [f"database_{number}" for number in range(DATABASES)]
    with cluster.session() as session:
        for name in names:
            session.query(f"create database {name}")
    for name in names:
        with cluster.session(database=name) as session:
            session.query("create table something as select 1; analyze something")
    cluster.restart()
    launcher = cluster.child(Kind.AUTOVACUUM_LAUNCHER)
    slept = cluster.wait_for("a launcher that sleeps", lambda: sleep_ms(launcher.pid))
    assert SHORTEST_MS <= slept <= NAPTIME_S * 1000 // DATABASES
