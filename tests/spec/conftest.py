"""Puts the helpers of these tests (toy machines) on the path, and runs the command line."""

import sys
from pathlib import Path

import pytest

from pglife_spec.cli import main

sys.path.insert(0, str(Path(__file__).parent))
from running import Run


@pytest.fixture
def pglife(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process: exit status, output, complaints."""

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pglife", *args])
        with pytest.raises(SystemExit) as ended:
            main.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run
