"""What comes by the clock, to a server that nobody asks anything.

Source       rules BW-02, CK-01, CK-03, SE-49, BG-12; bgwriter.c: BackgroundWriterMain();
             checkpointer.c: CheckpointerMain(); tcop/postgres.c: PostgresMain(); postmaster.c:
             DetermineSleepTime().
"""

from __future__ import annotations

import signal
import time

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import Session
from pglife_conformance.cluster.standby import ALONE, READ_ONLY_LINE, start_pair, stop
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.sleeping import sleep_ms
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.pytest.fixtures import MakeCluster
from pglife_conformance.scenarios.processes.checkpointer.test_checkpoints import counts
from pglife_conformance.scenarios.processes.test_catalogue import RESTART_INTERVAL_S

SQL = [Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.FULL_SQL]
SNAPSHOT_AGAIN_S = 15
CHECKPOINT_AGAIN_S = 30
"""The shortest checkpoint_timeout."""
LATEST_S = 30
"""What comes so much too late is not late by the machine's doing."""
HURRIED = "restartpoint starting: immediate wait"
QUIET = {"autovacuum": "off", "bgwriter_delay": "10ms"}
"""Nobody writes WAL but whoever is asked to, and the background writer looks at the clock often."""


def place(session: Session) -> str:
    """Where the WAL ends."""
    ((found,),) = session.query("select pg_current_wal_insert_lsn()")
    assert found is not None
    return found


@claim("BW-02", source="bgwriter.c: BackgroundWriterMain()", needs=[*SQL, Need.STANDBY])
@pytest.mark.waits_long
@pytest.mark.unmonitored("standbys are beyond the model")
def test_running_transactions_are_recorded_every_fifteen_seconds(
    make_cluster: MakeCluster,
) -> None:
    """After a change they are, once, where a standby may read it; with wal_level = minimal, or by
    a standby itself, never."""
    standby = make_cluster(**ALONE, **QUIET)
    standby.write_file("standby.signal")
    standby.start(wait=False)
    standby.expect_log(f"^{READ_ONLY_LINE}$")
    minimal = make_cluster(**QUIET, wal_level="minimal", max_wal_senders=0)
    minimal.start()
    began = time.monotonic()
    primary = make_cluster(**QUIET)
    primary.start()
    with primary.session() as told, minimal.session() as untold:
        ends = {}
        for session in (told, untold):
            session.query("create table something()")
            place(session)
            ends[session] = place(session)
        primary.wait_for("a record", lambda: place(told) != ends[told], LATEST_S)
        assert time.monotonic() - began >= SNAPSHOT_AGAIN_S
        last = place(told)
        primary.expect_still("no other", lambda: place(told) == last, 0.5)
        assert place(untold) == ends[untold]
    writer = standby.child(Kind.BACKGROUND_WRITER)
    assert [record for record in standby.log() if record.pid == writer.pid] == []
    stop(standby, minimal, primary)


@claim("CK-01", source="checkpointer.c: CheckpointerMain()", needs=SQL)
@pytest.mark.waits_long
@settings(checkpoint_timeout=f"{CHECKPOINT_AGAIN_S}s", log_checkpoints="on", autovacuum="off")
def test_checkpoint_comes_by_the_clock(cluster: Cluster) -> None:
    """After checkpoint_timeout comes one that is called and counted so, and a hurried one then is
    counted as the other kind."""
    mark = cluster.mark()
    with cluster.session() as session:
        first = counts(cluster, session)
        session.query("create table something()")
        told = cluster.expect_log("^checkpoint starting: ", since=mark, within=2 * LATEST_S)
        assert told.message == "checkpoint starting: time"
        assert told.pid == cluster.child(Kind.CHECKPOINTER).pid
        session.query("checkpoint")
        wanted = (first[0] + 1, first[1] + 1)
        cluster.wait_for(
            "the counts",
            lambda: counts(cluster, session)[:2] == wanted,
            describe=lambda: str(counts(cluster, session)),
        )
        starts = [r for r in cluster.log(mark) if r.message.startswith("checkpoint starting: ")]
        assert len(starts) == 2


@claim("CK-03", source="checkpointer.c: CheckpointerMain()", needs=[*SQL, Need.STANDBY])
@pytest.mark.waits_long
@pytest.mark.unmonitored("standbys are beyond the model")
def test_restartpoint_comes_by_the_clock(make_cluster: MakeCluster) -> None:
    """On a standby a restartpoint is made of the primary's last checkpoint, after the standby's
    own checkpoint_timeout, or when it is asked for; each is counted as what it is."""
    pair = start_pair(
        make_cluster, checkpoint_timeout=f"{CHECKPOINT_AGAIN_S}s", log_checkpoints="on"
    )
    primary, standby = pair.primary, pair.standby
    mark = standby.mark()

    def checkpoint() -> None:
        with primary.session() as session:
            session.query("create table if not exists something(); checkpoint")
            end = place(session)
        reached = f"select pg_last_wal_replay_lsn() >= '{end}'"
        standby.wait_for("all of it", lambda: reader.query(reached) == [("t",)])

    with standby.session() as reader:
        checkpoint()
        told = standby.expect_log("^restartpoint starting: ", since=mark, within=2 * LATEST_S)
        assert told.message == "restartpoint starting: time"
        assert told.pid == standby.child(Kind.CHECKPOINTER).pid
        # This one lasts: most of its time it sleeps, until somebody is in a hurry.
        checkpoint()
        reader.query("checkpoint")
        starts = [r for r in standby.log(mark) if r.message.startswith("restartpoint starting: ")]
        assert [record.message for record in starts[1:]] == [HURRIED]
        if standby.target.version.major >= 17:
            asked = (
                "select num_timed, num_requested, restartpoints_timed, restartpoints_req, "
                "restartpoints_done from pg_stat_checkpointer"
            )
            wanted = [("0", "0", "1", "1", "2")]
            standby.wait_for(
                "the counts",
                lambda: reader.query(asked) == wanted,
                describe=lambda: str(reader.query(asked)),
            )
    stop(standby, primary)


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
        cluster.wait_for(
            "all rows",
            lambda: other.query(told) == [(str(rows),)],
            LATEST_S,
            describe=lambda: str(other.query(told)),
        )


@claim(
    "BG-12",
    source="postmaster.c: DetermineSleepTime()",
    needs=SQL,
    since=16,
    why="the postmaster waits by select() before",
)
def test_postmaster_sleeps_until_a_worker_is_to_be_started_again(cluster: Cluster) -> None:
    """After the end of the logical replication launcher the postmaster sleeps for five seconds at
    most, since it will not be called to start it again."""
    victim = cluster.signal_child(Kind.LOGICAL_REPLICATION_LAUNCHER, signal.SIGTERM)
    cluster.expect_death(victim)
    cluster.wait_for(
        "a sleep until then",
        lambda: 0 < (sleep_ms(cluster.pid) or 0) <= 1000 * RESTART_INTERVAL_S,
        describe=lambda: f"{sleep_ms(cluster.pid)} ms",
    )
