"""Fixtures for the scenarios, and the monitor's verdict after each."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from pglife_conformance.pytest import monitored as attach
from pglife_conformance.pytest.fixtures import (
    cluster,
    counted_cluster,
    make_cluster,
    pglife_state,
    stopped_cluster,
    target,
    template,
)

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
    attach.enlist(request.config)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A scenario that has passed by its own lights must be explained by the model too."""
    result = yield
    attach.judge(item)
    return result
