"""Verdicts: how each scenario ended, in the report of the run.

Begin with   verdict_of(), then summary_lines().
Owns         PASS, FAIL, HANG, INCONCLUSIVE, SKIP, XFAIL, and the text under a failure.
Leaves out   hooks (plugin.py).
Source       DESIGN section 4 (Evidence); STYLE section 7.
"""

from __future__ import annotations

import inspect
from collections import Counter, defaultdict
from collections.abc import Iterable
from enum import StrEnum

import pytest

from pglife_conformance.base.failures import Expectation, Hang, Inconclusive
from pglife_conformance.pytest.claims import Claim


class Verdict(StrEnum):
    """What a run says of one scenario; later ones win over earlier ones."""

    PASS = "PASS"
    XFAIL = "XFAIL"
    SKIP = "SKIP"
    INCONCLUSIVE = "INCONCLUSIVE"
    HANG = "HANG"
    FAIL = "FAIL"


_RANK = {verdict: rank for rank, verdict in enumerate(Verdict)}


def verdict_of(report: pytest.TestReport, problem: BaseException | None) -> Verdict:
    """The verdict of one phase of a scenario."""
    if isinstance(problem, Inconclusive):
        return Verdict.INCONCLUSIVE
    if report.skipped:
        return Verdict.XFAIL if hasattr(report, "wasxfail") else Verdict.SKIP
    if report.passed:
        return Verdict.PASS
    return Verdict.HANG if isinstance(problem, Hang) else Verdict.FAIL


def leave_open(report: pytest.TestReport, problem: BaseException | None) -> None:
    """A scenario that never reached its moment says nothing about the server: neither that it is
    wrong, nor, where a defect is known, that it still has it. It is reported with its reason."""
    report.outcome = "skipped"
    report.__dict__.pop("wasxfail", None)
    path, line, _ = report.location
    reason = " ".join(str(problem).split("\nprocesses\n")[0].split())
    report.longrepr = (path, (line or 0) + 1, f"Skipped: INCONCLUSIVE: {reason}")


def failure_text(
    name: str, claim: Claim, problem: BaseException | None, replay: str, evidence: Iterable[str]
) -> str:
    """What was expected, what was seen, where to look, how to see it again."""
    lines = [f"{name}  [{', '.join(claim.rules)}]"]
    if isinstance(problem, Expectation):
        lines.append(f"  expected  {problem.expected}")
        lines.append(f"  observed  {problem.observed}")
    places = [f"spec action {claim.spec[0].family}"] if claim.spec else []
    lines.append(f"  look at   {'; '.join([*places, claim.source])}")
    lines.append(f"  replay    {replay}")
    if not isinstance(problem, Expectation):
        lines += evidence
    return "\n".join(lines)


def claim_sentence(item: pytest.Item) -> str:
    """The claim as the scenario states it."""
    function = getattr(item, "function", None)
    return (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")


def summary_lines(reports: Iterable[pytest.TestReport], left_out: dict[str, str]) -> list[str]:
    """Counts of verdicts, then what was left out and why: never silently."""
    worst: dict[str, Verdict] = {}
    reasons: dict[str, list[str]] = defaultdict(list)
    for report in reports:
        word = getattr(report, "pglife_verdict", None)
        if word is None:
            continue
        verdict = Verdict(word)
        name = report.nodeid
        if name not in worst or _RANK[verdict] > _RANK[worst[name]]:
            worst[name] = verdict
        if verdict is Verdict.XFAIL:
            reasons[f"XFAIL {report.wasxfail.removeprefix('reason: ')}"].append(name)
        elif verdict is Verdict.SKIP:
            reasons[f"SKIP {_skip_reason(report)}"].append(name)
        elif verdict is Verdict.INCONCLUSIVE:
            reasons[_skip_reason(report)].append(name)
    for name, reason in left_out.items():
        reasons[f"NOT OF THIS VERSION {reason}"].append(name)
    if not worst and not left_out:
        return []
    counts = Counter(worst.values())
    lines = [" ".join(f"{verdict} {counts[verdict]}" for verdict in Verdict)]
    for reason, names in sorted(reasons.items()):
        lines.append(f"{reason}: {', '.join(sorted(_short(name) for name in names))}")
    return lines


def _short(nodeid: str) -> str:
    return nodeid.rpartition("::")[2]


def _skip_reason(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    return str(report.longrepr)
