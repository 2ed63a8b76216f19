"""What a server with a known defect shows, as data, and the failure that is compared with it.

Begin with Symptom; a scenario puts the expectation that the defect breaks into where_it_shows().
A defect that shows in a command's words or in files, and not in the postmaster's state, has an
Answer, which expect_answer() compares.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pglife_conformance.base.failures import Expectation
from pglife_conformance.expect.excerpt import Excerpt
from pglife_conformance.expect.since import Since
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.pid_file import PidFileStatus
from pglife_spec import PM

ELSEWHERE = "another expectation fails than the one that the defect breaks"


@dataclass(frozen=True)
class Scene:
    """The server at the moment at which an expectation failed.

    Args:
        state: the last pmState in the log; None where the release does not log it.
        left: the kinds of the children that live.
        status: line 8 of postmaster.pid.
        exit_code: the postmaster's exit status, if it has ended.
        said: the postmaster's own messages at LOG and above, since the scenario's mark.
        orphans: how many children an exited postmaster has left.
    """

    state: str | None
    left: frozenset[Kind]
    status: PidFileStatus | None
    exit_code: int | None
    said: tuple[str, ...]
    orphans: int

    @classmethod
    def of(cls, then: Since, orphans: Collection[int]) -> Scene:
        """The scene as it is now; `then` is the scenario's mark."""
        said = tuple(then.postmaster_lines(launcher_aside=True))
        steps = Excerpt(then.server, 0).pmstates()
        seen = then.watcher.last
        assert seen is not None
        return cls(
            state=steps[-1][1] if steps else None,
            left=frozenset(child.kind for child in seen.kids if child.is_alive),
            status=seen.pid_file,
            exit_code=seen.exit_code,
            said=said,
            orphans=len(orphans),
        )


@dataclass(frozen=True)
class Symptom:
    """What a release with the defect shows where the scenario's claim fails.

    Args:
        summary: the symptom as a clause, for the report.
        state: the postmaster's pmState; the log shows it since 18, the model knows it always.
        left: the kinds of all children that live; None while the postmaster starts children.
        status: line 8 of postmaster.pid.
        said: patterns of all messages of the postmaster since the scenario's mark.
        exit_code: the postmaster's exit status; None while it runs.
        orphans: how many children an exited postmaster has left.
    """

    summary: str
    state: PM
    left: Collection[Kind] | None
    said: tuple[str, ...]
    status: PidFileStatus | None = None
    exit_code: int | None = None
    orphans: int = 0

    def differences(self, scene: object) -> list[str]:
        """Where the scene is not this symptom, one clause each."""
        if not isinstance(scene, Scene):
            return [ELSEWHERE]
        found = []
        if scene.exit_code is None and scene.state not in (None, self.state.name):
            found.append(f"pmState {scene.state}, not {self.state.name}")
        if self.left is not None and scene.left != frozenset(self.left):
            found.append(f"children left: {_kinds(scene.left)}, not {_kinds(self.left)}")
        if scene.status is not self.status:
            found.append(f"pid file status {_word(scene.status)}, not {_word(self.status)}")
        if scene.exit_code != self.exit_code:
            found.append(f"exit status {scene.exit_code}, not {self.exit_code}")
        if scene.orphans != self.orphans:
            found.append(f"{scene.orphans} orphans, not {self.orphans}")
        if re.fullmatch("\n".join(self.said), "\n".join(scene.said)) is None:
            found.append(f"log lines {list(scene.said)}, not {list(self.said)}")
        return found


@dataclass(frozen=True)
class Answer:
    """What a release with the defect prints, logs or leaves where the scenario's claim fails.

    Args:
        summary: the symptom as a clause, for the report.
        pattern: what is found in place of what is right (re.fullmatch; a dot matches a newline).
    """

    summary: str
    pattern: str

    def differences(self, scene: object) -> list[str]:
        """Where the scene is not this symptom, one clause each."""
        if not isinstance(scene, str):
            return [ELSEWHERE]
        is_ours = re.fullmatch(self.pattern, scene, re.DOTALL) is not None
        return [] if is_ours else [f"found {scene!r}, not {self.pattern!r}"]


def expect_answer(found: str, right: str) -> None:
    """What was found matches what is right (re.fullmatch; a dot matches a newline).

    This is the one expectation of a scenario that a defect with an Answer breaks.
    """
    __tracebackhide__ = True
    if re.fullmatch(right, found, re.DOTALL) is None:
        problem = Expectation(repr(right), repr(found))
        problem.scene = found
        raise problem


@contextmanager
def where_it_shows(then: Since, *, orphans: Collection[int] = ()) -> Iterator[None]:
    """Mark the one expectation of a scenario that a known defect breaks.

    A failure in this block carries its scene, to be compared with the defect's symptom. A failure
    anywhere else in the scenario is never expected.

    Args:
        then: the moment since which the postmaster's lines are part of the symptom.
        orphans: pids of children that outlive the postmaster, known when the block has failed.
    """
    __tracebackhide__ = True
    try:
        yield
    except Expectation as problem:
        problem.scene = Scene.of(then, orphans)
        raise


def _kinds(kinds: Collection[Kind]) -> str:
    return ", ".join(sorted(str(kind) for kind in kinds)) or "none"


def _word(status: PidFileStatus | None) -> str:
    return status.value if status is not None else "none"
