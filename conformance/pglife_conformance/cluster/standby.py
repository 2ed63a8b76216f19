"""A primary and its standby, both from the one template, with everybody that can be there.

Begin with   Pair, then everybody_on_primary() and Pair.fill().
Owns         the settings by which a standby follows; who is in a full family.
Leaves out   what is done to them (scenarios).
Source       section 9; RC-05, RC-07, RC-15, WS-20: two copies of one initdb are the same system,
             so a standby needs no base backup.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pglife_conformance.base import deadlines
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import Session
from pglife_conformance.events import FAST
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child
from pglife_conformance.pytest.fixtures import MakeCluster

READ_ONLY_LINE = "database system is ready to accept read-only connections"
SLOT = "pglife"

_AS_AT_INITDB = {"max_connections": "100"}
ALONE = {**_AS_AT_INITDB, "primary_conninfo": ""}
"""A standby that has no primary to stream from."""
ARCHIVES_ALWAYS: dict[str, Any] = {"archive_mode": "always", "archive_command": "true"}


@dataclass
class Pair:
    """A running primary and a standby that streams from it."""

    primary: Cluster
    standby: Cluster

    def walreceiver(self) -> Child:
        """The standby's."""
        return self.standby.child(Kind.WALRECEIVER, deadlines.START_LIMIT)


def start_pair(
    make_cluster: MakeCluster,
    *,
    hot: bool = True,
    slotsync: bool = False,
    summarize: bool = False,
    **settings: object,
) -> Pair:
    """Start both; the standby with these settings. It streams, and if it is hot it is open."""
    primary = make_cluster(wal_level="logical")
    primary.start()
    with primary.session() as session:
        session.query(f"select pg_create_physical_replication_slot('{SLOT}')")
    conninfo = f"host={primary.socket_directory} port=5432 user=postgres dbname=postgres"
    own: dict[str, object] = {
        **_AS_AT_INITDB,
        "wal_level": "logical",
        "hot_standby": hot,
        "primary_conninfo": conninfo,
        "primary_slot_name": SLOT,
        "hot_standby_feedback": True,
    }
    if primary.target.version.major >= 17:
        own |= {"sync_replication_slots": slotsync, "summarize_wal": summarize}
    standby = make_cluster(**(own | settings))
    standby.write_file("standby.signal")
    standby.start(wait=False)
    if hot:
        standby.expect_log(f"^{READ_ONLY_LINE}$", within=deadlines.START_LIMIT)
    pair = Pair(primary, standby)
    pair.walreceiver()
    return pair


def walsender(cluster: Cluster) -> Session:
    """A client that has asked for replication and is idle."""
    session = cluster.session(parameters={"replication": "true"})
    session.query("IDENTIFY_SYSTEM")
    assert session.child.kind is Kind.WALSENDER
    return session


def unconfirming_receiver(cluster: Cluster) -> Session:
    """A client that streams WAL and never confirms any, so that its walsender may not end.

    Its cluster has wal_sender_timeout = 0. Unlike a stopped walsender this one hears what the
    checkpointer tells it before the shutdown checkpoint.
    """
    session = walsender(cluster)
    (identified,) = session.query("IDENTIFY_SYSTEM")
    mark = cluster.mark()
    session.send_query(f"START_REPLICATION PHYSICAL {identified[2]}")
    session.receive()
    cluster.expect_log("has now caught up with upstream server$", since=mark)
    return session


def stop(*clusters: Cluster) -> None:
    """End servers in order: whoever is told to quit while it makes dynamic shared memory, as
    processes that have just been started do, leaves some behind."""
    for cluster in clusters:
        cluster.request_shutdown(FAST)
        cluster.expect_exit(code=0)
