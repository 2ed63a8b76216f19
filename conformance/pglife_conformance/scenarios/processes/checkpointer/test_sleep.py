"""How long the checkpointer sleeps: until its next timeout.

Source: checkpointer.c: CheckpointerMain().
"""

import contextlib
import re
import signal
import time

import pytest

from pglife_conformance.base.deadlines import CRASH_RESTART_LIMIT, START_LIMIT
from pglife_conformance.base.needs import SQL, Need
from pglife_conformance.cluster.cluster import Cluster, MakeCluster
from pglife_conformance.cluster.standby import ALONE, READ_ONLY_LINE, start_pair, stop
from pglife_conformance.events import FAST
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.log import LogRecord
from pglife_conformance.observation.signals import pending_signals
from pglife_conformance.observation.sleeping import sleep_ms
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.processes.checkpointer.test_checkpoints import (
    counts,
    spread_checkpoint,
)
from pglife_conformance.scenarios.support.sleeping import pinned_asleep
from pglife_conformance.scenarios.support.wal import place

RESTARTPOINT_AGAIN_S = 15


@claim(
    "CK-01 SG-11",
    source="checkpointer.c: CheckpointerMain()",
    needs=[Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.FULL_SQL],
)
@pytest.mark.parametrize(
    ("checkpoint_timeout", "archive_timeout"), [(30, 0), (30, 20), (30, 40)], ids=str
)
def test_checkpointer_sleeps_for_the_rest_of_its_time(
    stopped_cluster: Cluster, checkpoint_timeout: int, archive_timeout: int
) -> None:
    """Woken early, the checkpointer sleeps until the next checkpoint or segment switch is due, not
    longer."""
    cluster = stopped_cluster
    cluster.configure(checkpoint_timeout=checkpoint_timeout, archive_timeout=archive_timeout)
    began = int(time.time())
    cluster.start()
    checkpointer = cluster.child(Kind.CHECKPOINTER)
    limit_s = min(checkpoint_timeout, archive_timeout or checkpoint_timeout)
    woken_at = 0

    def elapsed_s() -> int | None:
        nonlocal woken_at
        found = sleep_ms(checkpointer.pid)
        if found is not None and found % 1000 == 0 and 0 < found < 1000 * limit_s:
            return limit_s - found // 1000
        if woken_at != (now := int(time.time())):
            woken_at = now
            cluster.signal_child(checkpointer, signal.SIGUSR1)
        return None

    slept = cluster.wait_for(
        "a sleep for the rest", elapsed_s, describe=lambda: f"{sleep_ms(checkpointer.pid)} ms"
    )
    # It counts whole seconds, from its own beginning on.
    assert slept <= int(time.time()) - began


@claim(
    "CK-03",
    source="checkpointer.c: CheckpointerMain()",
    needs=[Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.FULL_SQL, Need.STANDBY],
)
def test_restartpoint_that_is_not_made_is_tried_again_soon(stopped_cluster: Cluster) -> None:
    """With nothing new to make a restartpoint of, the checkpointer sleeps for 15 s at most."""
    cluster = stopped_cluster
    cluster.configure(**ALONE, checkpoint_timeout="1h", log_min_messages="debug2")
    cluster.write_file("standby.signal")
    cluster.start(wait=False)
    cluster.expect_log(f"^{READ_ONLY_LINE}$", within=START_LIMIT)
    checkpointer = cluster.child(Kind.CHECKPOINTER)
    with cluster.session() as session:
        for _ in range(2):
            then = cluster.since()
            session.query("checkpoint")
        line = then.expect_log("^skipping restartpoint, already performed at ")
    assert line.pid == checkpointer.pid
    cluster.expect_sleep(checkpointer, range(1, 1000 * RESTARTPOINT_AGAIN_S + 1))
    cluster.stop()


@claim(
    "CK-01",
    source="checkpointer.c: IsCheckpointOnSchedule()",
    needs=[Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.FULL_SQL],
)
@settings(log_checkpoints="on", bgwriter_lru_maxpages="0", checkpoint_timeout="30s")
@pytest.mark.parametrize(("share", "least_s", "most_s"), [("0", 0, 5), ("0.1", 2, 10)])
def test_spread_checkpoint_takes_its_share_of_the_time(
    cluster: Cluster, share: str, least_s: float, most_s: float
) -> None:
    """However much there is to write, a spread checkpoint takes checkpoint_completion_target of the
    time to the next one."""
    cluster.reload(checkpoint_completion_target=share)
    with cluster.session() as session:
        session.query("create table something(a int)")
        # Each of these buffers would make it sleep for a tenth of a second.
        session.query("insert into something select generate_series(1, 45000)")
        then = cluster.since()
        old = cluster.major <= 14
        began = time.monotonic()
        session.query(f"select pg_{'start_backup' if old else 'backup_start'}('spread', false)")
        elapsed_s = time.monotonic() - began
    then.expect_log("^checkpoint complete: wrote ")
    assert least_s <= elapsed_s
    assert elapsed_s < most_s * cluster.scale


SLEEP_COMES_WITHIN_S = 30.0
"""Fifty rounds of a walwriter, each of which a loaded machine may stretch."""


@claim("CR-41 CK-08", source="checkpointer.c: CheckpointWriteDelay()", needs=SQL)
@pytest.mark.unmonitored("the model ends with its postmaster")
@settings(log_checkpoints="on")
def test_spread_checkpoint_ends_with_the_postmaster(cluster: Cluster) -> None:
    """During a spread checkpoint the checkpointer exits at once when the postmaster dies."""
    then = cluster.since()
    with spread_checkpoint(cluster):
        cluster.signal_postmaster(signal.SIGKILL)
        cluster.expect_exit(code=None)
        cluster.expect_no_process(within=CRASH_RESTART_LIMIT)
    then.expect_no_log("^checkpoint complete: ")


@claim("CK-01", source="checkpointer.c: AbsorbSyncRequests()", needs=SQL)
@settings(log_checkpoints="on", fsync="on")
def test_each_written_file_is_synced_once(cluster: Cluster) -> None:
    """A written file is synced by one checkpoint; a dropped file is synced by none."""

    def synced() -> int:
        then = cluster.since()
        session.query("checkpoint")
        done = then.expect_log("^checkpoint complete: ")
        files = re.search(r"sync files=(\d+),", done.message)
        assert files is not None
        return int(files[1])

    with cluster.session() as session:
        before = cluster.since()
        session.query("create table something as select generate_series(1, 1000)")
        assert synced() > 0
        session.query("drop table something")
        # A session that reads new rows may set hint bits, written by the next checkpoint.
        cluster.wait_for("a checkpoint that has nothing to sync", lambda: synced() == 0, 60.0)
        before.expect_undisturbed()


NAP_MS = 100


@claim("CK-08 CK-01", source="checkpointer.c: CheckpointWriteDelay()", needs=SQL)
@settings(log_checkpoints="on")
@pytest.mark.parametrize("hurry", ["checkpoint", "shutdown"])
def test_hurried_checkpoint_does_not_sleep(cluster: Cluster, hurry: str) -> None:
    """After an immediate request a spread checkpoint does not sleep between its writes."""
    then = cluster.since()
    checkpointer = cluster.child(Kind.CHECKPOINTER)
    with spread_checkpoint(cluster), cluster.session() as session, contextlib.ExitStack() as held:

        def done() -> LogRecord | None:
            assert sleep_ms(checkpointer.pid) != NAP_MS
            return then.find_log("^checkpoint complete: ")

        held.enter_context(pinned_asleep(cluster, checkpointer, NAP_MS))
        if hurry == "checkpoint":
            session.send_query("checkpoint")
            cluster.expect_idle(session)
        else:
            cluster.request_shutdown(FAST)
            cluster.wait_for(
                "the order to the checkpointer", lambda: any(pending_signals(checkpointer))
            )
        # What made it go on is there already: it comes out of this nap without a look back.
        held.close()
        cluster.wait_for("the end of that nap", lambda: sleep_ms(checkpointer.pid) != NAP_MS)
        cluster.wait_for("the checkpoint without a nap", done, CRASH_RESTART_LIMIT)
        if hurry == "checkpoint":
            session.result()
        else:
            cluster.expect_exit(code=0)


CHECKPOINT_AGAIN_S = 30
"""The shortest checkpoint_timeout."""
LATEST_S = 30
"""What comes so much too late is not late by the machine's doing."""
HURRIED = "restartpoint starting: immediate wait"


@claim("CK-01", source="checkpointer.c: CheckpointerMain()", needs=SQL)
@pytest.mark.waits_long
@settings(checkpoint_timeout=f"{CHECKPOINT_AGAIN_S}s", log_checkpoints="on", autovacuum="off")
def test_checkpoint_timeout_triggers_a_checkpoint(cluster: Cluster) -> None:
    """After checkpoint_timeout a checkpoint is made, logged and counted as timed; an immediate one
    after it is counted as requested."""
    then = cluster.since()
    with cluster.session() as session:
        first = counts(cluster, session)
        session.query("create table something()")
        line = then.expect_log("^checkpoint starting: ", within=2 * LATEST_S)
        assert line.message == "checkpoint starting: time"
        assert line.pid == cluster.child(Kind.CHECKPOINTER).pid
        session.query("checkpoint")
        wanted = (first[0] + 1, first[1] + 1)
        cluster.wait_for(
            "the counts",
            lambda: counts(cluster, session)[:2] == wanted,
            describe=lambda: str(counts(cluster, session)),
        )
        starts = then.log(matching="^checkpoint starting: ")
        assert len(starts) == 2


@claim("CK-03", source="checkpointer.c: CheckpointerMain()", needs=[*SQL, Need.STANDBY])
@pytest.mark.waits_long
def test_checkpoint_timeout_triggers_a_restartpoint(make_cluster: MakeCluster) -> None:
    """A standby makes a restartpoint of the primary's last checkpoint after its own
    checkpoint_timeout or on request; each is counted by its cause."""
    pair = start_pair(
        make_cluster, checkpoint_timeout=f"{CHECKPOINT_AGAIN_S}s", log_checkpoints="on"
    )
    primary, standby = pair.primary, pair.standby
    then = standby.since()

    def checkpoint() -> None:
        with primary.session() as session:
            session.query("create table if not exists something(); checkpoint")
            end = place(session)
        reached = f"select pg_last_wal_replay_lsn() >= '{end}'"
        reader.expect_rows(reached, [("t",)])

    with standby.session() as reader:
        checkpoint()
        line = then.expect_log("^restartpoint starting: ", within=2 * LATEST_S)
        assert line.message == "restartpoint starting: time"
        assert line.pid == standby.child(Kind.CHECKPOINTER).pid
        # This one sleeps for most of its time, until an immediate request.
        checkpoint()
        reader.query("checkpoint")
        starts = then.log(matching="^restartpoint starting: ")
        assert [record.message for record in starts[1:]] == [HURRIED]
        if standby.major >= 17:
            asked = (
                "select num_timed, num_requested, restartpoints_timed, restartpoints_req, "
                "restartpoints_done from pg_stat_checkpointer"
            )
            wanted = [("0", "0", "1", "1", "2")]
            reader.expect_rows(asked, wanted)
    stop(standby, primary)
