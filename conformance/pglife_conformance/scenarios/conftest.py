"""Fixtures for the scenarios; every cluster is watched by a monitor."""

import pytest

from pglife_conformance.pytest.fixtures import (
    cluster,
    counted_cluster,
    make_cluster,
    pglife_state,
    stopped_cluster,
    target,
    template,
)
from pglife_conformance.pytest.monitored import enlist

__all__ = [
    "cluster",
    "counted_cluster",
    "make_cluster",
    "pglife_state",
    "stopped_cluster",
    "target",
    "template",
]


@pytest.fixture(scope="session", autouse=True)
def monitored(request: pytest.FixtureRequest) -> None:
    """Every cluster is watched by the monitor."""
    enlist(request.config)
