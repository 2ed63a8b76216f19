"""Crashes by kind of child: its name in the log, and one crash restart for each.

Source: rules RP-02, RP-10 to RP-27, CR-44 to CR-47; postmaster.c: process_pm_child_exit().
"""

import signal

import pytest

from pglife_conformance.base.needs import CRASH, Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import Session
from pglife_conformance.expect.lines import exited_line, killed_line
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim, settings

CLEANUP = "postmaster.c: CleanupBackend()"
SOURCE = "postmaster.c: process_pm_child_exit(), HandleChildCrash()"

AUXILIARY = [
    Kind.CHECKPOINTER,
    Kind.BACKGROUND_WRITER,
    Kind.WALWRITER,
    Kind.AUTOVACUUM_LAUNCHER,
    Kind.LOGICAL_REPLICATION_LAUNCHER,
]
FEWEST_SLOTS = {
    "max_connections": "1",
    "superuser_reserved_connections": "0",
    "max_wal_senders": "0",
}
"""With these 18 has room for two children of clients (SV-27)."""


def dead_end_client(cluster: Cluster) -> Session:
    """A silent client in a cluster of FEWEST_SLOTS for which no slot is free."""
    cluster.silent_client()
    cluster.silent_client()
    return cluster.silent_client()


@claim("RP-12 RP-13 RP-14 RP-17 RP-22 CR-02 CR-25", source=SOURCE, needs=CRASH)
@pytest.mark.parametrize("kind", AUXILIARY, ids=str)
def test_killed_background_process_causes_a_crash_restart(cluster: Cluster, kind: Kind) -> None:
    """A killed background process is named in the log, and all children are replaced."""
    before = cluster.since()
    victim = cluster.crash(kind)
    before.expect_crash_restart(killed_line(cluster, victim))
    cluster.expect_service()


@claim("RP-21 CR-46", source=SOURCE, needs=[*CRASH, Need.IO_WORKERS])
def test_killed_io_worker_causes_a_crash_restart(cluster: Cluster) -> None:
    """An io worker that a signal ended is a crash like any other."""
    before = cluster.since()
    victim = cluster.crash(Kind.IO_WORKER)
    before.expect_crash_restart(killed_line(cluster, victim))


@claim("RP-02 CR-60", source="postmaster.c: LogChildExit()", needs=CRASH)
@pytest.mark.parametrize(
    "number",
    [signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL],
    ids=lambda number: number.name,
)
def test_any_deadly_signal_is_a_crash(cluster: Cluster, number: signal.Signals) -> None:
    """A child killed by any signal is a crash; the log line has the signal's number and name."""
    before = cluster.since()
    victim = cluster.crash(Kind.BACKGROUND_WRITER, number)
    before.expect_crash_restart(killed_line(cluster, victim, number))


@claim("SG-11 SG-12 SG-13 SG-15 SG-22 SG-40", source=SOURCE, needs=CRASH)
@pytest.mark.parametrize("kind", AUXILIARY, ids=str)
def test_quit_by_hand_is_a_crash_with_exit_code_2(cluster: Cluster, kind: Kind) -> None:
    """A background process that is sent QUIT by hand exits 2, and that is a crash."""
    before = cluster.since()
    victim = cluster.signal_child(kind, signal.SIGQUIT)
    before.expect_crash_restart(exited_line(cluster, victim, 2))


@claim("SG-20 RP-21", source=SOURCE, needs=[*CRASH, Need.IO_WORKERS])
def test_quit_by_hand_to_an_io_worker_is_a_crash(cluster: Cluster) -> None:
    """An io worker that is sent QUIT by hand exits 2, and that is a crash."""
    before = cluster.since()
    victim = cluster.signal_child(Kind.IO_WORKER, signal.SIGQUIT)
    before.expect_crash_restart(exited_line(cluster, victim, 2))


@claim("RP-23 SE-26", source=CLEANUP, needs=CRASH)
def test_killed_idle_session_causes_a_crash_restart(cluster: Cluster) -> None:
    """The client of a killed idle session receives nothing; that is a crash of a client backend."""
    session = cluster.session()
    bystander = cluster.session()
    before = cluster.since()
    victim = cluster.crash(session.child)
    assert session.expect_end() == []
    bystander.expect_end()
    before.expect_crash_restart(killed_line(cluster, victim))


@claim("RP-02 RP-23", source="postmaster.c: LogChildExit()", needs=[*CRASH, Need.SQL_FUNCTIONS])
def test_death_of_a_busy_session_logs_its_statement(cluster: Cluster) -> None:
    """The log line about a killed session has its running statement as DETAIL."""
    session = cluster.session()
    victim = session.child
    before = cluster.since()
    session.begin_query("select pg_sleep(60)")
    cluster.crash(victim)
    before.expect_crash_restart(killed_line(cluster, victim))
    record = next(r for r in before.log() if r.message == killed_line(cluster, victim))
    assert record.fields == (("DETAIL", "Failed process was running: select pg_sleep(60)"),)


@claim("RP-23 TI-23", source=CLEANUP, needs=CRASH)
def test_killed_child_before_its_packet_is_a_crash(cluster: Cluster) -> None:
    """A child killed before it has read a startup packet is a crash."""
    client = cluster.silent_client()
    before = cluster.since()
    victim = cluster.crash(client.child)
    before.expect_crash_restart(killed_line(cluster, victim))


SLOTS_18 = "to fill the slots takes many more clients, and a dead-end child is a server process"


@claim("RP-26 CR-47 MM-31", source=CLEANUP, needs=CRASH, since=18, why=SLOTS_18)
@settings(**FEWEST_SLOTS)
def test_killed_dead_end_child_is_a_crash(cluster: Cluster) -> None:
    """A dead-end child never touched shared memory; killed, it is a crash all the same."""
    client = dead_end_client(cluster)
    before = cluster.since()
    victim = cluster.crash(client.child)
    before.expect_crash_restart(killed_line(cluster, victim, dead_end=True))


@claim("SG-30 RP-26", source=CLEANUP, needs=CRASH, since=18, why=SLOTS_18)
@settings(**FEWEST_SLOTS)
def test_dead_end_child_exits_2_at_quit(cluster: Cluster) -> None:
    """A dead-end child that is sent QUIT by hand exits 2: a crash."""
    client = dead_end_client(cluster)
    before = cluster.since()
    victim = cluster.signal_child(client.child, signal.SIGQUIT)
    assert client.expect_end() == []
    before.expect_crash_restart(exited_line(cluster, victim, 2, dead_end=True))


@claim("SG-30 SG-28", source=CLEANUP, needs=CRASH)
def test_child_before_its_packet_exits_2_at_quit(cluster: Cluster) -> None:
    """A child that has read no packet yet exits 2 at QUIT and sends nothing: a crash."""
    client = cluster.silent_client()
    before = cluster.since()
    victim = cluster.signal_child(client.child, signal.SIGQUIT)
    assert client.expect_end() == []
    before.expect_crash_restart(exited_line(cluster, victim, 2))
