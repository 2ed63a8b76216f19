"""Refusals of a server in recovery, and what a client receives before authentication.

Source: backend_startup.c (until 16 postmaster.c): BackendInitialize(); postmaster.c:
canAcceptConnections(), process_pm_pmsignal().
"""

import pytest

from pglife_conformance.base import deadlines
from pglife_conformance.base.needs import Need
from pglife_conformance.base.refusals import CANNOT_CONNECT_NOW
from pglife_conformance.cluster.client import ServerMessage, Tag
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.packets import packet
from pglife_conformance.events import IMMEDIATE
from pglife_conformance.pytest.claims import claim, settings

SOURCE = "backend_startup.c: BackendInitialize()"
STANDBY = [Need.STANDBY, Need.FULL_SQL]
AS_AT_INITDB = {"max_connections": "100"}
NOT_YET = "the database system is not yet accepting connections"
CACHED_SUBTRANSACTIONS = 64


def refusal_in_recovery(cluster: Cluster, detail: str) -> ServerMessage:
    """Wait for a refusal with this detail; earlier refusals have other details."""

    def refusal_with_detail() -> ServerMessage | None:
        refusal = cluster.refusal_of_new_client()
        assert (refusal.severity, refusal.sqlstate) == ("FATAL", CANNOT_CONNECT_NOW)
        return refusal if refusal.detail == detail else None

    return cluster.wait_for(
        f"a refusal with {detail!r}", refusal_with_detail, deadlines.START_LIMIT
    )


def start_as_standby(cluster: Cluster) -> None:
    """Start the server as a standby: its recovery does not end."""
    then = cluster.since()
    cluster.write_file("standby.signal")
    cluster.start(wait=False)
    then.expect_log("^listening on ", within=deadlines.START_LIMIT)


@claim("CN-12 CN-03", source=SOURCE, needs=STANDBY)
@settings(hot_standby="off", **AS_AT_INITDB)
def test_refusal_of_a_standby_that_is_not_hot(stopped_cluster: Cluster) -> None:
    """With hot_standby off a standby refuses every client, and the detail says why."""
    start_as_standby(stopped_cluster)
    refusal = refusal_in_recovery(stopped_cluster, "Hot standby mode is disabled.")
    assert refusal.message == "the database system is not accepting connections"
    assert refusal.hint == ""


@claim("CN-12 CN-03", source=SOURCE, needs=STANDBY)
@settings(**AS_AT_INITDB)
def test_refusal_before_consistency(cluster: Cluster) -> None:
    """A standby that has not replayed the end of its base backup is not consistent, and says so."""
    with cluster.session() as session:
        (found,) = session.query(
            "select redo_lsn, redo_wal_file, checkpoint_lsn from pg_control_checkpoint()"
        )
    cluster.stop(IMMEDIATE)
    redo, file, checkpoint = found
    label = (
        f"START WAL LOCATION: {redo} (file {file})\nCHECKPOINT LOCATION: {checkpoint}\n"
        "BACKUP METHOD: streamed\nBACKUP FROM: primary\nSTART TIME: 2026-01-01 00:00:00 UTC\n"
        "LABEL: pglife\nSTART TIMELINE: 1\n"
    )
    cluster.write_file("backup_label", label)
    start_as_standby(cluster)
    detail = "Consistent recovery state has not been yet reached."
    refusal = refusal_in_recovery(cluster, detail)
    assert (refusal.message, refusal.hint) == (NOT_YET, "")
    cluster.expect_still(
        "the refusal keeps its detail",
        lambda: cluster.refusal_of_new_client().detail == detail,
        0.1,
    )


@claim(
    "CN-12 PG-02 RC-05 PG-03", source="postmaster.c: process_pm_pmsignal()", needs=STANDBY, since=18
)
@settings(**AS_AT_INITDB)
def test_refusal_before_the_snapshot(cluster: Cluster) -> None:
    """A consistent standby without a recovery snapshot refuses clients, with a hint."""
    steps = "".join(
        f"savepoint s{number}; insert into something values ({number}); "
        for number in range(CACHED_SUBTRANSACTIONS + 2)
    )
    with cluster.session() as session, cluster.session() as other:
        session.query("create table something (number int)")
        session.query(f"begin; {steps}")
        other.query("checkpoint")
        other.query("create table another ()")
        cluster.stop(IMMEDIATE)
    start_as_standby(cluster)
    refusal = refusal_in_recovery(cluster, "Recovery snapshot is not yet ready for hot standby.")
    assert refusal.message == NOT_YET
    assert refusal.hint == (
        "To enable hot standby, close write transactions with more than "
        f"{CACHED_SUBTRANSACTIONS} subtransactions on the primary server."
    )


@claim("CN-21 CN-22", source=SOURCE)
@settings(client_min_messages="debug5", log_connections="on")
@pytest.mark.unmonitored("the model has no packets but the startup packet")
def test_client_receives_no_log_line_before_authentication(cluster: Cluster) -> None:
    """A client receives no log line before authentication, for any client_min_messages."""
    then = cluster.since()
    session = cluster.silent_client(wait_for_child=False)
    session.client.send_startup({"user": "postgres"})
    first = session.receive()
    assert first is not None
    assert first.tag is Tag.AUTHENTICATION
    session.receive_outcome()
    assert then.find_log("^connection received: ") is not None
    silent = cluster.silent_client(wait_for_child=False)
    silent.client.send_bytes(packet(3 << 16, b"user\0postgres\0\0")[:-1])
    cluster.wait_for(
        "the second line 'connection received'",
        lambda: len([r for r in then.log() if "connection received" in r.message]) == 2,
    )
    assert silent.is_silent()
