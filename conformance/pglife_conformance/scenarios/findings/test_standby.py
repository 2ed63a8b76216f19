"""A hot standby whose startup process ends while a smart shutdown waits for a session (W1)."""

import signal

import pytest

from pglife_conformance.base import deadlines
from pglife_conformance.base.findings import Finding
from pglife_conformance.base.needs import CRASH, Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import SMART
from pglife_conformance.expect.symptom import Symptom, where_it_shows
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_conformance.pytest.claims import Defect, claim
from pglife_conformance.scenarios.findings.support import HELPERS_15, HELPERS_18, REAPER, expect_end
from pglife_spec import PM

READ_ONLY = "database system is ready to accept read-only connections"
AS_AT_INITDB = 100
"""max_connections: a hot standby cannot have fewer than its primary had."""

HELPERS_LEFT_18 = Symptom(
    summary="the postmaster waits for helpers that it has not sent SIGTERM",
    state=PM.PM_WAIT_BACKENDS,
    left=HELPERS_18,
    said=("received smart shutdown request",),
    status=PidFileStatus.STOPPING,
)
HELPERS_LEFT_15 = Symptom(
    summary="the postmaster waits for helpers that it has not sent SIGTERM",
    state=PM.PM_WAIT_BACKENDS,
    left=HELPERS_15,
    said=("received smart shutdown request",),
    status=PidFileStatus.STOPPING,
)


@claim(
    *("INV-91", "INV-92", "MM-03"),
    source=REAPER,
    needs=[*CRASH, Need.STANDBY],
    defects=[
        Defect(Finding.W1, HELPERS_LEFT_15, until=17),
        Defect(Finding.W1, HELPERS_LEFT_18, since=18),
    ],
)
@pytest.mark.parametrize("how", ["promotion", "failure"])
def test_the_startup_process_ends_during_a_smart_shutdown(
    stopped_cluster: Cluster, how: str
) -> None:
    """A smart shutdown of a hot standby whose startup process ends meanwhile ends when the last
    session has ended."""
    cluster = stopped_cluster
    cluster.configure(max_connections=AS_AT_INITDB)
    cluster.write_file("standby.signal")
    cluster.start(wait=False)
    cluster.expect_log(f"^{READ_ONLY}$", within=deadlines.START_LIMIT)
    startup = cluster.child(Kind.STARTUP)
    with cluster.session():
        then = cluster.since()
        cluster.request_shutdown(SMART)
        then.expect_line("received smart shutdown request")
        if how == "promotion":
            cluster.write_file("promote")
            cluster.signal_postmaster(signal.SIGUSR1)
        else:
            cluster.signal_child(startup, signal.SIGTERM)
        cluster.expect_reaped(startup)
    with where_it_shows(then):
        expect_end(cluster, 0, idle=HELPERS_18)
