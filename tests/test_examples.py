"""The files of examples/: each runs, and says what its text promises."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
SCRIPTS = {
    "explore_a_toy.py": [
        "violated after: request_shutdown, parent_stops",
        "with the guard: 4 states, violated: none",
    ],
    "why_does_shutdown_hang.py": [
        "process_shutdown_request(fastshutdown)",
        "idle for ever in PM_WAIT_BACKENDS; left: checkpointer (running)",
        "repaired: it ends",
    ],
}


def run(*args: str) -> str:
    path = os.pathsep.join(str(ROOT / house) for house in ("spec", "impl", "conformance"))
    ran = subprocess.run(
        [sys.executable, *args],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_prints_what_it_promises(name: str) -> None:
    said = run(str(EXAMPLES / name))
    for line in SCRIPTS[name]:
        assert line in said


def test_the_scenarios_of_ones_own_pass_on_the_bundled_server() -> None:
    said = run("-m", "pytest", str(EXAMPLES / "test_my_server.py"), "-q", "-p", "no:cacheprovider")
    assert "2 passed" in said


def test_every_example_is_run() -> None:
    files = {path.name for path in EXAMPLES.glob("*.py")}
    assert files == {*SCRIPTS, "test_my_server.py", "conftest.py"}
