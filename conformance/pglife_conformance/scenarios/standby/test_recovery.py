"""Standbys: titles, pauses, the last restartpoint, promotion, the exit of the startup process;
and a start whose checkpoint record is missing.

Source: rules RC-08, RC-21, RC-24, SH-16, TF-05, TI-02, TI-09, TI-35, WS-22;
access/transam/xlogrecovery.c, replication/walreceiver.c, walsender.c,
replication/logical/slotsync.c: ShutDownSlotSync(), xlog.c: CreateRestartPoint().
"""

import signal

import pytest

from pglife_conformance.base import deadlines
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import READY_LINE, Cluster, MakeCluster
from pglife_conformance.cluster.session import ServerError, Session
from pglife_conformance.cluster.standby import ALONE, READ_ONLY_LINE, start_pair, stop
from pglife_conformance.events import FAST, IMMEDIATE, SMART, ShutdownMode
from pglife_conformance.expect.lines import (
    SHUT_DOWN,
    STARTUP_FAILED,
    TERMINATING,
    exited_line,
    killed_line,
)
from pglife_conformance.observation.control_file import ControlState
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim

STANDBY = [Need.OS_SIGNALS, Need.PROCESS_TITLES, Need.FULL_SQL, Need.STANDBY]
STREAMS = [*STANDBY, Need.WALSENDER]
PAUSES = "xlogrecovery.c: recoveryPausesHere()"
READ_ONLY = "25006"


def value(session: Session, sql: str) -> str:
    """The one value that this expression returns."""
    ((found,),) = session.query(f"select {sql}")
    assert found is not None
    return found


def expect_title(cluster: Cluster, kind: Kind, *wanted: str) -> None:
    """Wait until the title of the one process of this kind is one of these."""
    cluster.wait_for(
        f"the title {' or '.join(map(repr, wanted))}",
        lambda: cluster.child(kind).title in wanted,
        describe=lambda: str([kid.title for kid in cluster.children(kind)]),
    )


# Titles.


@claim("TI-02 TI-09 TI-35", source="xlogrecovery.c: XLogFileRead()", needs=STREAMS)
def test_titles_of_walsender_walreceiver_and_startup_process(make_cluster: MakeCluster) -> None:
    """Walsender and walreceiver show their position in the WAL, the startup process its segment."""
    pair = start_pair(make_cluster)
    primary, standby = pair.primary, pair.standby
    with primary.session() as session, standby.session() as reader:
        for _ in range(2):
            session.query("create table if not exists something(); select pg_switch_wal()")
            session.query("create table another(); drop table another")
            end = value(session, "pg_current_wal_flush_lsn()")
            reached = f"pg_last_wal_replay_lsn() >= '{end}'"
            standby.wait_for("all WAL replayed", lambda: value(reader, reached) == "t")  # noqa: B023
            # An idle server may write WAL, too, and move the end.
            standby.wait_for(
                "both titles at one position",
                lambda: (
                    primary.child(Kind.WALSENDER).title.split(" streaming ")[-1]
                    == pair.walreceiver().title.split(" streaming ")[-1]
                    == value(session, "pg_current_wal_flush_lsn()")
                ),
                describe=lambda: str(
                    [primary.child(Kind.WALSENDER).title, pair.walreceiver().title]
                ),
            )
            segment = value(session, "pg_walfile_name(pg_current_wal_flush_lsn())")
            expect_title(standby, Kind.STARTUP, f"postgres: startup recovering {segment}")
        assert pair.walreceiver().title.startswith("postgres: walreceiver streaming 0/")
        sender = primary.child(Kind.WALSENDER).title
        assert sender.startswith("postgres: walsender postgres [local] streaming 0/")
    stop(standby, primary)


@claim("TI-02 TI-35", source="xlogrecovery.c: XLogFileRead()", needs=STANDBY)
def test_title_of_a_standby_that_has_nothing_to_replay(make_cluster: MakeCluster) -> None:
    """A standby without a source shows the segment that it waits for or has read last."""
    standby = make_cluster(**ALONE, restore_command="false")
    standby.write_file("standby.signal")
    standby.start(wait=False)
    standby.expect_log(f"^{READ_ONLY_LINE}$", within=deadlines.START_LIMIT)
    with standby.session() as reader:
        last = value(reader, "redo_wal_file from pg_control_checkpoint()")
    # The checkpoint may be the last record of its segment.
    following = f"{last[:-8]}{int(last[-8:], 16) + 1:08X}"
    titles = [
        f"postgres: startup {what} {segment}"
        for what in ("waiting for", "recovering")
        for segment in (last, following)
    ]
    expect_title(standby, Kind.STARTUP, *titles)
    stop(standby)


# Pauses.


@claim("RC-08", source=PAUSES, needs=STREAMS)
@pytest.mark.parametrize("ends", ["resume", "promotion", FAST, SMART])
def test_recovery_that_is_paused(make_cluster: MakeCluster, ends: str) -> None:
    """A requested pause begins at the next record and lasts until recovery is resumed. A promotion
    or a shutdown does not wait for it."""
    pair = start_pair(make_cluster)
    primary, standby = pair.primary, pair.standby
    then = standby.since()
    reader = standby.session()
    state = "pg_get_wal_replay_pause_state()"
    with primary.session() as session:
        assert value(reader, state) == "not paused"
        reader.query("select pg_wal_replay_pause()")
        session.query("create table something()")
        standby.wait_for("a pause", lambda: value(reader, state) == "paused")
        record = then.expect_line("recovery has paused")
        assert (record.pid, record.level) == (standby.child(Kind.STARTUP).pid, "LOG")
        assert record.hint == "Execute pg_wal_replay_resume() to continue."
        before = value(reader, "pg_last_wal_replay_lsn()")
        session.query("create table more()")
        end = value(session, "pg_current_wal_flush_lsn()")
        standby.wait_for(
            "all WAL received",
            lambda: value(reader, f"pg_last_wal_receive_lsn() >= '{end}'") == "t",
        )
        standby.expect_still(
            "nothing replayed", lambda: value(reader, "pg_last_wal_replay_lsn()") == before, 0.3
        )
    if ends == "resume":
        reader.query("select pg_wal_replay_resume()")
        asked = "to_regclass('more') is not null"
        standby.wait_for("the WAL of the pause replayed", lambda: value(reader, asked) == "t")
        assert value(reader, state) == "not paused"
        stop(standby, primary)
    elif ends == "promotion":
        assert value(reader, "pg_promote()") == "t"
        then.expect_log(f"^{READY_LINE}$")
        assert value(reader, "to_regclass('more') is not null") == "t"
        reader.query("create table mine()")
        stop(standby, primary)
    else:
        if ends is SMART:
            reader.close()
        standby.request_shutdown(ShutdownMode(ends))
        standby.expect_exit(code=0)
        assert standby.controldata_state() is ControlState.SHUT_DOWN_IN_RECOVERY
        stop(primary)


# Ends.


@claim("RC-24 PR-20", source="postmaster.c: process_pm_child_exit()", needs=STANDBY)
@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGQUIT, signal.SIGTERM], ids=lambda n: n.name
)
def test_standby_does_not_survive_its_startup_process(
    make_cluster: MakeCluster, number: signal.Signals
) -> None:
    """If the startup process of a hot standby is killed or exits, all children exit, and the
    postmaster exits 1."""
    standby = make_cluster(**ALONE)
    standby.write_file("standby.signal")
    standby.start(wait=False)
    standby.expect_log(f"^{READ_ONLY_LINE}$", within=deadlines.START_LIMIT)
    reader = standby.session()
    then = standby.since()
    victim = standby.signal_child(Kind.STARTUP, number)
    reader.expect_end()
    standby.expect_exit(code=1)
    how = (
        killed_line(standby, victim)
        if number is signal.SIGKILL
        else exited_line(standby, victim, {signal.SIGQUIT: 2, signal.SIGTERM: 1}[number])
    )
    lines = [how, TERMINATING, STARTUP_FAILED, SHUT_DOWN]
    then.expect_postmaster_lines(lines)
    assert standby.pid_file() is None
    assert standby.controldata_state() is ControlState.IN_ARCHIVE_RECOVERY


@claim("SH-16", source="xlog.c: CreateRestartPoint()", needs=STREAMS)
@pytest.mark.parametrize("fresh", [True, False])
def test_last_restartpoint_of_a_standby(make_cluster: MakeCluster, fresh: bool) -> None:
    """A shutdown of a standby makes a restartpoint at the primary's last checkpoint, unless that
    restartpoint exists already."""
    pair = start_pair(make_cluster, log_checkpoints="on")
    primary, standby = pair.primary, pair.standby
    with primary.session() as session, standby.session() as reader:
        session.query("create table something(); checkpoint")
        end = value(session, "pg_current_wal_flush_lsn()")
        reached = f"pg_last_wal_replay_lsn() >= '{end}'"
        standby.wait_for("all WAL replayed", lambda: value(reader, reached) == "t")
        if not fresh:
            reader.query("checkpoint")
        then = standby.since()
        checkpointer = standby.child(Kind.CHECKPOINTER)
    stop(standby)
    starts = then.log(matching="^restartpoint starting: ")
    restartpoints = [(record.pid, record.message) for record in starts]
    wanted = [(checkpointer.pid, "restartpoint starting: shutdown immediate")] if fresh else []
    assert restartpoints == wanted
    assert standby.controldata_state() is ControlState.SHUT_DOWN_IN_RECOVERY
    stop(primary)


# Promotion.


@claim("TF-05 RC-12 INV-81", source="xlogrecovery.c: readRecoverySignalFile()", needs=STANDBY)
def test_standby_signal_has_priority_over_recovery_signal(make_cluster: MakeCluster) -> None:
    """With both files the server is a standby. A promotion removes standby.signal alone, so that
    the next start does archive recovery, and removes recovery.signal."""
    standby = make_cluster(**ALONE, restore_command="false")
    first, second = standby.write_file("standby.signal"), standby.write_file("recovery.signal")
    standby.start(wait=False)
    standby.expect_log(f"^{READ_ONLY_LINE}$", within=deadlines.START_LIMIT)
    with standby.session() as reader:
        standby.expect_still(
            "recovery goes on", lambda: value(reader, "pg_is_in_recovery()") == "t", 0.3
        )
        with pytest.raises(ServerError) as refused:
            reader.query("create table something()")
        assert refused.value.sqlstate == READ_ONLY
        assert value(reader, "pg_promote()") == "t"
        reader.query("create table something()")
    assert not first.exists()
    assert second.exists()
    stop(standby)
    then = standby.since()
    standby.start()
    then.expect_log(f"^{READY_LINE}$")
    then.expect_line("starting archive recovery")
    assert not second.exists()
    with standby.session() as session:
        session.query("create table more()")
    stop(standby)


@claim("WS-22", source="slotsync.c: ShutDownSlotSync()", needs=STREAMS, since=17)
def test_promotion_ends_the_slotsync_worker_first(make_cluster: MakeCluster) -> None:
    """A promotion stops the slotsync worker, which logs it before the standby accepts writes; it
    is not replaced."""
    pair = start_pair(make_cluster, slotsync=True)
    primary, standby = pair.primary, pair.standby
    worker = standby.child(Kind.SLOTSYNC_WORKER)
    standby.expect_log("^slot ?sync worker started$")
    with standby.session() as reader:
        then = standby.since()
        assert value(reader, "pg_promote()") == "t"
        record = then.expect_log("because promotion is triggered$")
        assert (record.pid, record.level) == (worker.pid, "LOG")
        ready = then.expect_log(f"^{READY_LINE}$")
        assert record.index < ready.index
        standby.expect_death(worker)
        standby.expect_no_child(Kind.SLOTSYNC_WORKER, 0.3)
        then.expect_postmaster_lines([READY_LINE])
    stop(standby, primary)


# A start without its checkpoint.


@claim("RC-21 PR-20", source="xlogrecovery.c: InitWalRecovery()", needs=STANDBY[:3])
@pytest.mark.unmonitored("the model's startup process does not fail by itself")
def test_start_fails_without_its_checkpoint_record(stopped_cluster: Cluster) -> None:
    """If the checkpoint record that the control file names is missing, the startup process aborts
    and the postmaster exits 1."""
    cluster = stopped_cluster
    cluster.start()
    with cluster.session() as session:
        segment = value(session, "redo_wal_file from pg_control_checkpoint()")
    cluster.stop(IMMEDIATE)
    path = cluster.data / "pg_wal" / segment
    with path.open("r+b") as file:
        size = path.stat().st_size
        file.write(bytes(size))
    then = cluster.since()
    cluster.start(wait=False)
    cluster.expect_exit(code=1)
    record = then.expect_log("^could not locate a valid checkpoint record")
    assert record.level == "PANIC"
    lines = [
        f"startup process (PID {record.pid}) was terminated by signal 6: Aborted",
        TERMINATING,
        STARTUP_FAILED,
        SHUT_DOWN,
    ]
    cluster.since(record).expect_postmaster_lines(lines)
