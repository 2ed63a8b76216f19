"""What a report says: claims and properties with the evidence for each. Begin with collect()."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from pglife_spec.explore import Exploration, Progress, Verdict, check_properties, explore
from pglife_spec.lang.expr import Expr
from pglife_spec.lang.machine import Claim, Config, Machine, Mutant, Property
from pglife_spec.traces.trace import Trace

if TYPE_CHECKING:
    from pglife_spec.prove.report import ProofReport

REPAIR = "repair."
"""How the names of parameters begin that switch a repair of the model on."""

Say = Callable[[str], None]


def is_repaired(config: Config) -> bool:
    """Whether all repairs are on."""
    return all(value is True for name, value in config.params.items() if name.startswith(REPAIR))


def is_declared(prop: Property, config: Config) -> bool:
    """Whether a failure is one that the model states of real releases."""
    return bool(prop.exception) and not is_repaired(config)


@dataclass(frozen=True)
class Explored:
    """The numbers of one exploration."""

    config: str
    states: int
    transitions: int
    depth: int
    seconds: float
    complete: bool
    violated: tuple[str, ...]
    deadlocks: int
    dead_actions: tuple[str, ...]


@dataclass
class ClaimEntry:
    """A claim with what is known of it.

    Args:
        claim: its statement.
        status: proved, counterexample, unknown, or explored where no proof was asked for.
        method: by which method, in words.
        seconds: its share of all proofs.
        witness: a shortest way to a state that the claim is about.
        where: the configuration of the witness.
        mutants: the wrong models that break it.
        details: counterexamples as text.
    """

    claim: Claim
    status: str = "not checked"
    method: str = ""
    seconds: float = 0.0
    witness: Trace | None = None
    where: str = ""
    mutants: list[Mutant] = field(default_factory=list)
    details: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return self.status in ("proved", "explored")


@dataclass
class PropertyEntry:
    """A liveness property with its verdict for each configuration."""

    prop: Property
    verdicts: list[tuple[Config, Verdict]] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return all(v.holds or is_declared(self.prop, config) for config, v in self.verdicts)

    @property
    def lasso(self) -> tuple[Config, Trace] | None:
        """The shortest of its counterexamples."""
        found = [(c, v.lasso) for c, v in self.verdicts if v.lasso is not None]
        return min(found, key=lambda pair: len(pair[1]), default=None)


@dataclass
class Report:
    """All that is known of a machine."""

    machine: Machine
    claims: list[ClaimEntry]
    properties: list[PropertyEntry]
    explored: list[Explored] = field(default_factory=list)
    lemmas: list[str] = field(default_factory=list)
    obligations: int = 0
    proof_seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether nothing is wrong but what the model declares."""
        stuck = any(e.deadlocks or e.violated for e in self.explored)
        kept = all(e.good for e in self.claims) and all(e.good for e in self.properties)
        return kept and not stuck

    @property
    def families(self) -> dict[str, list[str]]:
        """The actions by family, in the order of the machine."""
        found: dict[str, list[str]] = {}
        for action in self.machine.actions:
            found.setdefault(action.family, []).append(action.name)
        return found

    def never_taken(self) -> list[str]:
        """Actions that no explored configuration has taken."""
        if not self.explored:
            return []
        dead = [set(e.dead_actions) for e in self.explored]
        return [a.name for a in self.machine.actions if all(a.name in d for d in dead)]


def collect(
    machine: Machine,
    configs: Sequence[Config],
    *,
    final: Expr | None = None,
    proofs: Sequence[ProofReport] = (),
    mutants: Iterable[Mutant] = (),
    witness_configs: Sequence[Config] = (),
    say: Say = lambda _: None,
) -> Report:
    """Explore the configurations and put together what they and the proof say.

    Args:
        machine: the machine.
        configs: each is explored to the end, and its liveness properties are checked.
        final: where having no step left is right.
        proofs: what the prover says of the claims, for each set of pinned parameters.
        mutants: wrong models, each filed under the claim that it breaks.
        witness_configs: explored one after the other, only for claims still without a witness.
        say: called with what is being done.
    """
    report = Report(
        machine,
        [ClaimEntry(c) for c in machine.claims],
        [PropertyEntry(p) for p in machine.properties],
    )
    _file_mutants(report, mutants)
    _add_proofs(report, proofs)
    for config in configs:
        found = explore(machine, config, final=final, progress=_telling(say, config))
        _add_exploration(report, found)
        verdicts = check_properties(found, machine.properties, partial(_about, say, config))
        for entry, verdict in zip(report.properties, verdicts, strict=True):
            entry.verdicts.append((config, verdict))
    for config in witness_configs:
        wanted = [e for e in report.claims if e.witness is None]
        if wanted:
            _seek_witnesses(report, config, wanted, _telling(say, config))
    return report


def _about(say: Say, config: Config, what: str) -> None:
    say(f"{config.name}: {what}")


def _telling(say: Say, config: Config) -> Callable[[Progress], None]:
    return lambda seen: say(f"{config.name}: {seen.states:,} states, depth {seen.depth}")


def _file_mutants(report: Report, mutants: Iterable[Mutant]) -> None:
    entries = {e.claim.name: e for e in report.claims}
    for mutant in mutants:
        if mutant.killed_by in entries:
            entries[mutant.killed_by].mutants.append(mutant)


def _add_proofs(report: Report, proofs: Sequence[ProofReport]) -> None:
    """A claim is proved if every proof has it; else it is what the first says that has not."""
    pins = "; ".join(", ".join(f"{k} = {v}" for k, v in p.fixed.items()) for p in proofs)
    method = f"inductive, any number of children, any configuration{f' ({pins})' if pins else ''}"
    report.lemmas = [lemma for p in proofs for lemma in p.lemmas]
    report.obligations = sum(len(p.obligations) for p in proofs)
    report.proof_seconds = max((p.seconds for p in proofs), default=0.0)
    for entry in report.claims:
        said = [c for p in proofs for c in p.claims if c.name == entry.claim.name]
        if not said:
            continue
        entry.method = method
        entry.seconds = sum(c.seconds for c in said)
        entry.status = next((c.status.value for c in said if c.status.value != "proved"), "proved")
        examples = [x for p in proofs for x in p.counterexamples]
        entry.details = [x.text() for x in examples if x.claim == entry.claim.name]


def _add_exploration(report: Report, found: Exploration) -> None:
    config = found.program.config
    report.explored.append(
        Explored(
            config.name,
            found.states,
            found.transitions,
            found.depth,
            found.seconds,
            found.complete,
            tuple(found.violated),
            len(found.deadlocks),
            tuple(found.dead_actions()) + _disabled(found),
        )
    )
    for entry in report.claims:
        name = entry.claim.name
        if name in found.violated:
            entry.status = "violated"
            entry.method = f"explored, {config.name}"
            trace = found.trace_to(found.violated[name])
            entry.details.append("violated after " + ", ".join(trace.actions))
        elif entry.status == "not checked" and found.complete:
            entry.status, entry.method = "explored", "explored up to bounds"
        if entry.witness is None and name in found.witnessed:
            entry.witness = found.trace_to(found.witnessed[name], "witness")
            entry.where = config.name


def _disabled(found: Exploration) -> tuple[str, ...]:
    return tuple(found.program.actions[i].name for i in found.program.disabled)


def _seek_witnesses(
    report: Report,
    config: Config,
    wanted: Sequence[ClaimEntry],
    progress: Callable[[Progress], None],
) -> None:
    claims = [e.claim for e in wanted]
    found = explore(report.machine, config, claims=claims, progress=progress, until_witnessed=True)
    for entry in wanted:
        if entry.claim.name in found.witnessed:
            entry.witness = found.trace_to(found.witnessed[entry.claim.name], "witness")
            entry.where = config.name
