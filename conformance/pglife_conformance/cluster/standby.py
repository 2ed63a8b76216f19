"""A primary and its standby, both copied from the one template.

Begin with start_pair(). Two copies of one initdb have the same system identifier, so the standby
needs no base backup.

Source: rules RC-05, RC-07, RC-15, WS-20.
"""

from dataclasses import dataclass
from typing import Any

from pglife_conformance.base import deadlines
from pglife_conformance.cluster.cluster import Cluster, MakeCluster
from pglife_conformance.cluster.session import Session
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child

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
        """Wait for the standby's walreceiver, and return it."""
        return self.standby.child(Kind.WALRECEIVER, deadlines.START_LIMIT)


def start_pair(
    make_cluster: MakeCluster,
    *,
    hot: bool = True,
    slotsync: bool = False,
    summarize: bool = False,
    **settings: object,
) -> Pair:
    """Start a primary, and a standby that streams from it and, if it is hot, accepts sessions.

    Args:
        make_cluster: the fixture.
        hot: the standby's hot_standby.
        slotsync: the standby's sync_replication_slots (17).
        summarize: the standby's summarize_wal (17).
        settings: more settings of the standby.
    """
    primary = make_cluster(wal_level="logical")
    primary.start()
    primary.let_others_connect()
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
    """Connect a client that asks for replication; its walsender is idle."""
    session = cluster.session(parameters={"replication": "true"})
    session.query("IDENTIFY_SYSTEM")
    assert session.child.kind is Kind.WALSENDER
    return session


def unconfirming_receiver(cluster: Cluster) -> Session:
    """A client that streams WAL and never confirms any, so that its walsender does not exit.

    Its cluster has wal_sender_timeout = 0. Unlike a stopped walsender this one takes the signal
    of the checkpointer before the shutdown checkpoint.
    """
    session = walsender(cluster)
    (identified,) = session.query("IDENTIFY_SYSTEM")
    with cluster.since() as then:
        session.send_query(f"START_REPLICATION PHYSICAL {identified[2]}")
        session.receive()
    then.expect_log("has now caught up with upstream server$")
    return session


def stop(*clusters: Cluster) -> None:
    """Shut servers down in order, each by a fast shutdown.

    An immediate one may leave dynamic shared memory behind: a process that receives SIGQUIT while
    it makes a segment, as processes do at their start, does not remove it.
    """
    for cluster in clusters:
        cluster.stop()
