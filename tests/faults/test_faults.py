"""Each planted fault of the bundled server fails its scenario, by its own symptom."""

import re
from dataclasses import replace

import pytest
from faults import FAULTS, Fault
from planting import PRODUCT, TESTS_FAILED, copied, node_id, planted, replaced, run

SCALES = 0.3, 1.0, 3.0
"""Deadline scales, tried in order: many faults show as a timeout, which a short deadline finds
soon. On a busy machine a short deadline may expire elsewhere first."""

SCENARIOS = sorted({fault.scenario for fault in FAULTS})
SHARES = 4


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_fault_is_noticed(fault: Fault) -> None:
    """The scenario fails by its expectation or by the monitor, with the symptom of this fault."""
    with planted(fault) as place:
        for scale in SCALES:
            done = run(place, [node_id(fault.scenario)], scale=scale)
            if done.code == TESTS_FAILED and fault.symptom in done.output:
                break
    assert done.code == TESTS_FAILED, done.output
    failed = done.verdicts["FAIL"] + done.verdicts["HANG"]
    assert failed == 1, done.output
    assert re.search(r"^E  ", done.output, re.MULTILINE), done.output
    assert fault.symptom in done.output, done.output


@pytest.mark.parametrize("share", range(SHARES))
def test_scenarios_pass_without_fault(share: int) -> None:
    """The same scenarios pass on the same copy as long as nothing is planted."""
    names = SCENARIOS[share::SHARES]
    with copied() as place:
        done = run(place, [node_id(name) for name in names], scale=max(SCALES))
    assert done.code == 0, done.output
    # On a busy machine the SIGKILL timeout (SL-05) may fire before the scenario acts.
    assert done.verdicts["PASS"] + done.verdicts["INCONCLUSIVE"] == len(names), done.output


def test_text_that_does_not_occur_once_is_refused() -> None:
    """A fault whose text is missing, or occurs twice, is an error."""
    fault = FAULTS[0]
    text = (PRODUCT / fault.module).read_text(encoding="utf-8")
    with pytest.raises(LookupError, match="occurs 0 times"):
        replaced(text, replace(fault, old="no such text"))
    with pytest.raises(LookupError, match=r"occurs \d+ times"):
        replaced(text, replace(fault, old="import"))
    assert replaced(text, fault) != text


def test_names_are_unique() -> None:
    """No two faults have the same name."""
    names = [fault.name for fault in FAULTS]
    assert len(names) == len(set(names)) >= 20
