"""The self-test of a target, before any verdict: a death must be seen on it.

Whether the target does right is for the scenarios.
"""

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.teardown import end_cluster
from pglife_conformance.cluster.template import Template
from pglife_conformance.events import FAST
from pglife_conformance.pytest.state import SuiteState


def prove_that_deaths_are_seen(state: SuiteState, template: Template) -> None:
    """Start, kill a backend, see it gone in the process list and in the log, stop."""
    cluster = Cluster(state.target, template, state.run, scale=state.scale)
    try:
        cluster.start()
        if Need.CRASH_INJECTION in state.target.capabilities:
            session = cluster.session()
            then = cluster.since()
            victim = cluster.crash(session.child)
            then.expect_log(rf"\(PID {victim.pid}\) was terminated by signal 9")
            then.expect_ready()
            if any(child.key == victim.key for child in cluster.children()):
                raise cluster.watcher.failure("a killed backend is gone", str(victim))
        cluster.request_shutdown(FAST)
        cluster.expect_exit(code=0)
    finally:
        end_cluster(cluster, keep=False)
