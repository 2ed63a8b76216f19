"""How many of each kind there can be, and that what they held is given back.

Source       rules CN-06, CN-30 to CN-32, SV-28, SV-40, SV-47, IO-02, IO-05; pmchild.c (18):
             InitPostmasterChildSlots(), AssignPostmasterChildSlot(), ReleasePostmasterChildSlot().
"""

from __future__ import annotations

import re
import signal
from itertools import accumulate

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.base.refusals import TOO_MANY_CLIENTS, TOO_MANY_CONNECTIONS
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.packets import exchange
from pglife_conformance.cluster.session import Outcome, Session
from pglife_conformance.events import FAST
from pglife_conformance.expect.since import Since
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim, settings

POOLS = "pmchild.c: InitPostmasterChildSlots()"
TOO_MANY_FOR_THE_MODEL = pytest.mark.unmonitored("so many clients are too many for the model")
FEW = {
    "max_connections": "3",
    "superuser_reserved_connections": "0",
    "max_wal_senders": "1",
    "max_worker_processes": "1",
    "autovacuum_max_workers": "1",
}
POSTGRES = {"user": "postgres", "database": "postgres"}
MOST_IO_WORKERS = 32


def room(cluster: Cluster) -> int:
    """Children that may be on their way in or in, with the settings FEW."""
    if cluster.target.version.major >= 18:
        return 2 * (3 + 1)
    # Autovacuum workers and launcher and background workers count, and one of those is there.
    return 2 * (3 + 1 + 1 + 1 + 1) - 1


def expect_too_many(session: Session, outcome: Outcome) -> None:
    """Refused as one too many."""
    assert outcome is Outcome.REFUSED
    assert session.refusal is not None
    told = session.refusal.severity, session.refusal.sqlstate, session.refusal.message
    assert told == ("FATAL", TOO_MANY_CONNECTIONS, TOO_MANY_CLIENTS)


def leave(cluster: Cluster, session: Session) -> None:
    """Say goodbye, and wait until what it held has been given back."""
    child = session.child
    session.close()
    cluster.expect_death(child)


def expect_nobody(cluster: Cluster) -> None:
    """All children of clients have ended."""
    kinds = (Kind.CLIENT_BACKEND, Kind.UNKNOWN)
    cluster.wait_for(
        "the end of all clients' children",
        lambda: not any(kid.kind in kinds for kid in cluster.children()),
    )


@claim("CN-06", "CN-30", "CN-31", "SV-28", "SV-40", source=POOLS)
@settings(**FEW)
@TOO_MANY_FOR_THE_MODEL
def test_clients_that_may_be_on_their_way_in(cluster: Cluster) -> None:
    """Twice as many as may be in can wait to be let in; who comes then is refused, until one of
    them has gone."""
    silent = [cluster.silent_client() for _ in range(room(cluster))]
    one_too_many = cluster.attempt()
    expect_too_many(one_too_many, one_too_many.outcome)
    admitted = [silent.pop() for _ in range(3)]
    for client in admitted:
        assert client.send_startup_packet(POSTGRES) is Outcome.ADMITTED
    # It has a slot, but there is no place for it in shared memory.
    client = silent.pop()
    expect_too_many(client, client.send_startup_packet(POSTGRES))
    client.disconnect()
    cluster.expect_death(client.child)
    leave(cluster, admitted.pop())
    again = [cluster.silent_client() for _ in range(2)]
    one_too_many = cluster.attempt()
    expect_too_many(one_too_many, one_too_many.outcome)
    assert again[1].send_startup_packet(POSTGRES) is Outcome.ADMITTED


@claim("CN-31", "CN-32", source=POOLS, needs=[Need.WALSENDER])
@settings(**FEW)
@TOO_MANY_FOR_THE_MODEL
def test_walsenders_have_places_of_their_own(cluster: Cluster) -> None:
    """max_wal_senders is neither part of max_connections nor of use to others."""
    sessions = [cluster.session() for _ in range(3)]
    refused = cluster.attempt()
    expect_too_many(refused, refused.outcome)
    walsender = cluster.session(parameters={"replication": "true"})
    second = cluster.attempt(parameters={"replication": "true"})
    assert second.refusal is not None
    assert second.refusal.sqlstate == TOO_MANY_CONNECTIONS
    assert re.fullmatch(
        r'number of requested standby connections exceeds "?max_wal_senders"? '
        r"\(currently 1\)",
        second.refusal.message,
    )
    refused = cluster.attempt()
    expect_too_many(refused, refused.outcome)
    leave(cluster, walsender)
    with cluster.session(parameters={"replication": "true"}):
        sessions[0].close()
    assert sessions[1].query("select 1") == [("1",)]


@claim("SV-47", "CN-30", source="pmchild.c: ReleasePostmasterChildSlot()")
@settings(**FEW)
@TOO_MANY_FOR_THE_MODEL
def test_whoever_goes_gives_back_what_it_held(cluster: Cluster) -> None:
    """After more clients of every fate than there is room for, there is as much room as before."""
    for _ in range(room(cluster) // 2 + 1):
        cluster.session().close()
        assert exchange(cluster, b"\0\0\0\0").exit_code == 0
        expect_nobody(cluster)
        assert cluster.refusal_of_new_client(user="nobody").sqlstate == "28000"
        expect_nobody(cluster)
    silent = [cluster.silent_client() for _ in range(room(cluster))]
    one_too_many = cluster.attempt()
    expect_too_many(one_too_many, one_too_many.outcome)
    assert silent[-1].send_startup_packet(POSTGRES) is Outcome.ADMITTED


@claim("IO-02", "IO-05", source="postmaster.c: maybe_adjust_io_workers()", needs=[Need.IO_WORKERS])
@settings(io_workers=str(MOST_IO_WORKERS))
@pytest.mark.unmonitored("the model has three io workers")
def test_as_many_io_workers_as_there_may_be(cluster: Cluster) -> None:
    """32 io workers are numbered from 0 to 31, and each that goes is replaced."""

    def numbers() -> list[int]:
        titles = [kid.title for kid in cluster.children(Kind.IO_WORKER)]
        shown = [title.rpartition(" ")[2] for title in titles]
        return sorted(int(number) for number in shown if number)

    everybody = list(range(MOST_IO_WORKERS))
    cluster.wait_for("all io workers", lambda: numbers() == everybody)
    first, *_, last = cluster.children(Kind.IO_WORKER)
    for kid in (first, last):
        cluster.signal_child(kid, signal.SIGUSR2)
        cluster.expect_death(kid)
        cluster.wait_for("all io workers again", lambda: numbers() == everybody)
    cluster.request_shutdown(FAST)
    cluster.expect_exit(code=0)


# Slots by number, as 18 logs them.

_ASSIGNED = re.compile(r"assigned pm child slot (\d+) for (.+)")
WORKERS = {"max_worker_processes": "5", "autovacuum_worker_slots": "4"}
SIZES = (
    ("backend", 2 * (3 + 1)),
    ("autovacuum launcher", 1),
    ("autovacuum worker", 4),
    ("bgworker", 5),
    ("slot sync worker", 1),
    ("archiver", 1),
    ("bgwriter", 1),
    ("checkpointer", 1),
    ("io_worker", MOST_IO_WORKERS),
    ("startup", 1),
    ("wal_receiver", 1),
    ("wal_summarizer", 1),
    ("wal_writer", 1),
    ("syslogger", 1),
)
"""Pools in the order in which they are numbered."""


def slot_numbers(cluster: Cluster, since: Since | None = None) -> dict[str, list[int]]:
    """Which slots each kind was given, in order."""
    found: dict[str, list[int]] = {}
    for record in (since or cluster.all_log()).log():
        if match := _ASSIGNED.fullmatch(record.message):
            found.setdefault(match[2], []).append(int(match[1]))
    return found


@claim("SV-40", "SV-47", source=POOLS, since=18, until=18, needs=[Need.SIGNAL_LOG])
@settings(**FEW | WORKERS, archive_mode="on", archive_command="true", summarize_wal="on")
@TOO_MANY_FOR_THE_MODEL
def test_each_kind_has_a_pool_of_its_own(stopped_cluster: Cluster) -> None:
    """Slots are numbered kind by kind; a kind takes its lowest first, and the last given back."""
    cluster = stopped_cluster
    cluster.start()
    firsts = dict(
        zip(
            (name for name, _ in SIZES),
            accumulate((size for _, size in SIZES), initial=1),
            strict=False,
        )
    )
    absent = {"backend", "autovacuum worker", "slot sync worker", "wal_receiver", "syslogger"}
    wanted = {name: [firsts[name]] for name, _ in SIZES if name not in absent}
    wanted["io_worker"] = [firsts["io_worker"] + number for number in range(3)]
    cluster.wait_for(
        "each kind in the first slot of its pool", lambda: slot_numbers(cluster) == wanted
    )
    then = cluster.since()
    clients = [cluster.silent_client() for _ in range(room(cluster))]
    assert slot_numbers(cluster, then) == {"backend": list(range(1, room(cluster) + 1))}
    then = cluster.since()
    for client in (clients[4], clients[1]):
        client.disconnect()
        cluster.expect_death(client.child)
        then.expect_log("^releasing pm child slot")
        then = cluster.since()
    for _ in range(2):
        cluster.silent_client()
    assert slot_numbers(cluster, then) == {"backend": [2, 5]}
    then = cluster.since()
    cluster.refusal_of_new_client()
    assert slot_numbers(cluster, then) == {}
    then.expect_line("allocating dead-end child")
    then.expect_line("releasing dead-end backend")
