"""The SIGKILL that ends a child which does not react to SIGQUIT (F15)."""

import pytest

from pglife_conformance.base.findings import Finding
from pglife_conformance.base.needs import CRASH
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.expect.lines import SIGKILL_ROUND, TERMINATING
from pglife_conformance.expect.symptom import Symptom, where_it_shows
from pglife_conformance.hold.pin import Pin
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_conformance.pytest.claims import Defect, claim
from pglife_conformance.scenarios.findings.support import ANOTHER_ROUND_S
from pglife_spec import PM

SLEEPS_ON = Symptom(
    summary="the postmaster sleeps for a minute",
    state=PM.PM_WAIT_BACKENDS,
    left={Kind.CLIENT_BACKEND},
    said=(r"WAL writer process \(PID \d+\) was terminated by signal 9: Killed", TERMINATING),
    status=PidFileStatus.READY,
)


@claim(
    *("CR-08", "INV-97", "SL-05"),
    source="postmaster.c: DetermineSleepTime(), ServerLoop()",
    needs=CRASH,
    defects=[Defect(Finding.F15, SLEEPS_ON, since=19)],
)
@pytest.mark.waits_long
def test_a_crash_kills_a_stuck_session_after_five_seconds(cluster: Cluster) -> None:
    """A session that cannot react to SIGQUIT delays a restart after a crash by five seconds, also
    if nothing wakes the postmaster meanwhile."""
    with cluster.session() as session, Pin(cluster, session.child):
        then = cluster.since()
        cluster.crash(Kind.WALWRITER)
        with where_it_shows(then):
            then.expect_line(SIGKILL_ROUND, within=ANOTHER_ROUND_S)
    then.expect_ready()
