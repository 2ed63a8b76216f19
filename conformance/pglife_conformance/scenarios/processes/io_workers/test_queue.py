"""The io workers' queue when it is full.

Source: storage/aio/method_worker.c: pgaio_worker_submission_queue_insert(),
pgaio_worker_submit_internal().
"""

import contextlib
import signal
from pathlib import Path

import pytest

from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.base.needs import SQL, Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import ServerError, Session
from pglife_conformance.hold.pin import Pin
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim, settings

ROOM = 63
"""A ring of 64 places, of which one stays empty."""
MORE = 3
BLOCK = "select count(*) from big where ctid >= '({0},0)' and ctid < '({1},0)'"
"""A scan of one block, for a tid range is read as a whole table is: ahead, by the workers."""


def asks_for_a_block(cluster: Cluster, session: Session, block: int) -> bool:
    """Whether a session that reads this block, which is in no buffer, gets it at once."""
    cluster.expect_idle(session)
    session.send_query(BLOCK.format(block, block + 1))
    cluster.expect_idle(session)
    return not session.is_silent()


@claim(
    "IO-10",
    source="method_worker.c: pgaio_worker_submission_queue_insert()",
    needs=[Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.FULL_SQL, Need.IO_WORKERS],
)
@pytest.mark.unmonitored("the model has no reads")
def test_session_that_finds_the_queue_full_reads_by_itself(stopped_cluster: Cluster) -> None:
    """While all io workers are stopped, sessions wait for their queued reads. When the queue is
    full, sessions read by themselves; the workers process the queue once they continue."""
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
    before = cluster.since()
    with contextlib.ExitStack() as held:
        for worker in cluster.children(Kind.IO_WORKER):
            cluster.expect_idle(worker)
            held.enter_context(Pin(cluster, worker))
        served = [
            asks_for_a_block(cluster, session, block) for block, session in enumerate(sessions)
        ]
        if served[0]:
            raise Inconclusive("a table that is in no buffer", "its first block was there")
        assert served == [False] * ROOM + [True] * MORE
    for session in sessions:
        assert session.result() == [("1",)]
    before.expect_undisturbed()


def wake_ups(cluster: Cluster) -> int:
    """How often the io workers have gone back to sleep."""
    total = 0
    for kid in cluster.children(Kind.IO_WORKER):
        status = Path(f"/proc/{kid.pid}/status").read_text(encoding="utf-8")
        line = next(one for one in status.splitlines() if one.startswith("voluntary_ctxt"))
        total += int(line.split()[1])
    return total


@claim(
    "IO-10 IO-05", source="method_worker.c: pgaio_worker_submit()", needs=[*SQL, Need.IO_WORKERS]
)
@settings(io_workers="4")
def test_io_workers_read_for_others(cluster: Cluster) -> None:
    """Any running io worker reads blocks of a table that is too big for the buffers."""
    with cluster.session() as session:
        session.query("create table big as select repeat('x', 500) from generate_series(1, 20000)")
        count = [("20000",)]
        before = wake_ups(cluster)
        assert session.query("select count(*) from big") == count
        # One that was woken is counted when it goes to sleep again.
        cluster.wait_for("io workers that were woken", lambda: wake_ups(cluster) > before)
        for kid in cluster.children(Kind.IO_WORKER)[:3]:
            cluster.end_child(kid, signal.SIGINT)
            assert session.query("select count(*) from big") == count
        # One without its title yet would not be counted, and be the one that stays.
        cluster.expect_count(Kind.IO_WORKER, 4)
        cluster.reload(io_workers=1)
        cluster.expect_count(Kind.IO_WORKER, 1)
        before = wake_ups(cluster)
        assert session.query("select count(*) from big") == count
        cluster.wait_for("the one to be woken", lambda: wake_ups(cluster) > before)


DATA_CORRUPTED = "XX001"
BLOCKS, DAMAGED = 100, 50
BLOCK_SIZE = 8192


@claim("IO-09", source="method_worker.c: IoWorkerMain()", needs=[*SQL, Need.CONTROL_FILE])
def test_page_that_is_damaged_is_a_sessions_error(cluster: Cluster) -> None:
    """A damaged page is an error of the session that reads it. That session continues, no other
    process is affected, and all other pages can be read."""
    values = f"select i, repeat('x', 7000) as x from generate_series(1, {BLOCKS}) i"
    with cluster.session() as session:
        session.query(f"create table big as {values} limit 0")
        session.query("alter table big alter x set storage plain")
        session.query(f"insert into big {values}")
        ((path,),) = session.query("select pg_relation_filepath('big')")
    cluster.stop()
    with (cluster.data / str(path)).open("r+b") as file:
        file.seek(DAMAGED * BLOCK_SIZE)
        file.write(b"damage" * 100)
    cluster.start()
    with cluster.session() as session:
        before = cluster.since()
        for _ in range(2):
            with pytest.raises(ServerError) as error:
                session.query("select count(*) from big")
            assert error.value.sqlstate == DATA_CORRUPTED
            found = error.value.answer.message
            assert found.startswith(f"invalid page in block {DAMAGED} of relation "), found
            others = f"select count(*) from big where ctid < '({DAMAGED},0)'"
            assert session.query(others) == [(str(DAMAGED),)]
        before.expect_undisturbed()
