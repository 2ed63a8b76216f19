"""A fork for a client fails, and the client has gone by then.

Source       rules SE-34, CN-10; postmaster.c: report_fork_failure_to_client().
"""

from __future__ import annotations

import pytest

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.hold.pin import StoppedPostmaster, pin_fork_failure
from pglife_conformance.pytest.claims import claim
from pglife_conformance.scenarios.limits.test_fork_failure import (
    FORK_FAILED,
    NO_PROCESS,
    answer_of_the_postmaster,
)


@claim(
    "SE-34",
    "CN-10",
    source="postmaster.c: report_fork_failure_to_client()",
    needs=[Need.OS_SIGNALS],
)
@pytest.mark.unmonitored("the monitor does not hear of a client who has gone before its turn")
def test_a_client_that_has_gone_is_not_told_for_ever(cluster: Cluster) -> None:
    """A postmaster that has no process for a client, who is not there any more to hear of it,
    goes on to the next one."""
    mark = cluster.mark()
    with pin_fork_failure(cluster):
        with StoppedPostmaster(cluster):
            cluster.silent_client(wait_for_child=False).vanish()
        cluster.expect_log(f"^{NO_PROCESS}$", since=mark)
        assert answer_of_the_postmaster(cluster) == FORK_FAILED
    cluster.session().close()
