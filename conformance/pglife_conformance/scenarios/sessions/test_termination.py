"""pg_terminate_backend() with a timeout."""

import pytest

from pglife_conformance.base.needs import SQL
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.session import ServerError
from pglife_conformance.hold.pin import Pin
from pglife_conformance.pytest.claims import claim

WAITS = "signalfuncs.c: pg_wait_until_termination()"
QUERY_CANCELED = "57014"
OUT_OF_RANGE = "22003"


@claim("SE-43", source=WAITS, needs=SQL)
def test_termination_may_be_waited_for(cluster: Cluster) -> None:
    """pg_terminate_backend() with a timeout is true if the backend exits in time, else false with a
    warning. Without a timeout it does not wait."""
    with cluster.session() as session:
        before = cluster.since()
        gone = []
        for timeout in (60_000, None):
            other = cluster.session()
            child = other.child
            arguments = f"{child.pid}, {timeout}" if timeout else f"{child.pid}"
            assert session.query(f"select pg_terminate_backend({arguments})") == [("t",)]
            if timeout:
                assert child.key not in {kid.key for kid in cluster.children() if kid.is_alive}
            cluster.expect_death(child)
            gone.append(child)
        other = cluster.session()
        child = other.child
        with Pin(cluster, child):
            held = f"select pg_terminate_backend({child.pid}, 150)"
            assert session.query(held) == [("f",)]
            warning = session.notices[-1]
            assert (warning.severity, warning.message) == (
                "WARNING",
                f"backend with PID {child.pid} did not terminate within 150 milliseconds",
            )
            assert session.query(f"select pg_terminate_backend({child.pid}, 0)") == [("t",)]
            with pytest.raises(ServerError) as refused:
                session.query(f"select pg_terminate_backend({child.pid}, -1)")
            assert refused.value.sqlstate == OUT_OF_RANGE
        cluster.expect_death(child)
        before.expect_undisturbed(gone=[*gone, child])


@claim("SE-43", source=WAITS, needs=SQL)
def test_wait_for_a_termination_can_be_canceled(cluster: Cluster) -> None:
    """A cancel request ends the wait for the exit of another backend."""
    with cluster.session() as session:
        other = cluster.session()
        child = other.child
        with Pin(cluster, child):
            session.send_query(f"select pg_terminate_backend({child.pid}, 3600000)")
            session.expect_silence(0.3)
            session.cancel()
            with pytest.raises(ServerError) as raised:
                session.result()
            assert raised.value.sqlstate == QUERY_CANCELED
        cluster.expect_death(child)
