"""Sessions whose statements are run by parallel workers, and how many workers each got."""

import re

import pytest

from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import ServerError, Session
from pglife_conformance.hold.parallel import run_in_parallel
from pglife_conformance.observation.kinds import Kind

NONE = "Workers Launched: 0"
ONE = "Workers Launched: 1"
PLANNED = 4
PARALLEL = {
    "max_parallel_workers": "8",
    "max_parallel_workers_per_gather": str(PLANNED),
    "min_parallel_table_scan_size": "0",
    "parallel_setup_cost": "0",
    "parallel_tuple_cost": "0",
}


def parallel_session(cluster: Cluster) -> Session:
    """A session whose statements are run by one parallel worker."""
    return run_in_parallel(cluster.session())


def workers_launched(session: Session) -> str:
    """The line of the plan about the number of workers launched."""
    rows = session.query("explain (analyze, costs off, timing off, summary off) select 1")
    lines = [(row[0] or "").strip() for row in rows]
    return next(line for line in lines if line.startswith("Workers Launched"))


def expect_a_worker(cluster: Cluster, session: Session) -> None:
    """A statement gets a parallel worker.

    The first statement may get none: a leader may see the exit of its worker a moment before the
    postmaster releases its slot (bgworker.c: ReportBackgroundWorkerExit()).
    """
    cluster.wait_for("a parallel worker", lambda: workers_launched(session) == ONE)


def expect_slot_released(cluster: Cluster) -> None:
    """The last parallel worker has exited, and the postmaster has released its slot."""
    cluster.expect_count(Kind.PARALLEL_WORKER, 0)
    cluster.expect_idle()


def expect_one_and_no_other(cluster: Cluster, session: Session) -> None:
    """The server runs one parallel worker at a time, and no second one."""
    expect_a_worker(cluster, session)
    expect_slot_released(cluster)
    with parallel_session(cluster) as busy:
        busy.send_query("select pg_sleep(60)")
        cluster.child(Kind.PARALLEL_WORKER)
        assert workers_launched(session) == NONE
        busy.cancel()
        with pytest.raises(ServerError):
            busy.result()
    expect_a_worker(cluster, session)


def make_table(session: Session) -> None:
    """Create a table for which the planner chooses four workers."""
    session.query("create table something as select * from generate_series(1, 1000)")
    session.query(f"alter table something set (parallel_workers = {PLANNED})")


def launched(session: Session) -> int:
    """How many of the four planned workers a statement got."""
    plan = session.query("explain (analyze, timing off) select count(*) from something")
    text = "\n".join(row[0] or "" for row in plan)
    assert f"Workers Planned: {PLANNED}\n" in text
    found = re.search(r"Workers Launched: (\d+)", text)
    assert found is not None
    return int(found[1])
