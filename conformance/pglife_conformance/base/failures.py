"""What a scenario says when it is not satisfied: expected, observed, where to look.

Begin with   Expectation; Hang and Inconclusive are its special verdicts.
Owns         the exceptions of the suite and their texts.
Leaves out   how verdicts are counted (verdicts.py).
Source       STYLE section 7.
"""

from __future__ import annotations


class SuiteError(Exception):
    """Base of what goes wrong in the suite itself, as opposed to a verdict on a server."""


class UnusableTarget(SuiteError):
    """The target cannot be started at all; the message is one clear line."""


class ProgramTooSlow(UnusableTarget):
    """A program of the target did not come to its end in time."""


class Expectation(AssertionError):
    """The server did not do what was expected."""

    def __init__(self, expected: str, observed: str, evidence: str = "") -> None:
        self.expected = expected
        self.observed = observed
        self.evidence = evidence
        self.scene: object | None = None
        """Where a known defect would show: what the server looked like (expect/symptom.py)."""
        super().__init__(expected, observed, evidence)

    def __str__(self) -> str:
        lines = [f"expected  {self.expected}", f"observed  {self.observed}"]
        if self.evidence:
            lines.append(self.evidence)
        return "\n".join(lines)


class Hang(Expectation):
    """A deadline passed and nothing at all had moved: no log line, no process, no CPU time."""


class Inconclusive(Expectation):
    """The scenario could not bring about the moment it is about; no verdict on the server."""


class Leftover(Expectation):
    """After the end of a cluster a process, a socket or a shared memory segment is left."""
