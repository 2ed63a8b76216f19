"""Which signals a child takes while it begins.

Source       rules CN-11, SG-30; postmaster/fork_process.c: fork_process(), miscinit.c:
             InitPostmasterChild(), tcop/backend_startup.c: BackendInitialize().
"""

from __future__ import annotations

import signal

import pytest

from pglife_conformance.claims import claim
from pglife_conformance.client import Tag
from pglife_conformance.cluster import Cluster
from pglife_conformance.mask_steps import WATCHED, Blocked, FollowedChild
from pglife_conformance.needs import Need
from pglife_conformance.observation.kinds import Kind

NEEDS = [Need.OS_SIGNALS, Need.FULL_SQL]

AT_ITS_FORK = WATCHED
AT_ITS_BEGINNING = WATCHED - {signal.SIGQUIT}
READING_ITS_PACKET = WATCHED - {signal.SIGQUIT, signal.SIGTERM, signal.SIGALRM}
READY = frozenset[signal.Signals]()


def masks_of_a_clients_child(cluster: Cluster) -> list[Blocked]:
    """What it has blocked until it was ready.

    The child that is caught may be somebody else, who comes just now: then once more.
    """
    while True:
        with FollowedChild(cluster) as caught:
            client = cluster.raw_client()
            client.send_startup({"user": "postgres", "database": "postgres"})
            masks = caught.masks()
            child = caught.pid
        assert any(message.tag is Tag.READY_FOR_QUERY for message in client.messages())
        client.close()
        if client.backend_pid == child:
            return masks


@claim("CN-11", "SG-30", source="backend_startup.c: BackendInitialize()", needs=NEEDS)
def test_child_takes_term_only_while_it_reads_its_packet(cluster: Cluster) -> None:
    """A client's child blocks all but QUIT, but for the time in which it waits for its client,
    until its handlers are set."""
    assert masks_of_a_clients_child(cluster) == [
        AT_ITS_FORK,
        AT_ITS_BEGINNING,
        READING_ITS_PACKET,
        AT_ITS_BEGINNING,
        READY,
    ]


@claim("CN-11", source="miscinit.c: InitPostmasterChild()", needs=NEEDS)
@pytest.mark.parametrize(
    "kind", [Kind.BACKGROUND_WRITER, Kind.WALWRITER, Kind.AUTOVACUUM_LAUNCHER], ids=str
)
def test_background_process_blocks_all_until_its_handlers_are_set(
    cluster: Cluster, kind: Kind
) -> None:
    """A background process takes QUIT first, and everything when its handlers are set."""
    with FollowedChild(cluster) as caught:
        cluster.signal_child(kind, signal.SIGTERM)
        masks = caught.masks()
    assert masks == [AT_ITS_FORK, AT_ITS_BEGINNING, READY]
