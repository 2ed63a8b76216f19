"""Waiting: what counts as found, and the report of a wait that fails."""

from pathlib import Path

import pytest

from pglife_conformance.base.failures import Expectation
from pglife_conformance.observation.log import LogTail
from pglife_conformance.watching.watcher import Watcher


@pytest.fixture
def watcher(tmp_path: Path) -> Watcher:
    """A watcher without a server."""
    return Watcher(tmp_path, LogTail(), 1.0)


@pytest.mark.parametrize("nothing", [None, False, [], (), set(), {}], ids=repr)
def test_an_empty_value_does_not_end_a_wait(watcher: Watcher, nothing: object) -> None:
    with pytest.raises(Expectation, match=r"something, within 0.05 s"):
        watcher.wait_for("something", lambda: nothing, 0.05)


@pytest.mark.parametrize("something", [True, 0, "x", [0], {1}], ids=repr)
def test_any_other_value_ends_a_wait(watcher: Watcher, something: object) -> None:
    assert watcher.wait_for("something", lambda: something, 0.05) == something


def test_log_that_is_flooded_fails_one_look_and_costs_no_memory(tmp_path: Path) -> None:
    log = tmp_path / "log"
    line = "2026-11-22 17:00:00.123 UTC [42] LOG:  again\n"
    watcher = Watcher(tmp_path, LogTail(log, most=10 * len(line)), 1.0)
    log.write_text(9 * line, encoding="utf-8")
    watcher.look()
    log.write_text(1000 * line, encoding="utf-8")
    with pytest.raises(Expectation, match='last LOG line "again"'):
        watcher.wait_for("something else", lambda: None, 60)
    assert len(watcher.look().log) == 0
    assert len(watcher.records()) == 10
