"""The marker that ties a scenario to its rules, its source, its releases and its known defects.

Begin with claim(); a scenario carries exactly one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from pglife_conformance.base.failures import Expectation
from pglife_conformance.base.findings import Finding
from pglife_conformance.base.needs import Need
from pglife_conformance.expect.symptom import Answer, Symptom

if TYPE_CHECKING:
    from pglife_conformance.targets.base import Target
    from pglife_spec import Action

Scenario = TypeVar("Scenario", bound=Callable[..., Any])


@dataclass(frozen=True)
class Defect:
    """A finding that makes some releases break the claim, and what they show then.

    A scenario that fails with exactly this symptom is an XFAIL. A target that declares the finding
    repaired is held to the claim like any other.
    """

    finding: Finding
    symptom: Symptom | Answer
    since: int = 0
    until: int = 9999

    def may_show_on(self, target: Target) -> bool:
        """Whether this target is of a release with the defect, and does not declare it repaired."""
        in_range = self.since <= target.version.major <= self.until
        return in_range and not target.has_repaired(self.finding)

    def differences(self, problem: BaseException) -> list[str]:
        """Why this failure of a scenario is not the defect's; empty if it is."""
        return self.symptom.differences(problem.scene if isinstance(problem, Expectation) else None)


@dataclass(frozen=True)
class Claim:
    """What a scenario is about."""

    rules: tuple[str, ...]
    source: str
    needs: frozenset[Need] = frozenset()
    since: int = 0
    until: int = 9999
    why: str = ""
    defects: tuple[Defect, ...] = ()
    spec: Sequence[Action] = ()
    """The cases of the declared action that the scenario is about."""

    def version_reason(self, major: int) -> str | None:
        """Why the claim is not about this release, or None if it is."""
        if self.since <= major <= self.until:
            return None
        span = f"since {self.since}" if major < self.since else f"until {self.until}"
        return f"{'/'.join(self.rules)} holds {span}" + (f": {self.why}" if self.why else "")

    def defects_of(self, target: Target) -> tuple[Defect, ...]:
        """The known defects that this target may show."""
        return tuple(defect for defect in self.defects if defect.may_show_on(target))

    def missing_needs(self, has: Iterable[Need]) -> list[Need]:
        """The needs that a target does not meet, in the order of the registry."""
        present = set(has)
        return [need for need in Need if need in self.needs and need not in present]


def claim(
    *rules: str,
    source: str,
    needs: Iterable[Need | str] = (),
    since: int = 0,
    until: int = 9999,
    why: str = "",
    defects: Iterable[Defect] = (),
    spec: Sequence[Action] = (),
) -> Callable[[Scenario], Scenario]:
    """Mark a scenario with the rules that it is about.

    Args:
        rules: their ids; several may stand in one string, "SH-04 SE-32".
        source: the C file and function to look at.
        needs: what the target must be able to do.
        since: the first major version on which the claim holds.
        until: the last one.
        why: what is different outside of these versions.
        defects: the findings that make some releases break the claim.
        spec: the declared action that the claim is about.

    Raises:
        TypeError: without a rule, or if the scenario has no docstring.
    """
    ids = tuple(" ".join(rules).split())
    if not ids:
        raise TypeError("a claim names at least one rule")
    made = Claim(
        rules=ids,
        source=source,
        needs=frozenset(Need(need) for need in needs),
        since=since,
        until=until,
        why=why,
        defects=tuple(defects),
        spec=spec,
    )

    def mark(scenario: Scenario) -> Scenario:
        if not (scenario.__doc__ or "").strip():
            raise TypeError(f"scenario {scenario.__name__} states its claim in a docstring")
        marked: Scenario = pytest.mark.claim(made)(scenario)
        return marked

    return mark


def settings(**values: object) -> pytest.MarkDecorator:
    """Configuration of the scenario's cluster: `@settings(max_connections=5)`."""
    return pytest.mark.settings(**values)


def claim_of(item: pytest.Item) -> Claim | None:
    """The claim on a collected item, if it is one of our scenarios."""
    marker = item.get_closest_marker("claim")
    if marker is None or not marker.args or not isinstance(marker.args[0], Claim):
        return None
    found: Claim = marker.args[0]
    return found
