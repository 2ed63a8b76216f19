"""The postmaster dies while a child does not wait: before the child requests a signal, and after.

Source: pmsignal.c: PostmasterDeathSignalInit(), PostmasterIsAlive(),
vacuum.c: vacuum_delay_point().
"""

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
def test_orphan_notices_a_postmaster_that_died_after_the_fork(make_cluster: MakeCluster) -> None:
    """A child whose postmaster died right after the fork exits during a slow VACUUM.

    No signal reports that death, so VACUUM must check for it.
    """
    cluster = make_cluster()
    if cluster.major >= 18:
        # The session reads the pages itself. A wait for an io worker would notice the death.
        cluster.configure(io_method="sync")
    cluster.start()
    with CaughtFork(cluster) as caught:
        client = cluster.raw_client()
        slow = "-c vacuum_cost_delay=1 -c vacuum_cost_limit=1"
        client.send_startup({"user": "postgres", "database": "postgres", "options": slow})
        # The client sends everything before the child reads, so the child never waits.
        client.send_query("vacuum pg_class")
        caught.wait_for_fork()
        cluster.signal_postmaster(signal.SIGKILL)
        cluster.expect_exit(code=None)
    received = [message.tag for message in client.messages()]
    assert Tag.COMMAND_COMPLETE not in received
    if Tag.READY_FOR_QUERY not in received:
        # The session may have waited for a lock of another orphan.
        raise Inconclusive("a session that begins its VACUUM", "it exited before")
    assert client.ending is Ending.END_OF_FILE
    client.close()


@claim(
    "CR-41",
    source="pmsignal.c: postmaster_death_handler()",
    needs=[Need.OS_SIGNALS, Need.CRASH_INJECTION, Need.FULL_SQL],
)
@pytest.mark.unmonitored("the model ends with its postmaster")
def test_slow_vacuum_notices_the_postmasters_death(make_cluster: MakeCluster) -> None:
    """A session in a slow VACUUM exits at once, without a message, when the postmaster dies.

    VACUUM has checked before; the signal of the death makes it check again.
    """
    cluster = make_cluster()
    if cluster.major >= 18:
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
        received = [message.tag for message in session.expect_end()]
        assert received == []
        assert session.ending is Ending.END_OF_FILE
