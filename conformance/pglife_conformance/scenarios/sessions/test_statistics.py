"""Statistics that a session reports."""

import pytest

from pglife_conformance.base.needs import SQL
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.pytest.claims import claim, settings

LATEST_S = 30
"""A report that is later than this is not late because the machine is slow."""


@claim("SE-49", source="tcop/postgres.c: PostgresMain()", needs=SQL, since=15)
@pytest.mark.waits_long
@settings(autovacuum="off")
def test_idle_session_reports_pending_statistics(cluster: Cluster) -> None:
    """A session reports statistics at most once a second. It reports pending ones ten seconds
    later, even if it receives no message."""
    rows = 20
    with cluster.session() as session, cluster.session() as other:
        session.query("create table something(a int)")
        for _ in range(rows):
            session.query("insert into something values (1)")
        counted = "select n_tup_ins from pg_stat_user_tables where relname = 'something'"
        other.expect_rows(counted, [(str(rows),)], LATEST_S)
