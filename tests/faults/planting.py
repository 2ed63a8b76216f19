"""Plant a fault into a copy of the bundled server, and run scenarios on the copy.

Begin with planted(), then run(). pytest's setting `pythonpath` names the copy instead of the
checkout, so the product needs no support for this.
"""

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
"""Enough on a busy machine; on an idle one a run takes less than a minute."""
SCENARIOS = ROOT / "conformance" / "pglife_conformance" / "scenarios"


@dataclass(frozen=True)
class Run:
    """The result of a pytest run."""

    code: int
    output: str

    @property
    def verdicts(self) -> dict[str, int]:
        """How many scenarios had each verdict, read from the suite's summary."""
        return {word: int(count) for word, count in _VERDICT.findall(self.output)}


_VERDICT = re.compile(r"\b(PASS|XFAIL|SKIP|INCONCLUSIVE|HANG|FAIL) (\d+)\b")


def replaced(text: str, fault: Fault) -> str:
    """The text with the fault in it.

    Raises:
        LookupError: the text to replace does not occur exactly once.
    """
    found = text.count(fault.old)
    if found != 1:
        raise LookupError(f"{fault}: {fault.old!r} occurs {found} times in {fault.module}")
    return text.replace(fault.old, fault.new)


def node_id(scenario: str) -> str:
    """The pytest node id of a scenario, which is found by its function's name."""
    definition = f"def {scenario.partition('[')[0]}("
    modules = [
        path.relative_to(ROOT)
        for path in sorted(SCENARIOS.rglob("test_*.py"))
        if definition in path.read_text(encoding="utf-8")
    ]
    if len(modules) != 1:
        raise LookupError(f"the scenario {scenario} is defined {len(modules)} times")
    return f"{modules[0]}::{scenario}"


@contextmanager
def copied() -> Iterator[Path]:
    """A directory with a copy of the bundled server, readable by the user that runs servers."""
    with tempfile.TemporaryDirectory(prefix="pglife-fault-") as directory:
        place = Path(directory)
        place.chmod(0o755)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PRODUCT, place / PRODUCT.name, ignore=ignored)
        yield place


@contextmanager
def planted(fault: Fault) -> Iterator[Path]:
    """A directory with a copy of the bundled server that has a fault."""
    with copied() as place:
        path = place / PRODUCT.name / fault.module
        path.write_text(replaced(path.read_text(encoding="utf-8"), fault), encoding="utf-8")
        yield place


def run(place: Path, scenarios: Sequence[str], *, scale: float) -> Run:
    """Run scenarios, by node id, on the server in a directory."""
    paths = f"pythonpath={place} spec conformance {HERE}"
    # Without unused plugins: loading them takes longer than the scenario.
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
    """This process's environment without pytest's own variables for its workers."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    # pytest loads the plugin of -p before it reads the setting `pythonpath`.
    return mine | {"PYTHONPATH": str(HERE)}
