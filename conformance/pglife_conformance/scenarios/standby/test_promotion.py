"""Promotion requested in each state of the postmaster."""

import signal

from pglife_conformance.base import deadlines
from pglife_conformance.base.needs import SIGNALS, Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.expect.lines import READY_LINE
from pglife_conformance.hold.pin import Pin
from pglife_conformance.hold.startup_barrier import StartupBarrier
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.signals.test_sent_by_the_postmaster import expect_each_pending

SOURCE = "postmaster.c: process_pm_pmsignal()"
AS_AT_INITDB = {"max_connections": "100"}


def promote(cluster: Cluster) -> None:
    """Write the file and send SIGUSR1, as pg_ctl promote does."""
    cluster.write_file("promote")
    cluster.signal_postmaster(signal.SIGUSR1)


@claim("PG-11 PG-25 RC-13", source=SOURCE, needs=SIGNALS)
def test_primary_ignores_the_promote_file(cluster: Cluster) -> None:
    """In PM_RUN the postmaster keeps the file `promote`, and no child exits."""
    kids = {kid.key for kid in cluster.children()}
    promote(cluster)
    with cluster.session() as session:
        assert session.query("select 1") == [("1",)]
        cluster.expect_still(
            "all children and the file",
            lambda: (
                kids <= {kid.key for kid in cluster.children()}
                and (cluster.data / "promote").exists()
            ),
            0.1,
        )


@claim("PG-11", source=SOURCE, needs=[*SIGNALS, Need.STARTUP_BARRIER])
def test_promotion_in_pm_startup(stopped_cluster: Cluster) -> None:
    """In PM_STARTUP the postmaster sends USR2 to the startup process and keeps the file."""
    cluster = stopped_cluster
    barrier = StartupBarrier(cluster)
    then = cluster.since()
    cluster.start(wait=False)
    with Pin(cluster, barrier.wait_for_startup(then)) as pin:
        promote(cluster)
        expect_each_pending(cluster, {pin.child: {signal.SIGUSR2}})
        assert (cluster.data / "promote").exists()
        barrier.open()
    then.expect_ready()


@claim("PG-11 TF-01 RC-14", source=SOURCE, needs=[*SIGNALS, Need.STANDBY])
@settings(hot_standby="off", **AS_AT_INITDB)
def test_promotion_in_pm_recovery(stopped_cluster: Cluster) -> None:
    """A standby that is not hot becomes a primary when it is promoted in PM_RECOVERY."""
    cluster = stopped_cluster
    cluster.write_file("standby.signal")
    then = cluster.since()
    cluster.start(wait=False)
    cluster.expect_pid_file(PidFileStatus.STANDBY, deadlines.START_LIMIT)
    promote(cluster)
    then.expect_line("received promote request")
    then.expect_log(f"^{READY_LINE}$", within=deadlines.START_LIMIT)
    cluster.expect_no_file("promote")
    cluster.expect_service()
