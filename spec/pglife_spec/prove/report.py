"""What a proof found: every obligation with its status and time, claim by claim.

Begin with ProofReport.
"""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pglife_spec.lang.expr import Value
from pglife_spec.meanings.interpret import Evidence

INIT = "(initial states)"
COUNTS = "counts_are_never_negative"


class Status(enum.Enum):
    """How an obligation came out. Only PROVED is success."""

    PROVED = "proved"
    COUNTEREXAMPLE = "counterexample"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Obligation:
    """One cell of the table: a claim kept by an action, or true in all initial states.

    Args:
        claim: name of the claim, or COUNTS.
        action: name of the action, or INIT.
        status: how it came out.
        seconds: its share of the query that decided it; 0 where the action changes nothing that
            the claim reads.
    """

    claim: str
    action: str
    status: Status
    seconds: float


@dataclass(frozen=True)
class Counterexample:
    """A state that keeps every claim and lemma, and a step from it that breaks a claim.

    The state may be out of reach: then a lemma is missing. For an initial state that breaks a
    claim, `before` and `after` are the same.
    """

    claim: str
    action: str
    params: Mapping[str, Value]
    before: Mapping[str, Value]
    after: Mapping[str, Value]
    evidence: tuple[Evidence, ...]
    relevant: frozenset[str]
    below_zero: str = ""

    def text(self) -> str:
        """The counterexample in a few lines: what differs from an idle server, and what changes."""
        lines = [f"{self.claim} is not kept by {self.action}"]
        if self.action == INIT:
            lines = [f"{self.claim} does not hold initially"]
        names = [name for name in self.before if name in self.relevant]
        lines += [f"  with    {name} = {_show(v)}" for name, v in self.params.items() if v]
        lines += [f"  before  {name} = {_show(self.before[name])}" for name in names]
        changed = [n for n in self.after if self.after[n] != self.before[n]]
        lines += [
            f"  step    {name}: {_show(self.before[name])} -> {_show(self.after[name])}"
            for name in changed
        ]
        if self.below_zero:
            lines.append(f"  step    {self.below_zero}")
        lines += [f"  seen    {e.what} {' '.join(_show(a) for a in e.args)}" for e in self.evidence]
        return "\n".join(lines)


def _show(value: object) -> str:
    return value.name if isinstance(value, enum.Enum) else str(value).lower()


@dataclass(frozen=True)
class ClaimReport:
    """One claim: proved only if every one of its obligations is."""

    name: str
    status: Status
    seconds: float
    failed: tuple[str, ...] = ()


@dataclass
class ProofReport:
    """All of it.

    Args:
        machine: name of the machine.
        fixed: the parameters that were pinned; all others stood for every value.
        claims: one line each.
        lemmas: the helper lemmas as text; they are proved along with the claims.
        failed_lemmas: obligations of lemmas that failed; a certificate has none.
        obligations: the table, claims and COUNTS by actions and INIT.
        counterexamples: of claims, each replayed by the concrete evaluator.
        disabled: actions that no state allowed by claims and lemmas enables.
        explored_only: claims for which no inductive proof is known, and none was tried.
        seconds: wall-clock time of the whole check.
        mined: whether the lemmas were mined in this run.
    """

    machine: str
    fixed: Mapping[str, Value]
    claims: list[ClaimReport] = field(default_factory=list)
    lemmas: list[str] = field(default_factory=list)
    failed_lemmas: list[Obligation] = field(default_factory=list)
    obligations: list[Obligation] = field(default_factory=list)
    counterexamples: list[Counterexample] = field(default_factory=list)
    disabled: list[str] = field(default_factory=list)
    explored_only: list[str] = field(default_factory=list)
    seconds: float = 0.0
    mined: bool = False

    @property
    def proved(self) -> bool:
        """Whether everything was; unknown is failure."""
        return not self.failed_lemmas and all(o.status is Status.PROVED for o in self.obligations)

    @property
    def trivial(self) -> int:
        """How many obligations needed no solver."""
        return sum(o.status is Status.PROVED and o.seconds == 0 for o in self.obligations)

    def summarize(self, names: Iterable[str]) -> None:
        """Fill `claims` from `obligations`."""
        by_claim: dict[str, list[Obligation]] = {name: [] for name in names}
        for obligation in self.obligations:
            by_claim.setdefault(obligation.claim, []).append(obligation)
        self.claims = [
            ClaimReport(
                name,
                _worst(o.status for o in cells),
                sum(o.seconds for o in cells),
                tuple(o.action for o in cells if o.status is not Status.PROVED),
            )
            for name, cells in by_claim.items()
        ]

    def text(self) -> str:
        """A page of text: one line a claim, then the counterexamples."""
        pins = ", ".join(f"{k} = {_show(v)}" for k, v in self.fixed.items())
        lines = [f"{self.machine}, {pins or 'every configuration'}"]
        for claim in self.claims:
            where = f"  by {', '.join(claim.failed)}" if claim.failed else ""
            lines.append(f"  {claim.status.value:15}{claim.name}{where}")
        proved = sum(o.status is Status.PROVED for o in self.obligations)
        lines.append(
            f"{proved} of {len(self.obligations)} obligations proved with {len(self.lemmas)} lemmas"
            f" in {self.seconds:.1f} s; {self.trivial} are trivial: the action touches nothing that"
            " the claim reads"
        )
        if self.explored_only:
            lines.append(f"explored only: {', '.join(self.explored_only)}")
        if self.failed_lemmas:
            lines.append(f"{len(self.failed_lemmas)} obligations of lemmas failed:")
            lines += [f"  {o.claim}  by {o.action}" for o in self.failed_lemmas[:20]]
        lines += [f"\n{example.text()}" for example in self.counterexamples]
        return "\n".join(lines)


def _worst(statuses: Iterable[Status]) -> Status:
    found = set(statuses)
    for status in (Status.COUNTEREXAMPLE, Status.UNKNOWN):
        if status in found:
            return status
    return Status.PROVED
