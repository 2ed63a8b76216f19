"""Clients around a crash: when they are accepted, and that no slots are lost.

Source: rules SE-33, SV-25, SV-47, INV-40, CN-30; postmaster.c: ConfigurePostmasterWaitSet(),
HandleFatalError(); pmchild.c: ReleasePostmasterChildSlot().
"""

import pytest

from pglife_conformance.base.needs import CRASH
from pglife_conformance.base.refusals import IN_RECOVERY_MODE, TOO_MANY_CONNECTIONS
from pglife_conformance.cluster.client import Tag
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import Outcome, Session
from pglife_conformance.hold.pin import Pin, pin_wait_dead_end, pin_wait_dead_end_after_crash
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.crash.test_sigkill_round import Countdown

ACCEPT = "postmaster.c: ConfigurePostmasterWaitSet()"


def waiting_client(cluster: Cluster) -> Session:
    """A client that has sent its startup packet and is not accepted; no child is forked for it."""
    kids = {kid.key for kid in cluster.children()}
    client = cluster.silent_client(wait_for_child=False)
    client.client.send_startup({"user": "postgres", "database": "postgres"})
    cluster.expect_still(
        "a client that waits, and no child for it",
        lambda: client.is_silent() and {kid.key for kid in cluster.children()} == kids,
        0.2,
    )
    return client


def disconnect_client_until_17(pin: Pin) -> None:
    """Until 17 the postmaster signals no dead-end child: it exits with its client (SM-23)."""
    assert pin.client is not None
    if pin.cluster.major <= 17:
        pin.client.disconnect()


@claim("SE-33 SV-25 INV-40 SL-08", source=ACCEPT, needs=CRASH)
def test_client_that_connects_in_wait_dead_end_is_answered_after_the_restart(
    cluster: Cluster,
) -> None:
    """No client is accepted in PM_WAIT_DEAD_END of a crash; a waiting one is answered later."""
    then = cluster.since()
    countdown = Countdown(cluster)
    with pin_wait_dead_end_after_crash(cluster) as pin, countdown.step():
        client = waiting_client(cluster)
    disconnect_client_until_17(pin)
    outcome = client.receive_outcome()
    assert outcome in (Outcome.ADMITTED, Outcome.REFUSED)
    if client.refusal is not None:
        assert client.refusal.message == IN_RECOVERY_MODE or "not yet accepting" in (
            client.refusal.message
        )
    then.expect_ready()
    client.close()
    cluster.expect_complete()


@claim("SE-33 SV-25 INV-40", source=ACCEPT, needs=CRASH)
def test_client_that_connects_in_wait_dead_end_of_a_shutdown_is_dropped(cluster: Cluster) -> None:
    """No client is accepted in PM_WAIT_DEAD_END of a shutdown; a waiting one is disconnected."""
    with pin_wait_dead_end(cluster) as pin:
        client = waiting_client(cluster)
    disconnect_client_until_17(pin)
    cluster.expect_exit(code=0)
    assert [message for message in client.expect_end() if message.tag is Tag.ERROR] == []


@claim("SV-47 CN-30 CN-31", source="pmchild.c: ReleasePostmasterChildSlot()", needs=CRASH)
@settings(max_connections="3", superuser_reserved_connections="0", max_wal_senders="0")
@pytest.mark.unmonitored("so many clients are too many ways for the model to go on")
def test_crashes_use_up_no_slots(cluster: Cluster) -> None:
    """After crashes with all slots taken as many clients can connect as before."""
    for _ in range(4):
        sessions = [cluster.session() for _ in range(3)]
        refusal = cluster.refusal_of_new_client()
        assert refusal.sqlstate == TOO_MANY_CONNECTIONS
        then = cluster.since()
        cluster.crash(sessions[0].child)
        then.expect_ready()
        for session in sessions:
            session.disconnect()
    assert len(cluster.children(Kind.CLIENT_BACKEND)) == 0
