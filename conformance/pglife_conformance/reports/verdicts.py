"""Verdicts: how each scenario ended, the text under a failure, and the summary of a run."""

import inspect
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from enum import StrEnum

import pytest

from pglife_conformance.base.failures import Expectation, Hang, Inconclusive
from pglife_conformance.base.needs import NEEDS, Need
from pglife_spec import rules

LACKS = "target lacks "
"""How the reason of a skip begins that a need has caused; the needs follow."""

_WIDTH = 100
_LONGEST_REASON = 600
_MOST_RULES = 6


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


def leave_open(report: pytest.TestReport, reason: str) -> None:
    """Report a scenario that never reached its moment as skipped, with its reason.

    It says nothing about the server: neither that it is wrong nor that it has a known defect.
    """
    report.outcome = "skipped"
    path, line, _ = report.location
    report.longrepr = (path, (line or 0) + 1, f"Skipped: INCONCLUSIVE: {reason}")


def failure_text(
    name: str,
    cited: tuple[str, ...],
    problem: BaseException | None,
    look_at: str,
    replay: str,
    notes: Iterable[str] = (),
    evidence: Iterable[str] = (),
) -> str:
    """What was expected and seen, the rules, where to look, how to see it again.

    Args:
        name: the scenario's.
        cited: the rules that it cites; each is printed with its sentence.
        problem: how it failed.
        look_at: the place in the model and in the C sources.
        replay: a command.
        notes: why it is not the failure of a known defect.
        evidence: processes and log, where the failure itself does not print them.
    """
    lines = [f"{name}  [{', '.join(cited)}]"]
    if isinstance(problem, Expectation):
        lines += [f"  expected  {problem.expected}", f"  observed  {problem.observed}"]
    elif problem is not None:
        lines.append(f"  observed  {(str(problem) or repr(problem)).splitlines()[0]}")
    lines += [f"  not       {note}" for note in notes]
    for id_ in cited[:_MOST_RULES]:
        lines += _wrapped("rule", f"{id_}: {_sentence(id_)}")
    if len(cited) > _MOST_RULES:
        lines.append(f"            and {', '.join(cited[_MOST_RULES:])}: see `pglife rule ID`")
    lines += [f"  look at   {look_at}", f"  replay    {replay}"]
    if not isinstance(problem, Expectation):
        lines += evidence
    return "\n".join(lines)


def _sentence(id_: str) -> str:
    try:
        return rules.rule(id_).statement
    except rules.UnknownRuleError:
        return "not a rule of this project"


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        " ".join(text.split()),
        _WIDTH,
        initial_indent=f"  {label:<10}",
        subsequent_indent=" " * 12,
        break_on_hyphens=False,
    )


def claim_sentence(item: pytest.Item) -> str:
    """The claim as the scenario states it."""
    function = getattr(item, "function", None)
    return (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")


def worst_verdicts(reports: Iterable[pytest.TestReport]) -> dict[str, Verdict]:
    """The verdict on each scenario, by node id: the worst of its phases."""
    worst: dict[str, Verdict] = {}
    for report in reports:
        word = getattr(report, "pglife_verdict", None)
        if word is None:
            continue
        verdict, name = Verdict(word), report.nodeid
        if name not in worst or _RANK[verdict] > _RANK[worst[name]]:
            worst[name] = verdict
    return worst


def verdict_line(reports: Iterable[pytest.TestReport]) -> str:
    """How many scenarios had each verdict, on one line."""
    counts = Counter(worst_verdicts(reports).values())
    return " ".join(f"{verdict} {counts[verdict]}" for verdict in Verdict)


def summary_lines(
    reports: Iterable[pytest.TestReport], left_out: Mapping[str, str], *, names: bool
) -> list[str]:
    """What was not judged and why, counted by reason.

    Args:
        reports: all reports of the run.
        left_out: why a scenario is not about the target's release, by node id.
        names: whether to name the scenarios that were skipped or left out.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    open_: list[str] = []
    for report in reports:
        word = getattr(report, "pglife_verdict", None)
        name = _short(report.nodeid)
        if word == Verdict.XFAIL:
            groups[f"XFAIL %d {report.wasxfail.removeprefix('reason: ')}"].append(name)
        elif word == Verdict.SKIP:
            groups[f"SKIP %d {_group_of(_skip_reason(report))}"].append(name)
        elif word == Verdict.INCONCLUSIVE:
            open_.append(f"{_skip_reason(report)[:_LONGEST_REASON]}: {name}")
    for nodeid, reason in left_out.items():
        groups["NOT OF THIS RELEASE %d"].append(f"{_short(nodeid)}: {reason}")
    lines = []
    for reason, members in sorted(groups.items()):
        lines.append(reason.replace("%d", str(len(members)), 1))
        if names or reason.startswith("XFAIL"):
            lines += [f"  {member}" for member in sorted(members)]
    return lines + sorted(open_)


def _group_of(reason: str) -> str:
    """One reason for all scenarios that lack the same first need."""
    if not reason.startswith(LACKS):
        return reason[:_LONGEST_REASON]
    need = Need(reason.removeprefix(LACKS).partition(",")[0])
    return f"{need}: {NEEDS[need].reason}"


def _short(nodeid: str) -> str:
    return nodeid.rpartition("::")[2]


def _skip_reason(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    return str(report.longrepr)
