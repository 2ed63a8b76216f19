"""Statistics that a session reports."""

from __future__ import annotations

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.pytest.claims import claim, settings

SQL = [Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.FULL_SQL]


LATEST_S = 30


"""What comes so much too late is not late by the machine's doing."""


@claim("SE-49", source="tcop/postgres.c: PostgresMain()", needs=SQL, since=15)
@pytest.mark.waits_long
@settings(autovacuum="off")
def test_idle_session_reports_what_it_has_kept_back(cluster: Cluster) -> None:
    """Statistics are sent once a second at most; what a session has kept back for that it sends
    ten seconds later, though nobody asks it anything."""
    rows = 20
    with cluster.session() as session, cluster.session() as other:
        session.query("create table something(a int)")
        for _ in range(rows):
            session.query("insert into something values (1)")
        told = "select n_tup_ins from pg_stat_user_tables where relname = 'something'"
        other.expect_rows(told, [(str(rows),)], LATEST_S)
