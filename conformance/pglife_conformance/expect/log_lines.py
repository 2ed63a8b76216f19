"""What a postmaster tells of itself, line by line, and how a scenario compares it.

Begin with   story_of(), then same_story().
Owns         which records of the log belong to a story, and how pids become names.
Leaves out   what a story must be (scenarios, matrix/).
Source       PM-01, CR-02, SH-02, SH-11. A story is exact: nothing may be missing, nothing may
             be there twice, nothing may be added.

A line of a story is a message of the postmaster's own, of any level but DEBUG, with `(PID n)`
replaced by the name of the child; or, in 18, a step of pmState as `PM_RUN -> PM_STOP_BACKENDS`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.observation.log import LogRecord

_STEP = re.compile(r"updating PMState from (PM_\w+) to (PM_\w+)")
_PID = re.compile(r"\(PID (\d+)\)")

HAS_STEPS = 18
"""The first release that logs the steps of pmState."""


@dataclass(frozen=True)
class OneOf:
    """A place in a story where it may go on in several ways."""

    ways: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        return " or ".join("[" + ", ".join(way) + "]" for way in self.ways)


Line = str | OneOf


def step(before: str, after: str) -> str:
    """A step of pmState as a story has it."""
    return f"{before} -> {after}"


def maybe(*lines: str) -> OneOf:
    """Lines that may be there, all of them, or not."""
    return OneOf((lines, ()))


def story_of(cluster: Cluster, since: int, names: Mapping[int, str] | None = None) -> list[str]:
    """The postmaster's lines since this mark."""
    ours = (record for record in cluster.log(since) if record.pid == cluster.pid)
    found = (_line(record, names or {}) for record in ours)
    return [line for line in found if line is not None]


def _line(record: LogRecord, names: Mapping[int, str]) -> str | None:
    if record.level.startswith("DEBUG"):
        found = _STEP.fullmatch(record.message)
        return step(found[1], found[2]) if found is not None else None
    return _PID.sub(lambda pid: f"({names.get(int(pid[1]), pid[0][1:-1])})", record.message)


def in_version(lines: Sequence[Line], major: int) -> list[Line]:
    """The story as this release tells it: without steps where none are logged."""
    if major >= HAS_STEPS:
        return list(lines)
    kept: list[Line] = []
    for line in lines:
        if isinstance(line, OneOf):
            ways = {tuple(part for part in way if " -> " not in part) for way in line.ways}
            if ways != {()}:
                kept.append(OneOf(tuple(sorted(ways))))
        elif " -> " not in line:
            kept.append(line)
    return kept


def same_story(told: Sequence[str], expected: Sequence[Line]) -> bool:
    """Whether the lines are exactly the expected ones."""
    if not expected:
        return not told
    head, rest = expected[0], expected[1:]
    ways = head.ways if isinstance(head, OneOf) else ((head,),)
    return any(
        tuple(told[: len(way)]) == way and same_story(told[len(way) :], rest) for way in ways
    )


def expect_story(
    cluster: Cluster,
    since: int,
    expected: Sequence[Line],
    names: Mapping[int, str] | None = None,
) -> None:
    """The postmaster has told exactly this since the mark; waited for."""
    wanted = in_version(expected, cluster.target.version.major)
    cluster.wait_for(
        f"the postmaster to tell exactly {[str(line) for line in wanted]}",
        lambda: same_story(story_of(cluster, since, names), wanted),
        describe=lambda: str(story_of(cluster, since, names)),
    )
