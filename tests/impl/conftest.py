"""Puts the helpers of these tests on the path, and makes short-lived servers."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))

from pm_server import Cluster, make_template

# How long an example takes is the machine's business, and says nothing of what it is about.
settings.register_profile(
    "patient",
    parent=settings.default,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory to copy from, made once."""
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def cluster(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A data directory of its own; whatever runs on it at the end is killed."""
    made = Cluster(template, tmp_path_factory.mktemp("c"))
    yield made
    made.destroy()
