"""Reached states to learn from: many small configurations, each explored in part.

Begin with sample(), then Sample.never(). It need not be complete: what is learnt wrongly is dropped
because it is not inductive.
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence

from pglife_spec.lang.expr import INT, EnumSort, LanguageError, Param, Sort, Value, Var
from pglife_spec.lang.machine import Config, Machine
from pglife_spec.meanings.interpret import holds, place, value_at
from pglife_spec.meanings.python.program import Program, compile_machine
from pglife_spec.prove.lemmas import Among, Fact, Some, Zero

#: States that are expanded before another group has its turn.
BATCH = 50
Single = Among | Zero | Some

SMALL_INTS = (0, 1, 2, 3)
TRIES = 200


def configurations(
    machine: Machine, fixed: Mapping[str, Value], count: int, seed: int = 1
) -> list[Config]:
    """Random small configurations that satisfy the machine's assumptions."""
    choose = random.Random(seed)
    bounds = {v.bound or v.name: 2 for v in machine.variables if v.sort == INT}
    made: list[Config] = []
    for _ in range(count * TRIES):
        if len(made) == count:
            break
        params = {
            p.name: fixed[p.name] if p.name in fixed else _value(p.sort, choose)
            for p in machine.params
        }
        if all(holds(a, {}, params) for a in machine.assumptions):
            made.append(Config(f"random-{len(made)}", params, bounds))
    if not made:
        raise LanguageError(f"no configuration of {machine.name} found that its assumptions allow")
    return made


def _value(sort: Sort, choose: random.Random) -> Value:
    if sort == INT:
        return choose.choice(SMALL_INTS)
    size = len(sort.members) if isinstance(sort, EnumSort) else 2
    return value_at(sort, choose.randrange(size))


def reached(program: Program, limit: int, seed: int = 1) -> list[int]:
    """States reached by going on from where least has been seen.

    States are grouped by the values of those enums that one variable only has (where the machine
    is, not where its many parts are), and the group that was expanded least comes next: rare
    corners are seen as thoroughly as common ones.
    """
    choose = random.Random(seed)
    sorts = [field.sort for field in program.layout]
    mask = sum(
        field.mask << field.offset
        for field in program.layout
        if isinstance(field.sort, EnumSort) and sorts.count(field.sort) == 1
    )
    seen = set(program.initial)
    waiting: dict[int, list[int]] = {}
    expanded: dict[int, int] = {}
    for state in program.initial:
        waiting.setdefault(state & mask, []).append(state)
    while waiting and len(seen) < limit:
        group = min(waiting, key=lambda g: (expanded.get(g, 0), g))
        batch = waiting.pop(group)
        choose.shuffle(batch)
        batch, rest = batch[:BATCH], batch[BATCH:]
        if rest:
            waiting[group] = rest
        expanded[group] = expanded.get(group, 0) + len(batch)
        for state in batch:
            for _, after in program.successors(state):
                if after not in seen:
                    seen.add(after)
                    waiting.setdefault(after & mask, []).append(after)
    return sorted(seen)


def single_facts(machine: Machine, fixed: Mapping[str, Value]) -> list[Single]:
    """Each value of each finite variable and open parameter; each count zero or not."""
    facts: list[Single] = []
    declared: list[Var | Param] = [p for p in machine.params if p.name not in fixed]
    declared += machine.variables
    for item in declared:
        if item.sort == INT:
            facts += [Zero(item.name), Some(item.name)]
            continue
        size = len(item.sort.members) if isinstance(item.sort, EnumSort) else 2
        facts += [Among(item.name, frozenset({code})) for code in range(size)]
    return facts


class Sample:
    """For each fact, the set of reached states in which it holds, as the bits of one int."""

    def __init__(self, machine: Machine, facts: Sequence[Single]) -> None:
        self.machine = machine
        self.facts = list(facts)
        self.index: dict[Fact, int] = {fact: at for at, fact in enumerate(self.facts)}
        self.where = [0] * len(self.facts)
        self.states = 0

    def learn(self, program: Program, states: Sequence[int]) -> None:
        """Add states of one configuration."""
        count = len(states)
        everywhere = (1 << count) - 1
        columns: dict[str, bytes] = {}
        for field in program.layout:
            offset, mask = field.offset, field.mask
            columns[field.name] = bytes([s >> offset & mask for s in states])
        for at, fact in enumerate(self.facts):
            column = columns.get(fact.name)
            if column is not None:
                found = _bits(column, fact)
            else:
                found = everywhere if _holds(fact, program.config.params) else 0
            self.where[at] |= found << self.states
        self.states += count

    def together(self, chosen: Iterable[int]) -> int:
        """The states in which all of these facts hold."""
        found = (1 << self.states) - 1
        for at in chosen:
            found &= self.where[at]
            if not found:
                break
        return found


def _bits(column: bytes, fact: Single) -> int:
    wanted = _wanted(fact)
    table = bytes(49 if wanted(code) else 48 for code in range(256))
    # The first state becomes the lowest bit.
    return int(column.translate(table)[::-1], 2)


def _wanted(fact: Single) -> Callable[[int], bool]:
    match fact:
        case Among(_, codes):
            return codes.__contains__
        case Zero():
            return lambda code: code == 0
        case _:
            return lambda code: code > 0


def _holds(fact: Single, params: Mapping[str, Value]) -> bool:
    return _wanted(fact)(place(params[fact.name]))


def sample(
    machine: Machine,
    fixed: Mapping[str, Value],
    configs: Sequence[Config],
    limit: int,
    progress: Callable[[str], None] | None = None,
) -> Sample:
    """The facts of all states reached in these configurations, at most `limit` in each."""
    table = Sample(machine, single_facts(machine, fixed))
    for config in configs:
        if progress:
            progress(config.name)
        program = compile_machine(machine, config)
        table.learn(program, reached(program, limit))
    return table
