"""The fixtures of the scenarios: a cluster for each, which is gone afterwards."""

from collections.abc import Iterator

import pytest

from pglife_conformance.base.failures import Leftover, SuiteError
from pglife_conformance.cluster.cluster import Cluster, MakeCluster
from pglife_conformance.cluster.teardown import end_cluster
from pglife_conformance.cluster.template import Template
from pglife_conformance.pytest.outcome import has_shown_defect
from pglife_conformance.pytest.selftest import prove_that_deaths_are_seen
from pglife_conformance.pytest.state import SuiteState, suite_state
from pglife_conformance.system.privilege import adopt_orphans, counted_user
from pglife_conformance.targets.base import Target


@pytest.fixture(scope="session")
def pglife_state(request: pytest.FixtureRequest) -> SuiteState:
    """Target, run and options of this session."""
    return suite_state(request.config)


@pytest.fixture(scope="session")
def target(pglife_state: SuiteState) -> Target:
    """The server under test."""
    return pglife_state.target


@pytest.fixture(scope="session")
def template(request: pytest.FixtureRequest, pglife_state: SuiteState) -> Template:
    """The cluster that others are copied from, proved to be one in which deaths are seen."""
    adopt_orphans()
    made = _prove(pglife_state)
    if isinstance(made, Template):
        return made
    # Outside of the handler, so that the line comes without the exception's context.
    return pglife_state.fail_selftest(made, is_worker=hasattr(request.config, "workerinput"))


def _prove(state: SuiteState) -> Template | Exception:
    try:
        made = Template.make(state.target, state.run)
        prove_that_deaths_are_seen(state, made)
    except (SuiteError, AssertionError, OSError) as problem:
        return problem
    return made


@pytest.fixture
def make_cluster(
    request: pytest.FixtureRequest, pglife_state: SuiteState, template: Template
) -> Iterator[MakeCluster]:
    """A function that makes clusters, not started, with these settings."""
    made: list[Cluster] = []

    def make(*, counted: bool = False, **settings: object) -> Cluster:
        target = pglife_state.target
        if counted:
            target = target.run_as(counted_user(target.user))
        cluster = Cluster(target, template, pglife_state.run, scale=pglife_state.scale)
        if settings:
            cluster.configure(**settings)
        for recorder in pglife_state.recorders_for(request.node):
            cluster.record(recorder)
        made.append(cluster)
        pglife_state.clusters_of(request.node).append(cluster)
        return cluster

    yield make
    problems: list[AssertionError] = []
    for cluster in reversed(made):
        try:
            end_cluster(cluster, keep=pglife_state.keep_clusters)
        except Leftover as problem:
            problems.append(problem)
        except AssertionError as problem:
            # After a known defect has shown, the log may complain of states that cannot be.
            if not has_shown_defect(request.node):
                problems.append(problem)
    if problems:
        raise problems[0]


@pytest.fixture
def stopped_cluster(request: pytest.FixtureRequest, make_cluster: MakeCluster) -> Cluster:
    """A cluster with the settings of the scenario's marker, never started."""
    return make_cluster(**_marked_settings(request))


@pytest.fixture
def counted_cluster(request: pytest.FixtureRequest, make_cluster: MakeCluster) -> Cluster:
    """The same, run by a user whose processes are all of this server (Need.COUNTED_PROCESSES)."""
    return make_cluster(counted=True, **_marked_settings(request))


def _marked_settings(request: pytest.FixtureRequest) -> dict[str, object]:
    settings: dict[str, object] = {}
    for marker in reversed(list(request.node.iter_markers("settings"))):
        settings |= marker.kwargs
    return settings


@pytest.fixture
def cluster(stopped_cluster: Cluster) -> Cluster:
    """A running cluster with the settings of the scenario's marker."""
    stopped_cluster.start()
    return stopped_cluster
