"""The older names of what expect/excerpt.py holds; scenarios are moving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import SupportsIndex

from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.expect.excerpt import HAS_STEPS as HAS_STEPS
from pglife_conformance.expect.excerpt import Excerpt, Line, same_lines
from pglife_conformance.expect.excerpt import OneOf as OneOf
from pglife_conformance.expect.excerpt import in_version as in_version
from pglife_conformance.expect.excerpt import maybe as maybe
from pglife_conformance.expect.excerpt import step as step

same_story = same_lines
__all__ = [
    "HAS_STEPS",
    "Line",
    "OneOf",
    "expect_story",
    "in_version",
    "maybe",
    "same_story",
    "step",
    "story_of",
]


def story_of(
    cluster: Cluster, since: SupportsIndex, names: Mapping[int, str] | None = None
) -> list[str]:
    """`then.exact_lines()`."""
    return Excerpt(cluster, since.__index__()).exact_lines(names)


def expect_story(
    cluster: Cluster,
    since: SupportsIndex,
    expected: Sequence[Line],
    names: Mapping[int, str] | None = None,
) -> None:
    """`then.expect_exactly()`."""
    Excerpt(cluster, since.__index__()).expect_exactly(expected, names)
