"""The marker that ties a scenario to the rules: which claim, which source, for whom.

Begin with   claim(); a scenario carries exactly one.
Owns         the data on the marker, and what excludes a scenario from a target.
Leaves out   how pytest is told (plugin.py) and how a verdict is counted (verdicts.py).
Source       STYLE section 5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from pglife_conformance.base.needs import Need

if TYPE_CHECKING:
    from pglife_conformance.targets.base import Target
    from pglife_spec import Action

Scenario = TypeVar("Scenario", bound=Callable[..., Any])


@dataclass(frozen=True)
class Defect:
    """A live defect of real releases: the claim fails there, and we say so beforehand.

    `repair` is the name of the model's switch; a target that declares the repair is held to the
    claim like any other.
    """

    reference: str
    repair: str
    since: int = 0
    until: int = 9999

    def holds_on(self, target: Target) -> bool:
        """Whether this target is expected to break the claim."""
        in_range = self.since <= target.version.major <= self.until
        return in_range and not target.has_repair(self.repair)


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
        """Why the claim is not about this version, or None if it is."""
        if self.since <= major <= self.until:
            return None
        if major < self.since:
            span = f"since {self.since}"
        else:
            span = f"until {self.until}"
        return f"{'/'.join(self.rules)} holds {span}" + (f": {self.why}" if self.why else "")

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
    """Mark a scenario with the rules it is about.

    `since` and `until` are major versions, both included: outside of them the claim does not
    hold by PostgreSQL's own history, and `why` says what is different there.
    """
    if not rules:
        raise TypeError("a claim names at least one rule")
    made = Claim(
        rules=rules,
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
