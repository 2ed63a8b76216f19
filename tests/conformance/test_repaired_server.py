"""A server that has none of the findings: the bundled one behind a bin directory of shell wrappers.

No scenario of a finding may fail on it, and none may be an expected failure.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pglife_conformance.targets.base import Program

from .conftest import LIMIT_S, ROOT

FINDINGS = ROOT / "conformance" / "pglife_conformance" / "scenarios" / "findings"

WRAPPER = """#!/bin/sh
{silent}PYTHONPATH={impl} exec {python} -m pglife_impl.commands.{program} "$@"
"""
SILENT = 'case "$1" in --repairs | --capabilities) exit 1;; esac\n'
MODULES = sorted(path.name for path in FINDINGS.glob("test_*.py"))
NO_REPAIR = {"test_reload.py"}
"""What runs of it on the bundled server is W14 alone, which no repair removes."""
OF_SILENCE = {"test_second_crash.py", "test_shutdown_after_a_crash.py", "test_sigkill.py"}
"""Enough to see that a server need not declare its repairs."""
CASES = [
    *(pytest.param(name, "", id=name) for name in MODULES if name not in NO_REPAIR),
    *(pytest.param(name, SILENT, id=f"{name}, silent") for name in sorted(OF_SILENCE)),
]


@pytest.fixture
def directory() -> Iterator[Path]:
    """A place for the wrappers that the servers' user can reach."""
    with tempfile.TemporaryDirectory(prefix="pglw") as place:
        Path(place).chmod(0o755)
        yield Path(place)


def write_wrappers(directory: Path, silent: str) -> None:
    for program in Program:
        path = directory / program
        text = WRAPPER.format(
            silent=silent, impl=ROOT / "impl", python=sys.executable, program=program
        )
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)


@pytest.mark.parametrize(("module", "silent"), CASES)
def test_a_server_without_the_findings_passes(directory: Path, silent: str, module: str) -> None:
    write_wrappers(directory, silent)
    # A silent server is taken to do all that its release does, and this one has no replication.
    chosen = ["-k", "not standby and not walsender"] if silent else []
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"),
            *(*chosen, str(FINDINGS / module), "--target", str(directory)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    verdicts = done.stdout.splitlines()[-1]
    assert " XFAIL 0 " in verdicts, done.stdout
    assert verdicts.endswith("HANG 0 FAIL 0"), done.stdout
