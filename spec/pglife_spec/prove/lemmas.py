"""Lemmas: small facts about reachable states that make claims inductive, as text and as data.

Begin with Fact and Lemma; parse() reads what str() writes. A lemma reads
`pmState = PM_RUN and backend.running > 0 -> checkpointer in {RUNNING, CRASHED}`.
"""

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pglife_spec.lang.expr import (
    BOOL,
    FALSE,
    INT,
    EnumSort,
    Expr,
    LanguageError,
    Param,
    Sort,
    Var,
    all_of,
    any_of,
    const,
    implies,
    in_,
    total,
)
from pglife_spec.lang.machine import Machine
from pglife_spec.meanings.interpret import value_at

Named = Var | Param


@dataclass(frozen=True)
class Among:
    """A variable or parameter with finitely many values has one of these, by their numbers."""

    name: str
    codes: frozenset[int]


@dataclass(frozen=True)
class Zero:
    """A count is zero."""

    name: str


@dataclass(frozen=True)
class Some:
    """A count is not zero."""

    name: str


@dataclass(frozen=True)
class AtMost:
    """One sum of counts and a number is at most another."""

    small: tuple[str, ...]
    plus_small: int
    large: tuple[str, ...]
    plus_large: int


Fact = Among | Zero | Some | AtMost


@dataclass(frozen=True)
class Lemma:
    """Where all the given facts hold, some of the others does."""

    given: tuple[Fact, ...]
    then: tuple[Fact, ...]


class Vocabulary:
    """The names of one machine, by which facts become expressions and text."""

    def __init__(self, machine: Machine) -> None:
        declared: tuple[Named, ...] = (*machine.params, *machine.variables)
        self._named = {d.name: d for d in declared}

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters, then variables, in order of declaration."""
        return tuple(self._named)

    def sort(self, name: str) -> Sort:
        """The sort of a variable or parameter; LanguageError if it does not exist."""
        if name not in self._named:
            raise LanguageError(f"a lemma speaks of {name!r}, which the machine does not have")
        return self._named[name].sort

    def size(self, name: str) -> int:
        """How many values it has; 0 for numbers."""
        sort = self.sort(name)
        return len(sort.members) if isinstance(sort, EnumSort) else 2 if sort == BOOL else 0

    def expr(self, lemma: Lemma) -> Expr:
        """A lemma as an expression."""
        given = all_of(*(self.fact(f) for f in lemma.given))
        return implies(given, any_of(*(self.fact(f) for f in lemma.then)))

    def fact(self, fact: Fact) -> Expr:
        """A fact as an expression."""
        match fact:
            case Among(name, codes):
                var, sort = self._named[name], self.sort(name)
                if sort == BOOL:
                    return FALSE if not codes else var if codes == {1} else ~var
                return in_(var, *(value_at(sort, code) for code in sorted(codes)))
            case Zero(name):
                return self._named[name] == 0
            case Some(name):
                return self._named[name] >= 1
            case AtMost(small, plus_small, large, plus_large):
                return self._total(small, plus_small) <= self._total(large, plus_large)

    def _total(self, names: Iterable[str], plus: int) -> Expr:
        parts: list[Expr] = [self._named[name] for name in names]
        return total([*parts, const(plus)] if plus or not parts else parts)

    def never(self, lemma: Lemma) -> list[frozenset[Fact]]:
        """A lemma as sets of single facts that never hold together."""
        facts = [*lemma.given, *map(self._denial, lemma.then)]
        choices = [self._singles(fact) for fact in facts]
        return [frozenset(chosen) for chosen in itertools.product(*choices)]

    def _denial(self, fact: Fact) -> Fact:
        if isinstance(fact, Among):
            return Among(fact.name, frozenset(range(self.size(fact.name))) - fact.codes)
        return _opposite(fact)

    def _singles(self, fact: Fact) -> list[Fact]:
        if isinstance(fact, Among):
            return [Among(fact.name, frozenset({code})) for code in sorted(fact.codes)]
        return [fact]

    def show(self, lemma: Lemma) -> str:
        """A lemma as one line of text."""
        given = " and ".join(self._show(f) for f in lemma.given)
        then = " or ".join(self._show(f) for f in lemma.then) or "false"
        return f"{given} -> {then}" if given else then

    def _show(self, fact: Fact) -> str:
        match fact:
            case Among(name, codes):
                sort = self.sort(name)
                if not isinstance(sort, EnumSort):
                    return name if codes == {1} else f"not {name}"
                names = [sort.members[code].name for code in sorted(codes)]
                return f"{name} = {names[0]}" if len(names) == 1 else f"{name} in {_set(names)}"
            case Zero(name):
                return f"{name} = 0"
            case Some(name):
                return f"{name} > 0"
            case AtMost(small, plus_small, large, plus_large):
                return f"{_plus(small, plus_small)} <= {_plus(large, plus_large)}"

    def parse(self, line: str) -> Lemma:
        """The lemma that a line of text states; LanguageError if the line is invalid."""
        given, arrow, then = line.rpartition("->")
        facts = tuple(self._parse(f) for f in given.split(" and ")) if arrow else ()
        if then.strip() == "false":
            return Lemma(facts, ())
        return Lemma(facts, tuple(self._parse(f) for f in then.split(" or ")))

    def _parse(self, text: str) -> Fact:
        text = text.strip()
        if "<=" in text:
            small, _, large = text.partition("<=")
            return AtMost(*self._sum(small), *self._sum(large))
        found = re.fullmatch(r"(\S+) (=|>|in) (.+)", text)
        if found is None:
            name = text.removeprefix("not ")
            if self.sort(name) != BOOL:
                raise LanguageError(f"not a fact: {text!r}")
            return Among(name, frozenset({0 if text.startswith("not ") else 1}))
        name, how, what = found.groups()
        sort = self.sort(name)
        if sort == INT:
            return Zero(name) if how == "=" else Some(name)
        assert isinstance(sort, EnumSort)
        codes = {member.name: code for code, member in enumerate(sort.members)}
        wanted = [part.strip() for part in what.strip("{}").split(",")]
        if not codes.keys() >= set(wanted):
            raise LanguageError(f"not values of {name}: {what}")
        return Among(name, frozenset(codes[part] for part in wanted))

    def _sum(self, text: str) -> tuple[tuple[str, ...], int]:
        parts = [part.strip() for part in text.split(" + ")]
        names = tuple(part for part in parts if not part.isdigit())
        for name in names:
            self.sort(name)
        return names, sum(int(part) for part in parts if part.isdigit())


def _set(names: Iterable[str]) -> str:
    return "{" + ", ".join(names) + "}"


def _plus(names: Iterable[str], plus: int) -> str:
    parts = list(names)
    return " + ".join([*parts, str(plus)] if plus or not parts else parts)


def gather(never: Iterable[frozenset[Fact]], sizes: Mapping[str, int]) -> list[Lemma]:
    """Lemmas that say together what never holds at once, fewer and easier to read.

    Args:
        never: sets of single facts that never hold together.
        sizes: how many values each finite variable has.
    """
    # First by what they conclude, so that the forbidden values of one variable form one set.
    groups: dict[tuple[frozenset[Fact], str], set[int]] = {}
    lemmas: list[Lemma] = []
    for facts in never:
        widest = max(
            (f for f in facts if isinstance(f, Among)),
            key=lambda f: (sizes[f.name], f.name),
            default=None,
        )
        others = [f for f in facts if f is not widest]
        last = [f for f in others if isinstance(f, Among)]
        if widest is None or not last:
            then = tuple(sorted((_opposite(f) for f in others), key=repr))
            given: tuple[Fact, ...] = () if widest is None else (widest,)
            lemmas.append(Lemma(given, then))
            continue
        target = max(last, key=lambda f: (sizes[f.name], f.name))
        rest = frozenset(f for f in facts if f is not target)
        groups.setdefault((rest, target.name), set()).update(target.codes)
    for (rest, name), forbidden in groups.items():
        allowed = frozenset(range(sizes[name])) - forbidden
        lemmas.append(
            Lemma(tuple(sorted(rest, key=repr)), (Among(name, allowed),) if allowed else ())
        )
    return _join_given(lemmas)


def _join_given(lemmas: list[Lemma]) -> list[Lemma]:
    """Lemmas that differ in one value of one variable only, as one lemma about the set."""
    groups: dict[tuple[tuple[Fact, ...], tuple[Fact, ...], str], set[int]] = {}
    kept: list[Lemma] = []
    for lemma in lemmas:
        first = next((f for f in lemma.given if isinstance(f, Among)), None)
        if first is None:
            kept.append(lemma)
            continue
        rest = tuple(f for f in lemma.given if f is not first)
        groups.setdefault((rest, lemma.then, first.name), set()).update(first.codes)
    for (rest, then, name), codes in groups.items():
        kept.append(Lemma((Among(name, frozenset(codes)), *rest), then))
    return kept


def _opposite(fact: Fact) -> Fact:
    match fact:
        case Zero(name):
            return Some(name)
        case Some(name):
            return Zero(name)
        case AtMost(small, plus_small, large, plus_large):
            return AtMost(large, plus_large + 1, small, plus_small)
        case Among():
            raise AssertionError("the opposite of a value needs the variable's size")
