"""Which scenarios and declarations cite each rule, or why none does.

Begin with `coverage`. The reasons are data, in uncovered.toml beside the rules.
"""

import enum
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from pglife_spec.rules import Rule, RulesError, cited, rules
from pglife_spec.rules.citations import Citation, Citations, Citing


class Why(enum.Enum):
    """Kinds of reasons for which a rule has no scenario; uncovered.toml explains each."""

    DEFINITION = "definition"
    ELSEWHERE = "elsewhere"
    INTERNAL = "internal"
    RELEASE = "release"
    LIBRARY = "library"
    HISTORY = "history"
    WANTED = "wanted"


@dataclass(frozen=True)
class Reason:
    """Why no scenario and no declaration cites a rule."""

    kind: Why
    text: str


@dataclass(frozen=True)
class Covered:
    """A rule with what cites it, or with the reason why nothing does."""

    rule: Rule
    scenarios: tuple[Citation, ...]
    declarations: tuple[Citation, ...]
    reason: Reason | None


def coverage(citations: Citations) -> list[Covered]:
    """Every rule, in order."""
    reasons = uncovered()
    return [
        Covered(
            rule,
            tuple(c for c in citations.get(id_, ()) if c.citing is Citing.SCENARIO),
            tuple(c for c in citations.get(id_, ()) if c.citing is not Citing.SCENARIO),
            reasons.get(id_),
        )
        for id_, rule in rules().items()
    ]


@cache
def uncovered() -> Mapping[str, Reason]:
    """The reasons by rule id."""
    return read_reasons((files(__package__) / "uncovered.toml").read_text("utf-8"))


def read_reasons(text: str) -> Mapping[str, Reason]:
    """Reasons from their TOML: tables `[[reason]]` with `kind`, `rules` and `why`.

    Raises:
        RulesError: a rule does not exist or has two reasons.
    """
    found: dict[str, Reason] = {}
    for table in tomllib.loads(text)["reason"]:
        reason = Reason(Why(table["kind"]), " ".join(table["why"].split()))
        for id_ in _each(table["rules"]):
            if id_ in found:
                raise RulesError(f"uncovered.toml: {id_} has two reasons")
            found[id_] = reason
    return found


def _each(text: str) -> Iterable[str]:
    for id_ in cited(text):
        if id_ not in rules():
            raise RulesError(f"uncovered.toml: there is no rule {id_}")
        yield id_
