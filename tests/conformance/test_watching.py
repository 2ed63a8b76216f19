"""Waiting: what counts as found, and what a wait in vain says."""

from __future__ import annotations

from pathlib import Path

import pytest

from pglife_conformance.failures import Expectation
from pglife_conformance.observation.log import LogTail
from pglife_conformance.watching import Watcher


@pytest.fixture
def watcher(tmp_path: Path) -> Watcher:
    """One that has nothing to look at."""
    return Watcher(tmp_path, LogTail(), 1.0)


@pytest.mark.parametrize("nothing", [None, False, [], (), set(), {}], ids=repr)
def test_nothing_is_not_found(watcher: Watcher, nothing: object) -> None:
    with pytest.raises(Expectation, match=r"something, within 0.05 s"):
        watcher.wait_for("something", lambda: nothing, 0.05)


@pytest.mark.parametrize("something", [True, 0, "x", [0], {1}], ids=repr)
def test_something_is(watcher: Watcher, something: object) -> None:
    assert watcher.wait_for("something", lambda: something, 0.05) == something
