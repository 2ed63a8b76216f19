"""The effect of signals on a child that waits for its client's password.

Source: tcop/postgres.c: PostgresMain(), quickdie(); postinit.c: StatementTimeoutHandler().
"""

import signal
import time

import pytest

from pglife_conformance.base.needs import SIGNALS, Need
from pglife_conformance.cluster.client import Tag
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import Outcome, Session
from pglife_conformance.expect.lines import death_line
from pglife_conformance.pytest.claims import claim
from pglife_conformance.scenarios.admission.test_clients import AT_MOST_S, TIME_FOR_A_PACKET_S
from pglife_conformance.scenarios.support.signals import KILL_QUIT

ASKING = "local all asked password\nlocal all all trust\n"


def asked_client(cluster: Cluster) -> Session:
    """A client that has been asked for a password and does not answer."""
    session = cluster.silent_client()
    session.client.send_startup({"user": "asked", "database": "postgres"})
    child = session.child
    asked = session.receive()
    assert asked is not None
    assert asked.tag is Tag.AUTHENTICATION
    cluster.expect_idle(child)
    return session


@pytest.fixture
def asking_cluster(stopped_cluster: Cluster) -> Cluster:
    """A cluster that asks the user `asked` for a password."""
    stopped_cluster.write_file("pg_hba.conf", ASKING)
    stopped_cluster.start()
    return stopped_cluster


@claim("SG-29 TI-33", source="tcop/postgres.c: PostgresMain()", needs=[*SIGNALS, Need.PASSWORD])
def test_signals_during_authentication(asking_cluster: Cluster) -> None:
    """A child in authentication survives INT; at TERM it ends and sends its client no message."""
    cluster = asking_cluster
    client = asked_client(cluster)
    child = cluster.child_with_pid(client.child.pid)
    assert child.title == "postgres: asked postgres [local] authentication"
    before = cluster.since()
    cluster.signal_child(child, signal.SIGINT)
    cluster.expect_idle(child)
    before.expect_undisturbed()
    cluster.signal_child(child, signal.SIGTERM)
    messages = client.expect_end()
    assert [m for m in messages if m.severity] == []
    cluster.expect_death(child)
    records = [r for r in before.log() if r.pid == child.pid and r.level != "DEBUG"]
    assert [(r.level, r.message) for r in records] == [
        ("FATAL", "canceling authentication due to timeout")
    ]
    before.expect_undisturbed(gone=[child])


@claim(
    "TO-01 CN-16", source="postinit.c: StatementTimeoutHandler()", needs=[*SIGNALS, Need.PASSWORD]
)
@pytest.mark.unmonitored("the model has no timeout for a client's packet")
def test_child_exits_after_authentication_timeout(asking_cluster: Cluster) -> None:
    """A child whose client sends no password within authentication_timeout exits 1."""
    cluster = asking_cluster
    then = cluster.since()
    cluster.reload(authentication_timeout=f"{TIME_FOR_A_PACKET_S:.0f}s")
    then.expect_log('^parameter "authentication_timeout" changed to ')
    before = cluster.since()
    begun = time.monotonic()
    client = asked_client(cluster)
    child = client.child
    assert client.client.receive_rest(AT_MOST_S * cluster.scale) == b""
    assert time.monotonic() - begun > TIME_FOR_A_PACKET_S - 0.1
    record = then.expect_line("canceling authentication due to timeout")
    assert (record.pid, record.level) == (child.pid, "FATAL")
    ended = then.expect_log(rf"\(PID {child.pid}\) exited with exit code")
    assert ended.message.endswith(" 1")
    before.expect_undisturbed(gone=[child])


@claim(
    "SG-29 RP-23",
    source="tcop/postgres.c: quickdie()",
    needs=[*SIGNALS, Need.PASSWORD, Need.CRASH_INJECTION],
)
@KILL_QUIT
def test_killed_child_in_authentication_is_a_crash(
    asking_cluster: Cluster, number: signal.Signals
) -> None:
    """A child that is killed, or exits 2, in authentication is a crash, without a message."""
    cluster = asking_cluster
    client = asked_client(cluster)
    child = cluster.child_with_pid(client.child.pid)
    before = cluster.since()
    victim = cluster.signal_child(child, number)
    assert [m for m in client.expect_end() if m.severity] == []
    before.expect_crash_restart(death_line(cluster, victim, number))
    assert client.outcome is Outcome.UNANSWERED
