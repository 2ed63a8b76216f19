"""Commits that wait for a synchronous standby."""

import signal

import pytest

from pglife_conformance.base.needs import SQL
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import FAST
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.support.titles import expect_title

SYNCHRONOUS = "syncrep.c: SyncRepWaitForLSN()"
HEAD = "postgres: postgres postgres [local] "
ADMIN_SHUTDOWN = "57P01"


@claim("SE-20 TI-32", source=SYNCHRONOUS, needs=SQL)
@settings(synchronous_standby_names="nobody")
@pytest.mark.parametrize("how", ["cancel", "term", "fast"])
def test_commit_that_waits_for_a_standby_is_kept(cluster: Cluster, how: str) -> None:
    """A commit that no standby confirms waits, and the title shows it. When the wait is cancelled
    the session warns and the commit is kept; at TERM or a fast shutdown the session exits."""
    with cluster.session() as observer:
        session = cluster.session()
        session.send_query("create table something()")
        cluster.expect_title(session, r"\[local\] CREATE TABLE waiting for 0/")
        assert session.is_silent()
        child = session.child
        if how == "cancel":
            session.cancel()
            session.result()
            expected = "canceling wait for synchronous replication due to user request"
        else:
            if how == "term":
                cluster.signal_child(child, signal.SIGTERM)
            else:
                cluster.request_shutdown(FAST)
            session.expect_end()
            expected = (
                "canceling the wait for synchronous replication and terminating connection due to "
                "administrator command"
            )
        warning = session.notices[-1]
        assert (warning.severity, warning.message) == ("WARNING", expected)
        if how == "cancel":
            expect_title(cluster, session, "idle")
        else:
            assert warning.sqlstate == ADMIN_SHUTDOWN
            cluster.expect_death(child)
        if how == "fast":
            cluster.expect_exit(code=0)
            cluster.start()
            observer = cluster.session()
        assert observer.query("select count(*) from something") == [("0",)]
