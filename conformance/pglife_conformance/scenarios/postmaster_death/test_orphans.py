"""A child whose postmaster dies where it does not wait: before it has asked to be told of that,
and after.

Source       rules CR-41, SE-28; pmsignal.c: PostmasterDeathSignalInit(), PostmasterIsAlive();
             vacuum.c: vacuum_delay_point().
"""

from __future__ import annotations

import signal

import pytest

from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.client import Ending, Tag
from pglife_conformance.cluster.cluster import MakeCluster
from pglife_conformance.hold.ptrace import CaughtFork
from pglife_conformance.pytest.claims import claim


@claim(
    "CR-41",
    source="pmsignal.c: PostmasterDeathSignalInit()",
    needs=[Need.OS_SIGNALS, Need.CRASH_INJECTION, Need.FULL_SQL],
)
@pytest.mark.unmonitored("the model ends with its postmaster")
def test_orphan_from_its_birth_on_knows_it(make_cluster: MakeCluster) -> None:
    """A child that was forked and had done nothing yet when its postmaster died finds that out
    where it does not wait, too: a slow VACUUM looks, for no signal will ever tell it."""
    cluster = make_cluster()
    if cluster.target.version.major >= 18:
        # It reads itself: who waits for an io worker is told by the wait.
        cluster.configure(io_method="sync")
    cluster.start()
    with CaughtFork(cluster) as caught:
        client = cluster.raw_client()
        slow = "-c vacuum_cost_delay=1 -c vacuum_cost_limit=1"
        client.send_startup({"user": "postgres", "database": "postgres", "options": slow})
        # All of it is there when the child begins to read, so that it waits for nothing.
        client.send_query("vacuum pg_class")
        caught.wait_for_fork()
        cluster.signal_postmaster(signal.SIGKILL)
        cluster.expect_exit(code=None)
    heard = [message.tag for message in client.messages()]
    assert Tag.COMMAND_COMPLETE not in heard
    if Tag.READY_FOR_QUERY not in heard:
        # Another orphan may have held a lock that it had to wait for.
        raise Inconclusive("a session that begins its VACUUM", "it has ended before")
    assert client.ending is Ending.END_OF_FILE
    client.close()


@claim(
    "CR-41",
    source="pmsignal.c: postmaster_death_handler()",
    needs=[Need.OS_SIGNALS, Need.CRASH_INJECTION, Need.FULL_SQL],
)
@pytest.mark.unmonitored("the model ends with its postmaster")
def test_slow_vacuum_hears_of_the_postmasters_end(make_cluster: MakeCluster) -> None:
    """A VACUUM that sleeps between its pages has looked before, and looks again when the signal
    of the postmaster's death has come: it ends at once and without a word."""
    cluster = make_cluster()
    if cluster.target.version.major >= 18:
        cluster.configure(io_method="sync")
    cluster.start()
    with cluster.session() as session, cluster.session() as observer:
        session.query("create table big as select repeat('x', 1000) from generate_series(1, 10000)")
        session.query("set vacuum_cost_delay = 5; set vacuum_cost_limit = 1")
        session.send_query("vacuum big")
        done = "select heap_blks_scanned > 3 from pg_stat_progress_vacuum"
        observer.expect_rows(done, [("t",)])
        cluster.signal_postmaster(signal.SIGKILL)
        cluster.expect_exit(code=None)
        heard = [message.tag for message in session.expect_end()]
        assert heard == []
        assert session.ending is Ending.END_OF_FILE
