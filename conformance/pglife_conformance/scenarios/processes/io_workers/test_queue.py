"""The io workers' queue when it is full.

Source       rule IO-10; storage/aio/method_worker.c: pgaio_worker_submission_queue_insert(),
             pgaio_worker_submit_internal().
"""

from __future__ import annotations

import contextlib

import pytest

from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import Session
from pglife_conformance.expect.crash import Before, expect_undisturbed
from pglife_conformance.hold.pin import Pin
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.rest import Rest
from pglife_conformance.pytest.claims import claim

ROOM = 63
"""A ring of 64 places, of which one stays empty."""
MORE = 3
BLOCK = "select count(*) from big where ctid >= '({0},0)' and ctid < '({1},0)'"
"""A scan of one block, for a tid range is read as a whole table is: ahead, by the workers."""


def asks_for_a_block(cluster: Cluster, session: Session, block: int) -> bool:
    """Whether a session that reads this block, which is in no buffer, gets it at once."""
    rest = Rest(session.backend_pid)
    cluster.wait_for("a session at rest", rest.has_come)
    session.send_query(BLOCK.format(block, block + 1))
    rest = Rest(session.backend_pid)
    cluster.wait_for("the block or a wait for it", rest.has_come)
    return not session.is_silent()


@claim(
    "IO-10",
    source="method_worker.c: pgaio_worker_submission_queue_insert()",
    needs=[Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.FULL_SQL, Need.IO_WORKERS],
)
@pytest.mark.unmonitored("the model has no reads")
def test_session_that_finds_the_queue_full_reads_by_itself(stopped_cluster: Cluster) -> None:
    """While no io worker works sessions wait for what they have queued; when no place is left
    they read themselves, and the queue is worked off when the workers go on."""
    cluster = stopped_cluster
    cluster.configure(max_connections=ROOM + MORE + 10, autovacuum="off")
    cluster.start()
    with cluster.session() as session:
        values = f"select repeat('x', 7000) from generate_series(1, {ROOM + MORE})"
        session.query(f"create table big as {values}")
        session.query("alter table big alter repeat set storage plain")
        session.query("truncate big")
        session.query(f"insert into big {values}")
    cluster.restart()
    sessions = [cluster.session() for _ in range(ROOM + MORE)]
    for session in sessions:
        # What it reads of the catalogs has been read.
        session.query(BLOCK.format(0, 0))
    before = Before.of(cluster)
    with contextlib.ExitStack() as held:
        for worker in cluster.children(Kind.IO_WORKER):
            cluster.wait_for("an io worker at rest", Rest(worker.pid).has_come)
            held.enter_context(Pin(cluster, worker))
        served = [
            asks_for_a_block(cluster, session, block) for block, session in enumerate(sessions)
        ]
        if served[0]:
            raise Inconclusive("a table that is in no buffer", "its first block was there")
        assert served == [False] * ROOM + [True] * MORE
    for session in sessions:
        assert session.result() == [("1",)]
    expect_undisturbed(cluster, before)
