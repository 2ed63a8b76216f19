"""Each kind of child has a limited number of slots, and a reaped child frees its slot.

Source: pmchild.c: InitPostmasterChildSlots(), AssignPostmasterChildSlot(),
ReleasePostmasterChildSlot()
"""

import re
import signal
from itertools import accumulate

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.base.refusals import TOO_MANY_CLIENTS, TOO_MANY_CONNECTIONS
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.packets import exchange
from pglife_conformance.cluster.session import Outcome, Session
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
    """Client children that may exist at once with the settings FEW."""
    if cluster.major >= 18:
        return 2 * (3 + 1)
    # Autovacuum and background workers count too, and one background worker is running.
    return 2 * (3 + 1 + 1 + 1 + 1) - 1


def expect_too_many(session: Session, outcome: Outcome) -> None:
    """The session was refused with 'too many clients'."""
    assert outcome is Outcome.REFUSED
    assert session.refusal is not None
    found = session.refusal.severity, session.refusal.sqlstate, session.refusal.message
    assert found == ("FATAL", TOO_MANY_CONNECTIONS, TOO_MANY_CLIENTS)


def leave(cluster: Cluster, session: Session) -> None:
    """Close the session and wait until its child is reaped."""
    child = session.child
    session.close()
    cluster.expect_death(child)


def expect_no_client_children(cluster: Cluster) -> None:
    """Wait until all children of clients have been reaped."""
    kinds = (Kind.CLIENT_BACKEND, Kind.UNKNOWN)
    cluster.wait_for(
        "the end of all clients' children",
        lambda: not any(kid.kind in kinds for kid in cluster.children()),
    )


@claim("CN-06 CN-30 CN-31 SV-28 SV-40", source=POOLS)
@settings(**FEW)
@TOO_MANY_FOR_THE_MODEL
def test_clients_before_authentication(cluster: Cluster) -> None:
    """Twice as many clients may connect as may be authenticated; one more is refused until a
    client's child is reaped."""
    silent = [cluster.silent_client() for _ in range(room(cluster))]
    one_too_many = cluster.attempt()
    expect_too_many(one_too_many, one_too_many.outcome)
    admitted = [silent.pop() for _ in range(3)]
    for client in admitted:
        assert client.send_startup_packet(POSTGRES) is Outcome.ADMITTED
    # Its child has a slot, but no PGPROC is free.
    client = silent.pop()
    expect_too_many(client, client.send_startup_packet(POSTGRES))
    client.disconnect()
    cluster.expect_death(client.child)
    leave(cluster, admitted.pop())
    again = [cluster.silent_client() for _ in range(2)]
    one_too_many = cluster.attempt()
    expect_too_many(one_too_many, one_too_many.outcome)
    assert again[1].send_startup_packet(POSTGRES) is Outcome.ADMITTED


@claim("CN-31 CN-32", source=POOLS, needs=[Need.WALSENDER])
@settings(**FEW)
@TOO_MANY_FOR_THE_MODEL
def test_walsenders_have_slots_of_their_own(cluster: Cluster) -> None:
    """max_wal_senders is not part of max_connections, and sessions cannot use its slots."""
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


@claim("SV-47 CN-30", source="pmchild.c: ReleasePostmasterChildSlot()")
@settings(**FEW)
@TOO_MANY_FOR_THE_MODEL
def test_every_ended_child_frees_its_slot(cluster: Cluster) -> None:
    """Closed, failed and refused clients, more than there are slots, leave all slots free."""
    for _ in range(room(cluster) // 2 + 1):
        cluster.session().close()
        assert exchange(cluster, b"\0\0\0\0").exit_code == 0
        expect_no_client_children(cluster)
        assert cluster.refusal_of_new_client(user="nobody").sqlstate == "28000"
        expect_no_client_children(cluster)
    silent = [cluster.silent_client() for _ in range(room(cluster))]
    one_too_many = cluster.attempt()
    expect_too_many(one_too_many, one_too_many.outcome)
    assert silent[-1].send_startup_packet(POSTGRES) is Outcome.ADMITTED


@claim("IO-02 IO-05", source="postmaster.c: maybe_adjust_io_workers()", needs=[Need.IO_WORKERS])
@settings(io_workers=str(MOST_IO_WORKERS))
@pytest.mark.unmonitored("the model has three io workers")
def test_the_most_io_workers(cluster: Cluster) -> None:
    """32 io workers are numbered from 0 to 31, and one that exits is replaced."""

    def numbers() -> list[int]:
        titles = [kid.title for kid in cluster.children(Kind.IO_WORKER)]
        shown = [title.rpartition(" ")[2] for title in titles]
        return sorted(int(number) for number in shown if number)

    all_numbers = list(range(MOST_IO_WORKERS))
    cluster.wait_for("all io workers", lambda: numbers() == all_numbers)
    first, *_, last = cluster.children(Kind.IO_WORKER)
    for kid in (first, last):
        cluster.end_child(kid, signal.SIGUSR2)
        cluster.wait_for("all io workers again", lambda: numbers() == all_numbers)
    cluster.stop()


# Slot numbers, as 18 logs them.

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
"""The pools in the order of their slot numbers."""


def slot_numbers(cluster: Cluster, since: Since | None = None) -> dict[str, list[int]]:
    """The slot numbers assigned to each kind, in order."""
    found: dict[str, list[int]] = {}
    for record in (since or cluster.all_log()).log():
        if match := _ASSIGNED.fullmatch(record.message):
            found.setdefault(match[2], []).append(int(match[1]))
    return found


@claim("SV-40 SV-47", source=POOLS, since=18, until=18, needs=[Need.SIGNAL_LOG])
@settings(**FEW | WORKERS, archive_mode="on", archive_command="true", summarize_wal="on")
@TOO_MANY_FOR_THE_MODEL
def test_each_kind_has_a_pool_of_its_own(stopped_cluster: Cluster) -> None:
    """Each kind has consecutive slots; it takes the lowest first, then the last one freed."""
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
