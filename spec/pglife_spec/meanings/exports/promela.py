"""A machine under one configuration in Promela, for SPIN. Begin with to_promela().

One process takes one action after another. An action is a `d_step`, so that SPIN stores the states
between actions and no others: they are those that `pglife explore` counts, and one more, before
the choice of the initial state. That no counter goes below zero, and that no bound cuts a step of
the postmaster or a child, is for `pglife explore` to say.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from pglife_spec.lang.expr import (
    BOOL,
    Assign,
    Const,
    EnumSort,
    Expr,
    Param,
    Value,
    Var,
    Visitor,
    const,
)
from pglife_spec.lang.machine import Action, Config, Effect, Machine, When
from pglife_spec.meanings.fixed import Fixed
from pglife_spec.meanings.fold import place
from pglife_spec.meanings.pack import label

RESERVED = frozenset({
    "active", "assert", "atomic", "bit", "bool", "break", "byte", "chan", "do", "else", "empty",
    "enabled", "end", "eval", "false", "fi", "for", "full", "get_priority", "goto", "hidden", "if",
    "init", "inline", "int", "len", "local", "ltl", "mtype", "nempty", "never", "nfull", "notrace",
    "np_", "od", "of", "pc_value", "pid", "printf", "priority", "proctype", "provided", "return",
    "run", "select", "short", "show", "skip", "timeout", "trace", "true", "typedef", "unless",
    "unsigned", "xr", "xs",
})  # fmt: skip


def to_promela(
    machine: Machine, config: Config, initial: Sequence[Mapping[str, Value]], *, claims: bool = True
) -> str:
    """The machine as a Promela model.

    Args:
        machine: what to write.
        config: values of its parameters and bounds of its counters.
        initial: its initial states, each with a value for every variable.
        claims: whether each state is checked: `assert` after every step.
    """
    fixed = Fixed(machine, config)
    writer = _Writer(fixed)
    checked = [fixed.fold(c.holds) for c in machine.claims] if claims else []
    lines = [
        f"/* {machine.name}, configuration {config.name}.",
        "   spin -o2 -a FILE; gcc -O2 -DNOREDUCE -DSAFETY -o pan pan.c; ./pan -E -m1000000 */",
        "",
        *writer.constants(),
        "",
        *(f"{writer.declared(f.var)}" for f in fixed.layout),
        "",
        *writer.checks(machine, checked),
        "active proctype machine() {",
        *writer.start(initial),
        "end_of_steps:",
        "    do",
    ]
    for _, action in fixed.live:
        lines += writer.action(action)
    return "\n".join([*lines, "    od", "}", ""])


class _Text(Visitor[str]):
    """Expressions in Promela."""

    def __init__(self, names: Mapping[str, str]) -> None:
        super().__init__()
        self._names = names

    def const(self, node: Const) -> str:
        if isinstance(node.sort, EnumSort):
            return _member(node.sort, label(node.value))
        return str(node.value).lower() if node.sort == BOOL else str(node.value)

    def var(self, node: Var) -> str:
        return self._names[node.name]

    def param(self, node: Param) -> str:
        raise AssertionError(f"parameter {node.name} was not replaced")

    def not_(self, arg: str) -> str:
        return f"!{arg}"

    def and_(self, args: list[str]) -> str:
        return f"({' && '.join(args)})" if args else "true"

    def or_(self, args: list[str]) -> str:
        return f"({' || '.join(args)})" if args else "false"

    def eq(self, left: str, right: str) -> str:
        return f"({left} == {right})"

    def le(self, left: str, right: str) -> str:
        return f"({left} <= {right})"

    def add(self, left: str, right: str) -> str:
        return f"({left} + {right})"

    def sub(self, left: str, right: str) -> str:
        return f"({left} - {right})"

    def ite(self, cond: str, then: str, other: str) -> str:
        return f"({cond} -> {then} : {other})"


def _member(sort: EnumSort, name: str) -> str:
    return f"{sort.cls.__name__}_{name}"


class _Writer:
    """The parts of the model."""

    def __init__(self, fixed: Fixed) -> None:
        self._fixed = fixed
        names = identifiers([f.name for f in fixed.layout])
        self._names = names
        self._text = _Text(names)

    def constants(self) -> list[str]:
        sorts = dict.fromkeys(f.sort for f in self._fixed.layout if isinstance(f.sort, EnumSort))
        return [
            f"#define {_member(sort, member.name)} {sort.code(member)}"
            for sort in sorts
            if isinstance(sort, EnumSort)
            for member in sort.members
        ]

    def declared(self, var: Var) -> str:
        return f"{'bool' if var.sort == BOOL else 'byte'} {self._names[var.name]};"

    def checks(self, machine: Machine, holds: Sequence[Expr]) -> list[str]:
        """The claims as one inline; those that a configuration makes constant are left out."""
        self._checked = any(not isinstance(e, Const) for e in holds)
        if not self._checked:
            return []
        lines = ["inline check_claims() {"]
        for claim, expr in zip(machine.claims, holds, strict=True):
            if not isinstance(expr, Const):
                lines.append(f"    assert({self._text.visit(expr)}); /* {claim.name} */")
        return [*lines, "}", ""]

    def start(self, initial: Sequence[Mapping[str, Value]]) -> Iterator[str]:
        """The choice between the initial states."""
        yield "    if"
        for state in initial:
            sets = [
                f"{self._names[n]} = {self._text.visit(const(v))}"
                for n, v in state.items()
                if place(const(v))
            ]
            yield f"    :: d_step {{ {'; '.join(sets) or 'skip'} }}"
        yield "    fi;"

    def action(self, action: Action) -> Iterator[str]:
        """One alternative of the loop: guards and bounds, then the effects in order."""
        found = self._fixed.guards(action)
        assert found is not None
        guards, facts = found
        # A bound cuts only what the environment does, if the configuration is right.
        births = action.actor.is_environment
        fits = self._fixed.outcome(action, facts).fits if births else []
        tests = [self._text.visit(test) for test in [*guards, *fits]]
        yield f"    :: d_step {{ /* {action.name} */"
        yield f"        {' && '.join(tests) or 'true'} ->"
        local = {f.name: self._fixed.before[f.name] for f in self._fixed.layout if f.var.local}
        body, _ = self._effects(action.effects, local | dict(facts))
        # A local variable of a step is no part of the state after it.
        body += [f"{self._names[n]} = 0;" for n in local if any(n in line for line in body)]
        yield from (f"        {line}" for line in body or ["skip;"])
        if self._checked:
            yield "        check_claims();"
        yield "    }"

    def _effects(
        self, effects: Sequence[Effect], known: dict[str, Expr]
    ) -> tuple[list[str], dict[str, Expr]]:
        """Statements, and the values that are known after them."""
        lines: list[str] = []
        for effect in effects:
            match effect:
                case Assign(var, expr):
                    value = self._fixed.fold(expr, known)
                    if value is not known.get(var.name):
                        lines.append(f"{self._names[var.name]} = {self._text.visit(value)};")
                    known.pop(var.name, None)
                    if isinstance(value, Const):
                        known[var.name] = value
                case When(cond, then, other):
                    test = self._fixed.fold(cond, known)
                    if isinstance(test, Const):
                        more, known = self._effects(then if test.value else other, known)
                        lines += more
                        continue
                    yes, after = self._effects(then, dict(known))
                    no, otherwise = self._effects(other, dict(known))
                    known = {n: v for n, v in after.items() if otherwise.get(n) is v}
                    lines += _branch(self._text.visit(test), yes, no)
        return lines, known


def _branch(test: str, then: Sequence[str], other: Sequence[str]) -> list[str]:
    if not then and not other:
        return []
    inside = [f"    {line}" for line in then or ["skip;"]]
    outside = [f"    {line}" for line in other or ["skip;"]]
    return ["if", f":: {test} ->", *inside, ":: else ->", *outside, "fi;"]


def identifiers(names: Sequence[str], reserved: frozenset[str] = RESERVED) -> dict[str, str]:
    """A name that the language takes for each name, all of them different."""
    made: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"\W+", "_", name).strip("_")
        if plain in reserved or not plain[0].isalpha():
            plain = f"v_{plain}"
        while plain in made.values():
            plain += "_"
        made[name] = plain
    return made
