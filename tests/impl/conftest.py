"""Fixtures for short-lived servers; puts the helpers of these tests on the path."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))

from pm_server import Cluster, make_template

# The time of an example depends on the machine, and is no failure.
settings.register_profile(
    "patient", parent=settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory to copy, made once a session."""
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def cluster(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A data directory without a server; processes left at the end are killed."""
    made = Cluster(template, tmp_path_factory.mktemp("c"))
    yield made
    made.destroy()
