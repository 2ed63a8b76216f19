"""The checkpointer's queue of files to sync, checkpoints without archive_timeout, and a request
before the checkpointer has started.

The queue has room for as many requests as there are buffers.

Source: postmaster/checkpointer.c: ForwardSyncRequest(), CompactCheckpointerRequestQueue(),
CheckArchiveTimeout(), RequestCheckpoint(); storage/smgr/md.c: register_dirty_segment(),
storage/sync/sync.c: RegisterSyncRequest().
"""

import re
import signal

import pytest

from pglife_conformance.base.deadlines import CRASH_RESTART_LIMIT, START_LIMIT
from pglife_conformance.base.needs import SQL, Need
from pglife_conformance.cluster.cluster import READY_LINE, Cluster, MakeCluster
from pglife_conformance.cluster.session import Session
from pglife_conformance.expect.since import Since
from pglife_conformance.hold.pin import Pin
from pglife_conformance.hold.ptrace import CaughtFork
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.signals import was_woken
from pglife_conformance.pytest.claims import claim, settings

FORWARD = "checkpointer.c: ForwardSyncRequest()"
COMPACT = "checkpointer.c: CompactCheckpointerRequestQueue()"
BUFFERS = 32
ONE_SESSION_WRITES = {"shared_buffers": f"{BUFFERS * 8}kB", "bgwriter_lru_maxpages": "0"}
FULL = "could not forward fsync request because request queue is full"
A_WHILE_S = 0.3


def compactions(cluster: Cluster, since: Since) -> list[tuple[int, int]]:
    """The numbers of entries before and after each compaction of the queue."""
    pattern = re.compile(r"compacted fsync request queue from (\d+) entries to (\d+) entries")
    found = (pattern.fullmatch(r.message) for r in since.log())
    return [(int(match[1]), int(match[2])) for match in found if match is not None]


@claim("CK-01", source=COMPACT, needs=SQL)
@settings(**ONE_SESSION_WRITES)
def test_full_queue_keeps_one_request_for_each_file(cluster: Cluster) -> None:
    """A queue that is full of requests for one file is compacted to one of them, and has room
    again."""
    checkpointer = cluster.child(Kind.CHECKPOINTER)
    with cluster.session() as session:
        session.query(
            "create table something as select repeat('x', 900) from generate_series(1, 900)"
        )
        before = cluster.since()

        def all_of_one_file() -> bool:
            # Afterwards there is nothing in the queue, and nothing to be written.
            session.query("checkpoint")
            with Pin(cluster, checkpointer):
                then = cluster.since()
                session.query("select count(*) from (select from something for update) as locked")
                assert was_woken(checkpointer.pid)
                done = compactions(cluster, then)
            assert done
            assert {entries for entries, _ in done} == {BUFFERS}
            # A session that has read a catalog may have set a hint bit there, once.
            return {left for _, left in done} == {1}

        cluster.wait_for("a queue with one file in it", all_of_one_file, START_LIMIT)
        before.expect_undisturbed()


@claim("CK-01", source=FORWARD, needs=SQL)
@settings(**ONE_SESSION_WRITES)
def test_queue_that_is_full_of_different_files(cluster: Cluster) -> None:
    """If the queue cannot be compacted, a session syncs its file itself; only a session that drops
    a file waits for the checkpointer."""
    with cluster.session() as session:
        names = [f"table_{number}" for number in range(BUFFERS + 8)]
        before = cluster.since()
        with Pin(cluster, Kind.CHECKPOINTER):
            for name in names:
                session.query(f"create table {name} as select 1 as a")
            line = before.expect_log(f"^{FULL}$")
            assert (line.pid, line.level) == (session.backend_pid, "DEBUG")
            assert all(entries == BUFFERS for entries, _ in compactions(cluster, before))
            session.send_query(f"drop table {names[0]}")
            session.expect_silence(A_WHILE_S)
        assert session.result() == []
        then = cluster.since()
        session.query("checkpoint")
        assert rows(session, names[1:]) == len(names) - 1
        then.expect_no_log(f"^{FULL}$")
        before.expect_undisturbed()


def rows(session: Session, names: list[str]) -> int:
    """The number of rows of each of these tables."""
    return sum(int(session.query(f"select count(*) from {name}")[0][0] or "") for name in names)


@claim("CK-01", source="checkpointer.c: CheckArchiveTimeout()", needs=SQL)
@pytest.mark.parametrize("archive_timeout", ["0", "1h"])
def test_no_segment_is_switched_before_archive_timeout(
    cluster: Cluster, archive_timeout: str
) -> None:
    """Without archive_timeout, or before it has passed, a checkpoint switches no segment."""
    cluster.reload(archive_timeout=archive_timeout)
    with cluster.session() as session:
        then = cluster.since()
        for _ in range(3):
            # The checkpointer looks at its clock after a checkpoint, so the next one tells.
            session.query("create table something(); drop table something")
            session.query("checkpoint")
        then.expect_no_log("^write-ahead log switch forced")


@claim(
    "CK-04",
    source="checkpointer.c: RequestCheckpoint()",
    needs=[*SQL, Need.CRASH_INJECTION],
    since=15,
    why="the startup process makes it by itself before",
)
@pytest.mark.unmonitored("the model has no child that is there and has not begun")
def test_startup_process_waits_for_a_checkpointer_that_begins_late(
    make_cluster: MakeCluster,
) -> None:
    """Crash recovery ends with a checkpoint, even if the checkpointer has not started when the
    startup process requests it."""
    cluster = make_cluster()
    if cluster.major >= 18:
        # Its workers would be the next to be forked.
        cluster.configure(io_method="sync")
    cluster.start()
    with cluster.session() as session:
        session.query("create table something()")
    then = cluster.since()
    with CaughtFork(cluster) as caught:
        cluster.signal_child(Kind.BACKGROUND_WRITER, signal.SIGKILL)
        startup = caught.wait_for_fork()
        caught.release_child()
        caught.wait_for_fork()
        then.expect_log("^redo done at ", within=CRASH_RESTART_LIMIT)
        cluster.expect_still(
            "a startup process that waits",
            lambda: [child.pid for child in cluster.children(Kind.STARTUP)] == [startup],
            0.5,
        )
    then.expect_log(f"^{READY_LINE}$", within=CRASH_RESTART_LIMIT)
    then.expect_log("^checkpoint complete: ")
    then.expect_no_log("checkpointer is not running")
