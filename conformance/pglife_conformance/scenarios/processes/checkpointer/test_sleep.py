"""How long the checkpointer sleeps: until it has something to do by the clock.

Source       rules CK-01, CK-03, SG-11; checkpointer.c: CheckpointerMain().
"""

from __future__ import annotations

import signal
import time

import pytest

from pglife_conformance.base.deadlines import START_LIMIT
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.standby import ALONE, READ_ONLY_LINE
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.sleeping import sleep_ms
from pglife_conformance.pytest.claims import claim, settings

RESTARTPOINT_AGAIN_S = 15


@claim(
    "CK-01",
    "SG-11",
    source="checkpointer.c: CheckpointerMain()",
    needs=[Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.FULL_SQL],
)
@pytest.mark.parametrize(
    ("checkpoint_timeout", "archive_timeout"), [(30, 0), (30, 20), (30, 40)], ids=str
)
def test_checkpointer_sleeps_for_the_rest_of_its_time(
    stopped_cluster: Cluster, checkpoint_timeout: int, archive_timeout: int
) -> None:
    """Woken amid its sleep, it sleeps until the next checkpoint or switch is due, not longer."""
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
@pytest.mark.unmonitored("standbys are beyond the model")
def test_restartpoint_that_is_not_made_is_tried_again_soon(stopped_cluster: Cluster) -> None:
    """Where nothing new could be made a restartpoint of, the checkpointer sleeps 15 s at most."""
    cluster = stopped_cluster
    cluster.configure(**ALONE, checkpoint_timeout="1h", log_min_messages="debug2")
    cluster.write_file("standby.signal")
    cluster.start(wait=False)
    cluster.expect_log(f"^{READ_ONLY_LINE}$", within=START_LIMIT)
    checkpointer = cluster.child(Kind.CHECKPOINTER)
    with cluster.session() as session:
        for _ in range(2):
            mark = cluster.mark()
            session.query("checkpoint")
        told = cluster.expect_log("^skipping restartpoint, already performed at ", since=mark)
    assert told.pid == checkpointer.pid
    cluster.wait_for(
        "a sleep of 15 s",
        lambda: 0 < (sleep_ms(checkpointer.pid) or 0) <= 1000 * RESTARTPOINT_AGAIN_S,
        describe=lambda: f"{sleep_ms(checkpointer.pid)} ms",
    )
    cluster.request_shutdown("fast")
    cluster.expect_exit(code=0)


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
    """However much there is to write, a spread checkpoint sleeps just so much between its writes
    that it takes checkpoint_completion_target of the time to the next one."""
    cluster.reload(checkpoint_completion_target=share)
    with cluster.session() as session:
        session.query("create table something(a int)")
        # Each of these buffers would make it sleep for a tenth of a second.
        session.query("insert into something select generate_series(1, 45000)")
        mark = cluster.mark()
        old = cluster.target.version.major <= 14
        began = time.monotonic()
        session.query(f"select pg_{'start_backup' if old else 'backup_start'}('spread', false)")
        elapsed_s = time.monotonic() - began
    cluster.expect_log("^checkpoint complete: wrote ", since=mark)
    assert least_s <= elapsed_s
    assert elapsed_s < most_s * cluster.scale
