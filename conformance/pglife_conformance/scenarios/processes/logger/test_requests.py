"""Sessions that ask for another log file."""

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.pytest.claims import claim, settings

PMSIGNAL = "postmaster.c: process_pm_pmsignal()"
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
            cluster.expect_file(path)


@claim("PG-05", source=PMSIGNAL, needs=[Need.FULL_SQL])
def test_no_other_log_file_without_a_logger(cluster: Cluster) -> None:
    """Without a logger pg_rotate_logfile() warns, returns false, and nothing happens."""
    with cluster.session() as session:
        assert session.query(ROTATE) == [("f",)]
        assert [notice.message for notice in session.notices] == [NOT_POSSIBLE]
