"""Autovacuum against wraparound where autovacuum is off, and forks have failed (F18)."""

import pytest

from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.base.findings import Finding
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import Session
from pglife_conformance.expect.symptom import Symptom, where_it_shows
from pglife_conformance.hold.fork_limit import lift_limit, limit_children
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_conformance.pytest.claims import Defect, claim, settings
from pglife_conformance.scenarios.findings.support import STILL_S, let_the_loop_run_once
from pglife_conformance.scenarios.support.failing_forks import COUNTED
from pglife_conformance.scenarios.support.transaction_ids import use_up_xids
from pglife_spec import PM

LAUNCHER = "autovacuum launcher started"
NO_WORKER = '^could not fork "?autovacuum worker"? process: '
WORKS = '^autovacuum: processing database "'

ENTRIES = 2
BEFORE_THE_FIRST = 100_000
"""autovacuum_freeze_max_age; the first launcher is asked for at a multiple of EACH past it."""
EACH = 65_536
TRIES = 6
"""A fork succeeds if the postmaster has reaped the launcher before it reads its message."""

NO_ENTRY_LEFT = Symptom(
    summary="the launcher finds no free entry and exits",
    state=PM.PM_RUN,
    left=None,
    said=(),
    status=PidFileStatus.READY,
)


@claim(
    *("AV-14", "AV-11", "PG-06", "PG-07"),
    source="autovacuum.c: AutoVacLauncherMain(), do_start_worker()",
    needs=[*COUNTED, Need.FULL_SQL, Need.AUTOVACUUM_WORKER],
    defects=[Defect(Finding.F18, NO_ENTRY_LEFT)],
)
@pytest.mark.unmonitored("the monitor does not see that transaction ids run out")
@settings(
    autovacuum="off",
    autovacuum_freeze_max_age=BEFORE_THE_FIRST,
    autovacuum_max_workers=ENTRIES,
    max_logical_replication_workers=0,
)
def test_workers_against_wraparound_start_when_forks_work_again(counted_cluster: Cluster) -> None:
    """With autovacuum off, a database near wraparound is vacuumed once forks work again, however
    many workers could not be forked before."""
    cluster = counted_cluster
    if cluster.major >= 18:
        cluster.configure(autovacuum_worker_slots=ENTRIES)
    cluster.start()
    with cluster.session() as session:
        use_up_xids(session, BEFORE_THE_FIRST)
        let_forks_of_workers_fail(cluster, session, ENTRIES)
        then = cluster.since()
        use_up_xids(session, EACH)
        launcher = then.expect_line(LAUNCHER).pid
        cluster.wait_for(
            "the launcher's exit", lambda: launcher not in {kid.pid for kid in cluster.children()}
        )
        # Now its request is read, and the worker forked.
        let_the_loop_run_once(cluster)
        with where_it_shows(then):
            then.expect_log(WORKS, within=STILL_S)


def let_forks_of_workers_fail(cluster: Cluster, session: Session, times: int) -> None:
    """Have launchers run that can be forked, and whose workers cannot, and let forks work again."""
    begin = cluster.since()

    def have_failed() -> bool:
        return len(begin.log(matching=NO_WORKER)) >= times

    limit_children(cluster, len(cluster.children()) + 1)
    for _ in range(TRIES):
        then = cluster.since()
        use_up_xids(session, EACH)
        then.expect_line(LAUNCHER)
        if not have_failed():
            then.expect_log(f"{NO_WORKER}|{WORKS}")
        if have_failed():
            lift_limit(cluster)
            return
    raise Inconclusive("workers that cannot be forked", f"fewer than {times} in {TRIES} tries")
