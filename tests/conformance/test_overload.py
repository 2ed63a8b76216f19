"""is_overloaded(): the load average, and waits that took too long."""

import os

import pytest

from pglife_conformance.base import overload


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without load, on which no wait was late."""
    monkeypatch.setattr(os, "getloadavg", lambda: (0.5, 0.5, 0.5))
    monkeypatch.setattr(overload, "_stood_still_at", float("-inf"))


def test_quiet_machine_is_not_overloaded() -> None:
    overload.note_wait(0.016, 0.05)
    assert not overload.is_overloaded()


def test_late_wait_means_overloaded() -> None:
    overload.note_wait(0.016, 0.6)
    assert overload.is_overloaded()


def test_load_counts_by_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = len(os.sched_getaffinity(0))
    monkeypatch.setattr(os, "getloadavg", lambda: (3.1 * cores, 0.0, 0.0))
    assert overload.is_overloaded()
    monkeypatch.setattr(os, "getloadavg", lambda: (2.9 * cores, 9.0 * cores, 9.0 * cores))
    assert not overload.is_overloaded()
