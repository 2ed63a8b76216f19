"""Streaming: exits of walsender and walreceiver that are neither crash nor shutdown.

Source: PR-40 to PR-46, RC-23; walsender.c: WalSndCheckTimeOut(), WalSndDone(),
walreceiver.c: WalReceiverMain(), startup.c: StartupRereadConfig().
"""

import re

from pglife_conformance.base import deadlines
from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import MakeCluster
from pglife_conformance.cluster.session import Session
from pglife_conformance.cluster.standby import start_pair
from pglife_conformance.hold.pin import Pin
from pglife_conformance.observation.idle import IdleProbe
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim

TERMINATED = "^replication terminated by primary server$"
HUNG_UP = "^could not (send data to|receive data from) WAL stream: "
"""The log line of a walreceiver that still had a reply to send (of the WAL applied, or of its
oldest snapshot) when the primary had exited already after the reply before."""

STREAMS = [Need.STANDBY, Need.FULL_SQL, Need.WALSENDER, Need.OS_SIGNALS]


def is_streaming(session: Session) -> bool:
    """Whether this standby receives WAL."""
    return session.query("select status from pg_stat_wal_receiver") == [("streaming",)]


@claim("PR-41 PR-45 RC-23 SH-20 PR-44", source="walsender.c: WalSndDone()", needs=STREAMS)
def test_primary_that_stops_sends_all_first(make_cluster: MakeCluster) -> None:
    """A fast shutdown ends when the standby has all WAL. The standby keeps running, and streams
    again when the primary has restarted."""
    pair = start_pair(make_cluster, wal_retrieve_retry_interval="100ms")
    primary, standby = pair.primary, pair.standby
    reader = standby.session()
    standby.wait_for("streaming", lambda: is_streaming(reader))
    with primary.session() as session:
        session.query("set synchronous_commit = off")
        session.query("create table things as select generate_series(1, 20000) as n")
    then = standby.since()
    primary.stop()
    record = then.expect_log(f"{TERMINATED}|{HUNG_UP}")
    assert record.level == ("LOG" if re.search(TERMINATED, record.message) else "FATAL")
    standby.wait_for(
        "all rows",
        lambda: (
            reader.query("select to_regclass('things') is not null") == [("t",)]
            and reader.query("select count(*) from things") == [("20000",)]
        ),
    )
    primary.start()
    standby.wait_for("streaming again", lambda: is_streaming(reader), deadlines.START_LIMIT)
    assert standby.is_running()


@claim("PR-41 TO-09", source="walsender.c: WalSndCheckTimeOut()", needs=STREAMS)
def test_walsender_exits_when_its_receiver_is_silent(make_cluster: MakeCluster) -> None:
    """A walsender exits when its receiver is silent for wal_sender_timeout; that reconnects."""
    pair = start_pair(make_cluster, wal_retrieve_retry_interval="100ms")
    primary, standby = pair.primary, pair.standby
    with standby.session() as reader:
        standby.wait_for("streaming", lambda: is_streaming(reader))
    sender = primary.child(Kind.WALSENDER)
    with Pin(standby, Kind.WALRECEIVER):
        then = primary.since()
        primary.reload(wal_sender_timeout="300ms")
        record = then.expect_line("terminating walsender process due to replication timeout")
        assert record.level == "LOG"
        assert record.pid == sender.pid
        primary.expect_death(sender)
    primary.reload(wal_sender_timeout="60s")
    primary.child(Kind.WALSENDER, within=deadlines.START_LIMIT)
    assert primary.is_running()
    primary.expect_no_log("terminating any other active server processes")


@claim("PR-45 TO-10", source="walreceiver.c: WalReceiverMain()", needs=STREAMS)
def test_walreceiver_exits_when_its_sender_is_silent(make_cluster: MakeCluster) -> None:
    """A walreceiver exits when its sender is silent for wal_receiver_timeout: FATAL, no crash."""
    pair = start_pair(make_cluster, wal_retrieve_retry_interval="100ms")
    primary, standby = pair.primary, pair.standby
    with standby.session() as reader:
        standby.wait_for("streaming", lambda: is_streaming(reader))
        receiver = pair.walreceiver()
        with Pin(primary, Kind.WALSENDER):
            then = standby.since()
            standby.reload(wal_receiver_timeout="300ms")
            record = then.expect_line("terminating walreceiver due to timeout")
            assert (record.level, record.pid) == ("FATAL", receiver.pid)
            standby.expect_death(receiver)
            standby.reload(wal_receiver_timeout="60s")
        standby.wait_for("streaming", lambda: is_streaming(reader), deadlines.START_LIMIT)
    standby.expect_no_log("terminating any other active server processes")


@claim("RC-15 PR-45", source="startup.c: StartupRereadConfig()", needs=STREAMS)
def test_receiver_stays_unless_its_connection_changes(make_cluster: MakeCluster) -> None:
    """A reload stops the walreceiver only if its connection or slot has changed."""
    pair = start_pair(make_cluster, wal_retrieve_retry_interval="100ms")
    primary, standby = pair.primary, pair.standby
    requested = "^WAL receiver process shutdown requested$"
    with standby.session() as reader:
        standby.wait_for("streaming", lambda: is_streaming(reader))
        receiver = pair.walreceiver()
        rest = IdleProbe(standby.child(Kind.STARTUP).pid)
        then = standby.since()
        standby.reload(work_mem="5MB")
        then.expect_line('parameter "work_mem" changed to "5MB"')
        standby.wait_for("an idle startup process", rest.is_idle)
        standby.expect_still("the same receiver", lambda: is_streaming(reader), 0.2)
        assert pair.walreceiver().key == receiver.key
        then.expect_no_log(requested)
        connection = f"host={primary.socket_directory} port=5432 user=postgres"
        changes = [
            {"primary_conninfo": connection},
            {"primary_slot_name": ""},
            {"wal_receiver_create_temp_slot": "on"},
        ]
        for change in changes:
            then = standby.since()
            standby.reload(**change)
            record = then.expect_log(requested)
            assert record.pid == standby.child(Kind.STARTUP).pid
            standby.expect_death(receiver)
            receiver = pair.walreceiver()
            standby.wait_for("streaming", lambda: is_streaming(reader), deadlines.START_LIMIT)
    standby.expect_no_log("terminating any other active server processes")
