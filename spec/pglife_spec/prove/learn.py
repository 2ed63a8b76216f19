"""Finding lemmas, and keeping them in a file until the machine changes.

Begin with learn(), then load() and save(). Beside this module, lemmas_*.txt has a fingerprint of
the machine, then one lemma a line: generated, and committed so that a proof is a mere check.
hints_*.txt has candidates that a person wrote down, for laws about three and more facts, which no
sample tells from chance; they pass the same filter as what was mined.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from pglife_spec.lang.expr import Assign, LanguageError, Value, show
from pglife_spec.lang.machine import Effect, Emit, Machine, When
from pglife_spec.prove.houdini import Houdini, Mask, bits
from pglife_spec.prove.lemmas import Fact, Lemma, Vocabulary, gather
from pglife_spec.prove.mine import never_together
from pglife_spec.prove.sample import Sample, configurations, sample

Progress = Callable[[str], None]

CONFIGURATIONS = 32
STATES = 15_000
HERE = Path(__file__).parent


def learn(
    machine: Machine, fixed: Mapping[str, Value], progress: Progress | None = None
) -> list[Lemma]:
    """Lemmas that are inductive together with the claims, as few as suffice for them."""
    configs = configurations(machine, fixed, CONFIGURATIONS)
    table = sample(machine, fixed, configs, STATES, progress)
    candidates = never_together(table, frozenset(p.name for p in machine.params))
    masks = [sum(1 << at for at in never) for never in candidates]
    # Sets of two facts are few and mostly true, so they are all tried; larger ones on demand.
    small = [m for m in masks if m.bit_count() <= 2]
    first = Houdini(machine, fixed, table.facts, masks)
    pool = first.settle([*small, *hints(machine, table)], progress)
    pool += first.suffice(progress)
    # What was learnt holds together; a second round takes of it only what is needed.
    taken = Houdini(machine, fixed, table.facts, pool).suffice(progress)
    words = Vocabulary(machine)
    never = (frozenset[Fact](table.facts[at] for at in bits(mask)) for mask in taken)
    return gather(never, {name: words.size(name) for name in words.names})


def hints(machine: Machine, table: Sample) -> list[Mask]:
    """Candidates that a person wrote down for a machine, where there is a file of them."""
    path = HERE / f"hints_{machine.name}.txt"
    if not path.exists():
        return []
    words = Vocabulary(machine)
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    found: dict[Mask, None] = {}
    for line in lines:
        try:
            lemma = words.parse(line)
        except LanguageError:
            continue  # it speaks of what the machine no longer has
        for never in words.never(lemma):
            if all(fact in table.index for fact in never):
                found[sum(1 << table.index[fact] for fact in never)] = None
    return list(found)


def fingerprint(machine: Machine, fixed: Mapping[str, Value]) -> str:
    """A digest of all that a proof depends on."""
    lines = [f"{name} = {value}" for name, value in sorted(fixed.items())]
    words = Vocabulary(machine)
    lines += [f"{name}: {words.sort(name)}" for name in words.names]
    lines += [show(e) for e in (*machine.assumptions, *machine.init)]
    for action in machine.actions:
        lines += [action.name, *map(show, action.guards), *map(_show, action.effects)]
    lines += [f"{c.name}: {show(c.holds)}" for c in machine.claims]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _show(effect: Effect) -> str:
    match effect:
        case Assign(var, value):
            return f"{var.name} := {show(value)}"
        case When(cond, then, other):
            yes, no = " ".join(map(_show, then)), " ".join(map(_show, other))
            return f"when {show(cond)} [{yes}] [{no}]"
        case Emit():
            return ""
    raise AssertionError(effect)


def file_for(machine: Machine, fixed: Mapping[str, Value]) -> Path:
    """Where the lemmas of a machine with these parameters pinned are kept."""
    pins = "".join(f"_{value}" for _, value in sorted(fixed.items()))
    return HERE / f"lemmas_{machine.name}{pins}.txt"


def load(machine: Machine, fixed: Mapping[str, Value]) -> tuple[list[Lemma], bool]:
    """The lemmas on file, and whether they were learnt from this very machine."""
    path = file_for(machine, fixed)
    if not path.exists():
        return [], False
    head, *lines = path.read_text().splitlines()
    words = Vocabulary(machine)
    fresh = head == _head(machine, fixed)
    lemmas = []
    for line in lines:
        try:
            lemmas.append(words.parse(line))
        except LanguageError:
            fresh = False  # it speaks of what the machine no longer has
    return lemmas, fresh


def save(machine: Machine, fixed: Mapping[str, Value], lemmas: list[Lemma]) -> Path:
    """Put lemmas on file."""
    words = Vocabulary(machine)
    path = file_for(machine, fixed)
    lines = [_head(machine, fixed), *sorted(words.show(lemma) for lemma in lemmas)]
    path.write_text("\n".join(lines) + "\n")
    return path


def _head(machine: Machine, fixed: Mapping[str, Value]) -> str:
    return f"# generated by pglife prove --mine; machine {fingerprint(machine, fixed)[:32]}"
