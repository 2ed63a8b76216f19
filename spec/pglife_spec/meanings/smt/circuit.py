"""Formulas as hash-consed circuits: conjunctions, negations, and atoms of one solver.

Begin with Circuit.conj() and its neighbours, then Sum, the integers of a proof.

A formula is a whole number: TRUE, FALSE, or a node, its negation the negative. Steps of the
postmaster inline its state machine, so most of a symbolic step folds to a constant once the
guards are known; folding happens here, at a fraction of what building the z3 terms would cost.
Enums are one-hot: a Boolean a member. Counts are sums of guarded counters, compared by linear
arithmetic only where no cheaper reading exists: the question asked most, whether all
counts are zero, is a conjunction.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import z3  # type: ignore[import-untyped]

Lit = int
TRUE: Lit = 1
FALSE: Lit = -1
#: How many guards of a sum are taken apart into cases before its comparison is left to arithmetic.
MAX_SPLITS = 4


@dataclass(frozen=True)
class Sum:
    """constant + the parts; a part is a counter (or 1) with a coefficient, where its guard holds.

    Args:
        constant: the number added.
        parts: coefficients by (counter, guard); counter 0 stands for the number one.
    """

    constant: int
    parts: tuple[tuple[tuple[int, Lit], int], ...] = ()


def number(value: int) -> Sum:
    """A constant as a sum."""
    return Sum(value)


def _sum(constant: int, parts: dict[tuple[int, Lit], int]) -> Sum:
    kept: dict[tuple[int, Lit], int] = {}
    for (counter, guard), factor in parts.items():
        if factor == 0 or guard == FALSE:
            continue
        if kept.get((counter, -guard)) == factor:  # here or there: everywhere
            del kept[counter, -guard]
            guard = TRUE
        if counter == 0 and guard == TRUE:
            constant += factor
        else:
            kept[counter, guard] = kept.get((counter, guard), 0) + factor
    return Sum(constant, tuple(sorted((k, f) for k, f in kept.items() if f)))


def _by_factor(value: Sum) -> dict[tuple[int, int], tuple[Lit, ...]]:
    """The guards of a sum's parts, by counter and coefficient."""
    guards: dict[tuple[int, int], tuple[Lit, ...]] = {}
    for (counter, guard), factor in value.parts:
        guards[counter, factor] = (*guards.get((counter, factor), ()), guard)
    return guards


def add(left: Sum, right: Sum, sign: int = 1) -> Sum:
    """left + sign * right."""
    parts = dict(left.parts)
    for key, factor in right.parts:
        parts[key] = parts.get(key, 0) + sign * factor
    return _sum(left.constant + sign * right.constant, parts)


class Circuit:
    """The nodes of one proof."""

    def __init__(self) -> None:
        self._nodes: list[tuple[Lit, ...] | z3.BoolRef] = [(), ()]
        self._known: dict[tuple[Lit, ...], int] = {}
        self._z3: dict[Lit, z3.BoolRef] = {TRUE: z3.BoolVal(True), FALSE: z3.BoolVal(False)}
        self._counters: list[z3.ArithRef] = [z3.IntVal(1)]
        self._compared: dict[Sum, Lit] = {}
        #: Knows what holds in every query; used to see that guards exclude each other.
        self.background = z3.SimpleSolver()
        self._impossible: dict[Lit, bool] = {TRUE: False, FALSE: True}

    def atom(self, term: z3.BoolRef) -> Lit:
        """A new node for a z3 Boolean; the caller keeps from asking twice."""
        self._nodes.append(term)
        return len(self._nodes) - 1

    def counter(self, name: str) -> Sum:
        """A new unknown number, never negative."""
        self._counters.append(z3.Int(name))
        return Sum(0, (((len(self._counters) - 1, TRUE), 1),))

    def conj(self, parts: Iterable[Lit]) -> Lit:
        """All of them."""
        args: set[Lit] = set()
        for part in parts:
            if part == FALSE or -part in args:
                return FALSE
            if part != TRUE:
                args.add(part)
        for part in tuple(args):
            node = self._nodes[part] if part > 1 else None
            if isinstance(node, tuple):
                args.discard(part)
                args.update(node)
        if any(-part in args for part in args):
            return FALSE
        if len(args) <= 1:
            return args.pop() if args else TRUE
        key = tuple(sorted(args))
        known = self._known.get(key)
        if known is None:
            self._nodes.append(key)
            known = self._known[key] = len(self._nodes) - 1
        return known

    def disj(self, parts: Iterable[Lit]) -> Lit:
        """Some of them."""
        return -self.conj(-part for part in parts)

    def conjuncts(self, lit: Lit) -> tuple[Lit, ...]:
        """The parts of a conjunction; anything else is its own only part."""
        node = self._nodes[lit] if lit > 1 else None
        return node if isinstance(node, tuple) else (lit,)

    def disjuncts(self, lit: Lit) -> tuple[Lit, ...]:
        """The parts of a disjunction; anything else is its own only part."""
        return tuple(-part for part in self.conjuncts(-lit))

    def choose(self, cond: Lit, then: Lit, other: Lit) -> Lit:
        """`then` where the condition holds, else `other`."""
        if cond == TRUE or then == other:
            return then
        if cond == FALSE:
            return other
        return self.conj((self.disj((-cond, then)), self.disj((cond, other))))

    def same(self, left: Lit, right: Lit) -> Lit:
        """Both or neither."""
        return self.choose(left, right, -right)

    def choose_sum(self, cond: Lit, then: Sum, other: Sum) -> Sum:
        """`then` where the condition holds, else `other`.

        A counter that both add, each under its own guard, stays one part under one guard: what
        moves from one counter to another then cancels out in their sum.
        """
        if cond == TRUE or then == other:
            return then
        if cond == FALSE:
            return other
        parts: dict[tuple[int, Lit], int] = {}

        def put(counter: int, guard: Lit, factor: int) -> None:
            parts[counter, guard] = parts.get((counter, guard), 0) + factor

        put(0, cond, then.constant - other.constant)
        sides = (_by_factor(then), _by_factor(other))
        for key in {**sides[0], **sides[1]}:
            yes, no = (side.get(key, ()) for side in sides)
            if len(yes) <= 1 and len(no) <= 1:
                guard = self.choose(cond, yes[0] if yes else FALSE, no[0] if no else FALSE)
                put(key[0], guard, key[1])
                continue
            for guard in yes:
                put(key[0], self.conj((cond, guard)), key[1])
            for guard in no:
                put(key[0], self.conj((-cond, guard)), key[1])
        return _sum(other.constant, parts)

    def is_zero(self, value: Sum) -> Lit:
        """value = 0."""
        factors = [factor for _, factor in value.parts]
        if all(f > 0 for f in factors) and value.constant >= 0:
            return self.at_most_zero(value)
        negative = Sum(-value.constant, tuple((k, -f) for k, f in value.parts))
        if all(f < 0 for f in factors) and value.constant <= 0:
            return self.at_most_zero(negative)
        return self.conj((self.at_most_zero(value), self.at_most_zero(negative)))

    def at_most_zero(self, value: Sum, splits: int = MAX_SPLITS) -> Lit:
        """value <= 0, where no counter is negative."""
        factors = [factor for _, factor in value.parts]
        if value.constant <= 0 and all(f < 0 for f in factors):
            return TRUE
        if all(f > 0 for f in factors) and value.constant > 0:
            return FALSE
        if factors and factors[0] < 0:  # one atom for `x <= 0` and for `not 1 <= x`
            flipped = Sum(1 - value.constant, tuple((k, -f) for k, f in value.parts))
            return -self.at_most_zero(flipped, splits)
        if value.constant == 0 and len(factors) > 1 and all(f > 0 for f in factors):
            return self.conj(self.at_most_zero(Sum(0, ((key, 1),))) for key, _ in value.parts)
        known = self._compared.get(value)
        if known is None:
            tidy = self._gather(value)
            again = tidy != value
            known = self.at_most_zero(tidy, splits) if again else self._compare(value, splits)
            self._compared[value] = known
        return known

    def _gather(self, value: Sum) -> Sum:
        """A counter added under several guards that exclude each other is added under any.

        So children that a step moves from one state to another, some here and some there by its
        many branches, count the same before and after without the solver's arithmetic.
        """
        parts: dict[tuple[int, Lit], int] = {}
        for (counter, factor), guards in _by_factor(value).items():
            some, *others = guards
            for guard in others:
                if self._never(self.conj((some, guard))):
                    some = self.disj((some, guard))
                else:
                    parts[counter, guard] = parts.get((counter, guard), 0) + factor
            if len(guards) > 1 and self._never(-some):
                some = TRUE
            parts[counter, some] = parts.get((counter, some), 0) + factor
        return _sum(value.constant, parts)

    def _never(self, lit: Lit) -> bool:
        known = self._impossible.get(lit)
        if known is None:
            known = self._impossible[lit] = self.background.check(self.z3(lit)) == z3.unsat
        return known

    def _compare(self, value: Sum, splits: int) -> Lit:
        guards = {guard for (_, guard), _ in value.parts if guard != TRUE}
        if guards and (splits > 0 or len(guards) == 1):
            guard = min(guards, key=abs)
            return self.choose(
                guard,
                self.at_most_zero(self._given(value, guard, TRUE), splits - 1),
                self.at_most_zero(self._given(value, guard, FALSE), splits - 1),
            )
        return self.atom(self.number_of(value) <= 0)

    def _given(self, value: Sum, guard: Lit, truth: Lit) -> Sum:
        parts: dict[tuple[int, Lit], int] = {}
        for (counter, own), factor in value.parts:
            seen = truth if own == guard else -truth if own == -guard else own
            parts[counter, seen] = parts.get((counter, seen), 0) + factor
        return _sum(value.constant, parts)

    def number_of(self, value: Sum) -> z3.ArithRef:
        """A sum as a z3 integer."""
        terms = []
        for (counter, guard), factor in value.parts:
            term = self._counters[counter] * factor
            terms.append(term if guard == TRUE else z3.If(self.z3(guard), term, 0))
        return z3.Sum([*terms, z3.IntVal(value.constant)])

    def z3(self, lit: Lit) -> z3.BoolRef:
        """A formula as a z3 Boolean; shared nodes stay shared."""
        known = self._z3.get(lit)
        if known is not None:
            return known
        made: z3.BoolRef
        if lit < 0:
            node = self._nodes[-lit]
            if isinstance(node, tuple) and all(part < 0 for part in node):
                made = z3.Or([self.z3(-part) for part in node])
            else:
                made = z3.Not(self.z3(-lit))
        else:
            node = self._nodes[lit]
            if not isinstance(node, tuple):
                made = node
            else:
                made = z3.And([self.z3(part) for part in node])
        self._z3[lit] = made
        return made
