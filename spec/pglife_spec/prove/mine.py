"""Candidates for lemmas: small sets of facts that no reached state has together.

Begin with never_together(). Worth a try are minimal sets of one, two or three facts, not two about
one variable, not about parameters alone, and none whose absence is no surprise: facts that are rare
by themselves are rarely met together, even where nothing forbids it. So a set counts only if, by
how often its parts were seen, it should have been met several times. This keeps nearly all that is
true and a small part of the rest.
"""

from collections.abc import Iterator

from pglife_spec.prove.sample import Sample

Never = frozenset[int]
"""Facts, by their place in the sample, that never hold together."""

#: How often a set should have been met by chance before its absence counts.
SURPRISE = 5


def never_together(table: Sample, parameters: frozenset[str], largest: int = 3) -> list[Never]:
    """The minimal sets of at most `largest` facts that share no reached state.

    Small sets come first, and among those of one size the ones whose absence surprises most.
    """
    where, subject = table.where, [f.name for f in table.facts]
    free = {at for at, name in enumerate(subject) if name in parameters}
    seen = [bits.bit_count() for bits in where]
    alone = [frozenset({a}) for a in range(len(where)) if not where[a]]
    found: list[tuple[float, Never]] = []
    live = [a for a in range(len(where)) if where[a]]
    friends: dict[int, set[int]] = {a: set() for a in live}
    together: list[tuple[int, int, int]] = []
    for at, a in enumerate(live):
        for b in live[:at]:
            if subject[a] == subject[b]:
                continue
            both = where[a] & where[b]
            if both:
                friends[a].add(b)
                together.append((a, b, both))
            elif not {a, b} <= free and seen[a] * seen[b] > SURPRISE * table.states:
                found.append((seen[a] * seen[b] / table.states, frozenset({a, b})))
    if largest >= 3:
        found.extend(_threes(where, friends, together, free, seen))
    found.sort(key=lambda one: (len(one[1]), -one[0], sorted(one[1])))
    return alone + [never for _, never in found]


def _threes(
    where: list[int],
    friends: dict[int, set[int]],
    together: list[tuple[int, int, int]],
    free: set[int],
    seen: list[int],
) -> Iterator[tuple[float, Never]]:
    pairs = {frozenset({a, b}): both.bit_count() for a, b, both in together}
    for a, b, both in together:
        for c in friends[a] & friends[b]:
            if both & where[c] or {a, b, c} <= free:
                continue
            ab, bc, ac = (pairs[frozenset(two)] for two in ((a, b), (b, c), (a, c)))
            expected = min(ab * ac / seen[a], ab * bc / seen[b], ac * bc / seen[c])
            if expected > SURPRISE:
                yield expected, frozenset({a, b, c})
