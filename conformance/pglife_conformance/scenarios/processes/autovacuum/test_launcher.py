"""The autovacuum launcher: when it runs, and how long it sleeps."""

import pytest

from pglife_conformance.base import deadlines
from pglife_conformance.base.needs import SIGNALS, Need
from pglife_conformance.cluster.cluster import Cluster, MakeCluster
from pglife_conformance.events import SMART
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.sleeping import sleep_ms
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.support.transaction_ids import use_up_xids

PMSIGNAL = "postmaster.c: process_pm_pmsignal()"
SQL = [Need.FULL_SQL, Need.PROCESS_TITLES]
EMERGENCY_XIDS = 131_100
"""A server asks for the emergency launcher at multiples of 65,536 past the limit below."""


@claim("PG-06 PG-07 PR-05 PR-06", source=PMSIGNAL, needs=[*SQL, Need.AUTOVACUUM_WORKER])
@pytest.mark.unmonitored("the monitor does not see that transaction ids run out")
@settings(autovacuum="off", autovacuum_freeze_max_age="100000", autovacuum_naptime="1s")
def test_launcher_starts_in_an_emergency(cluster: Cluster) -> None:
    """With autovacuum off, a launcher is started when transaction ids run out; it requests one
    worker and exits. A waiting smart shutdown does not change that."""
    assert cluster.children(Kind.AUTOVACUUM_LAUNCHER) == []
    with cluster.session() as session:
        then = cluster.since()
        cluster.request_shutdown(SMART, logged=True)
        use_up_xids(session, EMERGENCY_XIDS)
        launcher = then.expect_line("autovacuum launcher started").pid
        worker = then.expect_log(r'^autovacuum: processing database "').pid
        assert launcher != worker
        cluster.wait_for(
            "the end of the first launcher and its worker",
            lambda: not {launcher, worker} & {kid.pid for kid in cluster.children()},
            deadlines.START_LIMIT,
        )
        then.expect_no_log("was terminated by signal|terminating any other")
    cluster.expect_exit(code=0)


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
    """The launcher sleeps for autovacuum_naptime, or less if a database is due sooner, and never
    for longer than five minutes and a fraction."""
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
    """The launcher spreads the databases in use evenly over its naptime."""
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


LAUNCH = "postmaster.c: LaunchMissingBackgroundProcesses()"


@claim(
    "AV-13 AV-17 PR-05", source="autovacuum.c: ProcessAutoVacLauncherInterrupts()", needs=SIGNALS
)
def test_reload_ends_and_starts_the_autovacuum_launcher(cluster: Cluster) -> None:
    """A reload with autovacuum = off makes the launcher exit 0, and it is not replaced; a reload
    with on starts another."""
    before = cluster.since()
    first = cluster.child(Kind.AUTOVACUUM_LAUNCHER)
    cluster.reload(autovacuum="off")
    cluster.expect_death(first)
    before.expect_line("autovacuum launcher shutting down")
    cluster.expect_complete()
    cluster.expect_no_child(Kind.AUTOVACUUM_LAUNCHER, 0.2)
    cluster.reload(autovacuum="on")
    cluster.expect_complete()
    assert cluster.child(Kind.AUTOVACUUM_LAUNCHER).key != first.key
    others = [kid for kid in before.kids if kid.key != first.key]
    assert {kid.key for kid in others} <= {kid.key for kid in cluster.children()}


@claim("PR-05 AV-01", source=LAUNCH, needs=SIGNALS)
@pytest.mark.parametrize("setting", ["autovacuum", "track_counts"])
def test_no_autovacuum_launcher_where_autovacuum_is_off(
    stopped_cluster: Cluster, setting: str
) -> None:
    """With autovacuum or track_counts off there is no launcher."""
    cluster = stopped_cluster
    cluster.configure(**{setting: "off"})
    cluster.start()
    cluster.expect_complete()
    assert not cluster.children(Kind.AUTOVACUUM_LAUNCHER)
