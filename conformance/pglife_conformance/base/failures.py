"""What a scenario reports when it is not satisfied: expected, observed, evidence.

Begin with Expectation; Hang and Inconclusive are its special verdicts.
"""


class SuiteError(Exception):
    """Base of all errors of the suite that are no verdicts on a server."""


class UnusableTarget(SuiteError):
    """The target cannot be tested at all; the message is one line."""


class ProgramTooSlow(UnusableTarget):
    """A program of the target has not exited in time."""


class Expectation(AssertionError):
    """The server did not do what was expected.

    Args:
        expected: what should have happened.
        observed: what happened instead.
        evidence: processes and log lines, one a line.
    """

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
    """A deadline has passed and nothing had moved: no log line, no process, no CPU time."""


class Inconclusive(Expectation):
    """The scenario could not bring about the moment that it is about: no verdict on the server."""


class Leftover(Expectation):
    """A server has left a process, a socket or a shared memory segment behind."""
