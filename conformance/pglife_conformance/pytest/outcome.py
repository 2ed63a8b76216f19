"""What a scenario's end means: passed, failed, or failed as a known defect of this release does.

Begin with conclude_pass() and conclude_failure(), which the plugin calls.
"""

import pytest

from pglife_conformance.base.failures import Inconclusive
from pglife_conformance.pytest.claims import Defect, claim_of
from pglife_conformance.pytest.state import suite_state

_SHOWN: pytest.StashKey[Defect] = pytest.StashKey()


def has_shown_defect(item: pytest.Item) -> bool:
    """Whether the scenario was an XFAIL."""
    return _SHOWN in item.stash


def conclude_pass(item: pytest.Item) -> None:
    """What the scenario's clusters have done must be possible in the model too.

    A scenario of a finding that shows no symptom is judged by the model with the finding's repair.
    """
    monitoring = suite_state(item.config).monitoring
    if monitoring is not None:
        monitoring.judge(item, None)


def conclude_failure(item: pytest.Item, problem: BaseException) -> None:
    """Nothing if this failure counts; a failure that a known defect explains becomes an XFAIL.

    It must be the symptom of a defect that the target's release has, and the model with that defect
    must explain all that came before.

    Raises:
        xfail.Exception: if it is.
        Impossible: if it looks like the symptom and the model does not explain it.
    """
    __tracebackhide__ = True
    claim = claim_of(item)
    if claim is None or isinstance(problem, Inconclusive) or item.config.option.runxfail:
        return
    state = suite_state(item.config)
    for defect in claim.defects_of(state.target):
        if defect.differences(problem):
            continue
        if state.monitoring is not None:
            state.monitoring.judge(item, defect)
        item.stash[_SHOWN] = defect
        raise pytest.xfail.Exception(f"{defect.finding}: {defect.symptom.summary}") from problem


def unlike_known_defects(item: pytest.Item, problem: BaseException) -> list[str]:
    """Why a failure is not a known defect of this target, one line each."""
    claim = claim_of(item)
    if claim is None:
        return []
    return [
        f"{defect.finding}, which this release has: {'; '.join(differences)}"
        for defect in claim.defects_of(suite_state(item.config).target)
        if (differences := defect.differences(problem))
    ]
