"""Each planted fault of the bundled server is tripped over, and only because of the fault."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from faults import FAULTS, Fault
from planting import PRODUCT, TESTS_FAILED, copied, node_id, planted, replaced, run

HASTY, PATIENT, STOIC = 0.3, 1.0, 3.0
"""A fault is often that something never comes: do not wait for it as long as for a sound server."""

SCENARIOS = sorted({fault.scenario for fault in FAULTS})
SHARES = 4


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_fault_is_noticed(fault: Fault) -> None:
    """The scenario fails by its expectation or by the monitor, with the words of this fault."""
    with planted(fault) as place:
        # On a busy machine haste stumbles over something else, or leaves the question open.
        for scale in (HASTY, PATIENT, STOIC):
            done = run(place, [node_id(fault.scenario)], scale=scale)
            if done.code == TESTS_FAILED and fault.told in done.told:
                break
    assert done.code == TESTS_FAILED, done.told
    failed = done.verdicts["FAIL"] + done.verdicts["HANG"]
    assert failed == 1, done.told
    assert re.search(r"^E  ", done.told, re.MULTILINE), done.told
    assert fault.told in done.told, done.told


@pytest.mark.parametrize("share", range(SHARES))
def test_scenarios_pass_without_fault(share: int) -> None:
    """The same scenarios pass on the same copy as long as nothing is planted."""
    names = SCENARIOS[share::SHARES]
    with copied() as place:
        done = run(place, [node_id(name) for name in names], scale=STOIC)
    assert done.code == 0, done.told
    # On a busy machine the clock of a crash (SL-05) may run out before a scenario's moment.
    assert done.verdicts["PASS"] + done.verdicts["INCONCLUSIVE"] == len(names), done.told


def test_text_that_is_not_there_is_no_fault() -> None:
    """A fault whose text has gone, or is there twice, is an error and not a fault."""
    fault = FAULTS[0]
    text = (PRODUCT / fault.module).read_text(encoding="utf-8")
    with pytest.raises(LookupError, match="stands 0 times"):
        replaced(text, replace(fault, old="no such text"))
    with pytest.raises(LookupError, match=r"stands \d+ times"):
        replaced(text, replace(fault, old="import"))
    assert replaced(text, fault) != text


def test_names_are_unique() -> None:
    """A fault is known by its name."""
    names = [fault.name for fault in FAULTS]
    assert len(names) == len(set(names)) >= 20
