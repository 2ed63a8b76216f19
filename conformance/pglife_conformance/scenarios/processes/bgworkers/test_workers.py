"""Workers that the postmaster starts because somebody asks: parallel ones, autovacuum, rotation.

Source       rules BG-01, BG-05, BG-19, BG-25, PG-05, PG-06, PR-05, PR-06, PR-16, SM-22;
             postmaster.c: maybe_start_bgworkers(), bgworker_should_start_now(),
             process_pm_pmsignal(), StartAutovacuumWorker().
"""

from __future__ import annotations

import re

import pytest

from pglife_conformance.base import deadlines
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import Session
from pglife_conformance.cluster.standby import READ_ONLY_LINE
from pglife_conformance.hold.pin import pin_smart_pending
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.pytest.fixtures import MakeCluster

START = "postmaster.c: maybe_start_bgworkers()"
PMSIGNAL = "postmaster.c: process_pm_pmsignal()"
SQL = [Need.FULL_SQL, Need.PROCESS_TITLES]
OUT_OF_MODEL = pytest.mark.unmonitored("the model has no such process")
PLANNED = 4
PARALLEL = {
    "max_parallel_workers": "8",
    "max_parallel_workers_per_gather": str(PLANNED),
    "min_parallel_table_scan_size": "0",
    "parallel_setup_cost": "0",
    "parallel_tuple_cost": "0",
}
EMERGENCY_XIDS = 131_100
"""A server asks for the emergency launcher at multiples of 65536 past the limit below."""
USE_UP_LIMIT_S = 200.0
"""For using them up; two seconds of pure work."""


def use_up_xids(session: Session, count: int) -> None:
    """Use up so many transaction ids, each for a row of a new table."""
    session.query("create table burnt(number int)")
    session.query(
        f"do $$ begin for i in 1..{count} loop begin insert into burnt values (i); "
        "exception when others then null; end; end loop; end $$",
        USE_UP_LIMIT_S,
    )


def make_table(session: Session) -> None:
    """A table that is worth four workers."""
    session.query("create table something as select * from generate_series(1, 1000)")
    session.query(f"alter table something set (parallel_workers = {PLANNED})")


def launched(session: Session) -> int:
    """How many workers a parallel statement got of the four that it wanted."""
    plan = session.query("explain (analyze, timing off) select count(*) from something")
    text = "\n".join(row[0] or "" for row in plan)
    assert f"Workers Planned: {PLANNED}\n" in text
    found = re.search(r"Workers Launched: (\d+)", text)
    assert found is not None
    return int(found[1])


@claim("BG-01", "PR-16", "BG-13", source=START, needs=SQL)
@pytest.mark.parametrize(("processes", "expected"), [(1, 0), (3, 2), (8, 4)])
@OUT_OF_MODEL
def test_room_for_background_workers(
    make_cluster: MakeCluster, processes: int, expected: int
) -> None:
    """max_worker_processes is for all together, the replication launcher too, again and again."""
    cluster = make_cluster(**PARALLEL, max_worker_processes=processes)
    cluster.start()
    with cluster.session() as session:
        make_table(session)
        for _ in range(5):
            cluster.wait_for(f"{expected} parallel workers", lambda: launched(session) == expected)
    assert len(cluster.children(Kind.LOGICAL_REPLICATION_LAUNCHER)) == 1


@claim(
    "BG-05", "BG-25", source="postmaster.c: bgworker_should_start_now()", needs=[*SQL, Need.STANDBY]
)
@settings(**PARALLEL | {"max_connections": "100"})
@OUT_OF_MODEL
def test_background_workers_of_a_hot_standby(cluster: Cluster) -> None:
    """In PM_HOT_STANDBY parallel workers are started, and the replication launcher is not."""
    with cluster.session() as session:
        make_table(session)
    cluster.request_shutdown("fast")
    cluster.expect_exit(code=0)
    cluster.write_file("standby.signal")
    cluster.start(wait=False)
    cluster.expect_log(f"^{READ_ONLY_LINE}$", within=deadlines.START_LIMIT)
    with cluster.session() as session:
        cluster.wait_for("all parallel workers", lambda: launched(session) == PLANNED)
        assert cluster.children(Kind.LOGICAL_REPLICATION_LAUNCHER) == []
        mark = cluster.mark()
        session.query("select pg_promote(false)")
        ready = "^database system is ready to accept connections$"
        cluster.expect_log(ready, since=mark, within=deadlines.START_LIMIT)
        cluster.child(Kind.LOGICAL_REPLICATION_LAUNCHER)
        cluster.wait_for("all parallel workers", lambda: launched(session) == PLANNED)


@claim("BG-19", "SM-22", source=START, needs=SQL)
@settings(**PARALLEL)
@OUT_OF_MODEL
def test_parallel_statement_while_a_smart_shutdown_waits(cluster: Cluster) -> None:
    """A session that a smart shutdown waits for still gets its parallel workers."""
    with cluster.session() as session:
        make_table(session)
    with pin_smart_pending(cluster) as session:
        for _ in range(2):
            cluster.wait_for("all parallel workers", lambda: launched(session) == PLANNED)
    cluster.expect_exit(code=0)


@claim("PG-06", "PG-07", "PR-05", "PR-06", source=PMSIGNAL, needs=[*SQL, Need.AUTOVACUUM_WORKER])
@settings(autovacuum="off", autovacuum_freeze_max_age="100000", autovacuum_naptime="1s")
@OUT_OF_MODEL
def test_launcher_comes_in_an_emergency(cluster: Cluster) -> None:
    """With autovacuum off a launcher comes when transaction ids run out, has one worker started,
    and goes; a smart shutdown that waits does not change that."""
    assert cluster.children(Kind.AUTOVACUUM_LAUNCHER) == []
    with cluster.session() as session:
        mark = cluster.mark()
        cluster.request_shutdown("smart")
        cluster.expect_log("^received smart shutdown request$", since=mark)
        use_up_xids(session, EMERGENCY_XIDS)
        launcher = cluster.expect_log("^autovacuum launcher started$", since=mark).pid
        worker = cluster.expect_log(r'^autovacuum: processing database "', since=mark).pid
        assert launcher != worker
        cluster.wait_for(
            "the end of the first launcher and its worker",
            lambda: not {launcher, worker} & {kid.pid for kid in cluster.children()},
            deadlines.START_LIMIT,
        )
        cluster.expect_no_log("was terminated by signal|terminating any other", since=mark)
    cluster.expect_exit(code=0)


ROTATE = "select pg_rotate_logfile()"
NOT_POSSIBLE = "rotation not possible because log collection not active"


@claim("PG-05", source=PMSIGNAL, needs=[Need.LOGGER, Need.FULL_SQL])
@settings(logging_collector="on")
def test_session_asks_for_another_log_file(cluster: Cluster) -> None:
    """pg_rotate_logfile() makes the logger open its file anew, each time it is called."""
    path = cluster.data / "log" / "postgresql.log"
    with cluster.session() as session:
        for number in range(3):
            path.rename(path.with_suffix(f".{number}"))
            assert session.query(ROTATE) == [("t",)]
            cluster.wait_for("the file to be there again", path.exists)


@claim("PG-05", source=PMSIGNAL, needs=[Need.FULL_SQL])
def test_no_other_log_file_without_a_logger(cluster: Cluster) -> None:
    """Without a logger pg_rotate_logfile() warns, returns false, and nothing happens."""
    with cluster.session() as session:
        assert session.query(ROTATE) == [("f",)]
        assert [notice.message for notice in session.notices] == [NOT_POSSIBLE]
