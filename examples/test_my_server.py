"""Scenarios of one's own, for any server.

    pytest examples/test_my_server.py --target /usr/lib/postgresql/18/bin

Each claims one thing that a client or an operator can see. The monitor also judges all that
happens meanwhile: a step that the model forbids fails the scenario.
"""

from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.events import FAST, SMART
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.pytest.claims import claim, settings


@claim("SH-04", source="postmaster.c: process_pm_shutdown_request()")
@settings(max_connections=5)
def test_a_smart_shutdown_waits_for_my_session(cluster: Cluster) -> None:
    """A smart shutdown waits for an open session, which still works, and ends after it."""
    then = cluster.since()
    with cluster.session() as session:
        cluster.request_shutdown(SMART)
        then.expect_line("received smart shutdown request")
        assert session.query("select 1") == [("1",)]
    cluster.expect_exit(code=0)


@claim("CR-20", source="postmaster.c: PostmasterStateMachine()")
def test_my_server_opens_again_after_a_crash(cluster: Cluster) -> None:
    """After a SIGKILL to the background writer the server starts up again and shuts down."""
    then = cluster.since()
    cluster.crash(Kind.BACKGROUND_WRITER)
    then.expect_ready()
    cluster.request_shutdown(FAST)
    cluster.expect_exit(code=0)
