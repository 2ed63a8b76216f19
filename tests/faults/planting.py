"""Planting a fault into a copy of the bundled server, and running scenarios on the copy.

Begin with   planted(), then run().
Owns         the copy and the pytest run in a process of its own. The product knows nothing of it:
             pytest's own setting `pythonpath` names the copy where else it names the checkout.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from faults import Fault

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ROOT / "impl" / "pglife_impl"
HERE = Path(__file__).parent
TESTS_FAILED = 1
LIMIT_S = 1200
"""For a machine with much else to do; alone it is less than a minute."""
SCENARIOS = ROOT / "conformance" / "pglife_conformance" / "scenarios"


@dataclass(frozen=True)
class Run:
    """A pytest run that has ended."""

    code: int
    told: str

    @property
    def verdicts(self) -> dict[str, int]:
        """How many scenarios had each verdict, by the suite's own summary."""
        return {word: int(count) for word, count in _VERDICT.findall(self.told)}


_VERDICT = re.compile(r"\b(PASS|XFAIL|SKIP|INCONCLUSIVE|HANG|FAIL) (\d+)\b")


def replaced(text: str, fault: Fault) -> str:
    """The text with the fault in it."""
    found = text.count(fault.old)
    if found != 1:
        raise LookupError(f"{fault}: {fault.old!r} stands {found} times in {fault.module}")
    return text.replace(fault.old, fault.new)


def node_id(scenario: str) -> str:
    """Where a scenario is, as pytest wants to hear it. Names are unique; modules may change."""
    if "::" in scenario:
        return f"{SCENARIOS.relative_to(ROOT)}/{scenario}"
    definition = f"def {scenario.partition('[')[0]}("
    modules = [
        path.relative_to(ROOT)
        for path in sorted(SCENARIOS.glob("test_*.py"))
        if definition in path.read_text(encoding="utf-8")
    ]
    if len(modules) != 1:
        raise LookupError(f"the scenario {scenario} is defined {len(modules)} times")
    return f"{modules[0]}::{scenario}"


@contextmanager
def copied() -> Iterator[Path]:
    """A directory with a copy of the bundled server, which the servers' user may read."""
    with tempfile.TemporaryDirectory(prefix="pglife-fault-") as directory:
        place = Path(directory)
        place.chmod(0o755)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PRODUCT, place / PRODUCT.name, ignore=ignored)
        yield place


@contextmanager
def planted(fault: Fault) -> Iterator[Path]:
    """The same with a fault in it."""
    with copied() as place:
        path = place / PRODUCT.name / fault.module
        path.write_text(replaced(path.read_text(encoding="utf-8"), fault), encoding="utf-8")
        yield place


def run(place: Path, scenarios: Sequence[str], *, scale: float) -> Run:
    """Run scenarios, by node id, on the server in this place."""
    paths = f"pythonpath={place} spec conformance {HERE}"
    # Without the plugins that nobody here needs: to load them takes longer than the scenario.
    without = ("cacheprovider", "xdist", "hypothesispytest")
    options = ["-p", "quick", "-q", *(f"-pno:{name}" for name in without)]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", *options, "-o", paths, "--rootdir", str(ROOT)),
            *("--target", "bundled", "--deadline-scale", str(scale), *scenarios),
        ],
        cwd=ROOT,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    return Run(done.returncode, done.stdout + done.stderr)


def _environment() -> dict[str, str]:
    """Ours, but for what pytest itself has put there for its workers."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    # The option -p is served before the setting `pythonpath`.
    return mine | {"PYTHONPATH": str(HERE)}
