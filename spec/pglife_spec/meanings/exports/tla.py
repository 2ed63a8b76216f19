"""A machine in TLA+. Begin with to_tla().

The module has the parameters as constants, so that it is the machine of every configuration; a
counter has no bound. Each effect is a definition of the state after it, in the order in which they
run, since TLA+ has no assignment; what no effect mentions is UNCHANGED.
"""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pglife_spec.lang.expr import (
    BOOL,
    INT,
    Assign,
    Const,
    EnumSort,
    Eq,
    Expr,
    Le,
    Not,
    Or,
    Param,
    Sort,
    Var,
    Visitor,
)
from pglife_spec.lang.machine import Action, Effect, Fairness, Machine, When
from pglife_spec.lang.walk import names_in
from pglife_spec.meanings.exports.promela import identifiers
from pglife_spec.meanings.fold import Pool, conjuncts
from pglife_spec.meanings.pack import label

WORDS = """
ASSUME ASSUMPTION AXIOM BOOLEAN CASE CHOOSE CONSTANT CONSTANTS DOMAIN ELSE ENABLED EXCEPT EXTENDS
Environment FALSE IF IN INSTANCE Init LAMBDA LET LOCAL MODULE Nat Next OTHER SF_ STRING SUBSET
Server Spec THEN THEOREM TRUE TypeOK UNCHANGED UNION VARIABLE VARIABLES WF_ WITH vars
"""
RESERVED = frozenset(WORDS.split())

AND, OR = " /\\ ", " \\/ "
INLINE = 40
"""Text of a value that is put where it is used; a longer one gets a name."""


def to_tla(machine: Machine) -> str:
    """The machine as a module of TLA+ under the machine's name."""
    return "\n".join(_Module(machine).lines()) + "\n"


class _Text(Visitor[str]):
    """Expressions in TLA+, with some variables under other names."""

    def __init__(self, names: Mapping[str, str]) -> None:
        super().__init__()
        self._names = names

    def _dispatch(self, expr: Expr) -> str:
        match expr:
            case Le(left, right) if isinstance(left.sort, EnumSort):
                rank = f"{left.sort}Rank"
                return f"({rank}[{self.visit(left)}] <= {rank}[{self.visit(right)}])"
            case Not(Eq(left, right)) if left.sort != BOOL:
                return f"({self.visit(left)} # {self.visit(right)})"
            case Or(args) if (one := _one_variable(args)) is not None:
                members = ", ".join(self.visit(a.right) for a in args if isinstance(a, Eq))
                return f"({self.visit(one)} \\in {{{members}}})"
        return super()._dispatch(expr)

    def const(self, node: Const) -> str:
        if isinstance(node.sort, EnumSort):
            return f'"{label(node.value)}"'
        return str(node.value).upper() if node.sort == BOOL else str(node.value)

    def var(self, node: Var) -> str:
        return self._names[node.name]

    def param(self, node: Param) -> str:
        return self._names[node.name]

    def not_(self, arg: str) -> str:
        return f"~{arg}"

    def and_(self, args: list[str]) -> str:
        return f"({AND.join(args)})" if args else "TRUE"

    def or_(self, args: list[str]) -> str:
        return f"({OR.join(args)})" if args else "FALSE"

    def eq(self, left: str, right: str) -> str:
        return f"({left} = {right})"

    def le(self, left: str, right: str) -> str:
        return f"({left} <= {right})"

    def add(self, left: str, right: str) -> str:
        return f"({left} + {right})"

    def sub(self, left: str, right: str) -> str:
        return f"({left} - {right})"

    def ite(self, cond: str, then: str, other: str) -> str:
        return f"(IF {cond} THEN {then} ELSE {other})"


def _one_variable(args: Sequence[Expr]) -> Expr | None:
    """The variable of which each part says that it has some value; None if some part does not."""
    first = args[0].left if args and isinstance(args[0], Eq) else None
    same = (isinstance(a, Eq) and a.left is first and isinstance(a.right, Const) for a in args)
    return first if all(same) else None


class _Step:
    """The effects of one action: what each variable is after them, and definitions for that."""

    def __init__(self, pool: Pool, names: Mapping[str, str], start: Mapping[str, str]) -> None:
        self._pool = pool
        self._names = names
        self._taken = set(names.values())
        self.after: dict[str, str] = {**names, **start}
        self.definitions: list[str] = []

    def run(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Assign(var, value):
                    self._set(var.name, _Text(self.after).visit(self._pool.fold(value)))
                case When(cond, then, other):
                    test = self._named("when", _Text(self.after).visit(self._pool.fold(cond)))
                    before = dict(self.after)
                    self.run(then)
                    yes, self.after = self.after, dict(before)
                    self.run(other)
                    no = self.after
                    for name in before:
                        if yes[name] != no[name]:
                            self._set(name, f"(IF {test} THEN {yes[name]} ELSE {no[name]})")

    def _set(self, name: str, text: str) -> None:
        self.after[name] = self._named(self._names[name], text)

    def _named(self, hint: str, text: str) -> str:
        if len(text) <= INLINE and "IF" not in text:
            return text
        number = 1
        while f"{hint}_{number}" in self._taken:
            number += 1
        self._taken.add(f"{hint}_{number}")
        self.definitions.append(f"{hint}_{number} == {text}")
        return f"{hint}_{number}"


class _Module:
    """The parts of the module."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._variables = [v for v in machine.variables if not v.local]
        every = [v.name for v in machine.variables] + [p.name for p in machine.params]
        every += [a.name for a in machine.actions] + [c.name for c in machine.claims]
        every += [p.name for p in machine.properties]
        self._names = identifiers(every, RESERVED)
        self._texts = _Text(self._names)
        self._pool = Pool()

    def _said(self, expr: Expr) -> str:
        return _bare(self._texts.visit(self._pool.fold(expr)))

    def lines(self) -> Iterator[str]:
        machine = self._machine
        yield f"---- MODULE {machine.name} ----"
        yield "EXTENDS Integers"
        yield from self._sorts()
        yield from ("", "CONSTANTS")
        yield from self._declared(machine.params)
        yield from ("", "VARIABLES")
        yield from self._declared(self._variables)
        yield ""
        yield from _wrapped(f"vars == <<{self._all(self._variables)}>>")
        yield ""
        yield "ASSUME"
        yield from self._typed(machine.params)
        yield from (f"    /\\ {self._said(e)}" for e in machine.assumptions)
        yield from ("", "TypeOK ==")
        yield from self._typed(self._variables)
        yield ""
        local = {v.name for v in machine.variables if v.local}
        yield "Init =="
        # What has few values first, so that TLC may choose; conditions fix the counters.
        yield from self._typed([v for v in self._variables if v.sort != INT])
        yield from (f"    /\\ {self._said(e)}" for e in machine.init if not names_in(e) & local)
        for action in machine.actions:
            yield from self._action(action)
        yield from self._whole()
        yield "===="

    def _sorts(self) -> Iterator[str]:
        used = (v.sort for v in [*self._machine.variables, *self._machine.params])
        for sort in dict.fromkeys(used):
            if isinstance(sort, EnumSort):
                members = [f'"{m.name}"' for m in sort.members]
                ranks = [f"m = {name} -> {at}" for at, name in enumerate(members)]
                yield ""
                yield from _wrapped(f"{sort} == {{{', '.join(members)}}}")
                yield from _wrapped(f"{sort}Rank == [m \\in {sort} |-> CASE {' [] '.join(ranks)}]")

    def _typed(self, names: Sequence[Var] | Sequence[Param]) -> Iterator[str]:
        for var in names:
            yield f"    /\\ {self._names[var.name]} \\in {_set_of(var.sort)}"

    def _declared(self, names: Sequence[Var] | Sequence[Param]) -> Iterator[str]:
        left = len(names)
        for var in names:
            left -= 1
            doc = " ".join(var.doc.split())
            said = f"  \\* {doc}" if doc else ""
            yield f"    {self._names[var.name]}{',' if left else ''}{said}"

    def _all(self, variables: Sequence[Var]) -> str:
        return ", ".join(self._names[v.name] for v in variables)

    def _action(self, action: Action) -> Iterator[str]:
        start = {v.name: _first(v.sort) for v in self._machine.variables if v.local}
        step = _Step(self._pool, self._names, start)
        step.run(action.effects)
        yield ""
        yield from _wrapped(f"{action.actor.value}: {' '.join(action.doc.split())}", "\\* ")
        yield f"{self._names[action.name]} =="
        for guard in conjuncts(self._pool.fold(g) for g in action.guards):
            yield from _wrapped(f"    /\\ {self._said(guard)}")
        changed = [v for v in self._variables if step.after[v.name] != self._names[v.name]]
        same = [v for v in self._variables if step.after[v.name] == self._names[v.name]]
        inside = "    "
        if step.definitions:
            first, *others = step.definitions
            yield from _wrapped(f"    /\\ LET {first}", inside=" " * 15)
            for definition in others:
                yield from _wrapped(f"           {definition}")
            yield "       IN"
            inside = " " * 11
        yield from (f"{inside}/\\ {self._names[v.name]}' = {step.after[v.name]}" for v in changed)
        if same:
            yield from _wrapped(f"{inside}/\\ UNCHANGED <<{self._all(same)}>>")

    def _whole(self) -> Iterator[str]:
        """The next step, the specification, claims as invariants, and properties."""
        machine = self._machine
        yield from ("", "Environment ==")
        yield from self._either(a for a in machine.actions if a.actor.is_environment)
        yield from ("", "Server ==")
        yield from self._either(a for a in machine.actions if not a.actor.is_environment)
        yield from ("", "Next == Environment \\/ Server", "", "Spec == Init /\\ [][Next]_vars")
        for claim in machine.claims:
            yield ""
            yield from _wrapped(" ".join(claim.doc.split()), "\\* ")
            yield from _wrapped(f"{self._names[claim.name]} == {self._said(claim.holds)}")
        for prop in machine.properties:
            yield ""
            yield from _wrapped(" ".join(prop.doc.split()), "\\* ")
            yield f"{self._names[prop.name]} =="
            yield from self._fair(prop.fairness)
            given, then = self._said(prop.given), self._said(prop.then)
            yield from _wrapped(f"    => (({given}) ~> ({then}))")

    def _either(self, actions: Iterable[Action]) -> Iterator[str]:
        names = [self._names[a.name] for a in actions]
        yield from (f"    \\/ {name}" for name in names or ["FALSE"])

    def _fair(self, fairness: Sequence[Fairness]) -> Iterator[str]:
        """No fair action is enabled for ever and never taken; the environment comes to rest."""
        fair = [a for a in self._machine.actions if any(f.selects(a) for f in fairness)]
        restless = [a for a in self._machine.actions if a.actor.is_environment and a not in fair]
        yield "    ("
        yield from (f"      /\\ WF_vars({self._names[a.name]})" for a in fair)
        either = OR.join(self._names[a.name] for a in restless) or "FALSE"
        yield from _wrapped(f"      /\\ <>[][~({either})]_vars")
        yield "    )"


def _bare(text: str) -> str:
    """Text without the parentheses around all of it."""
    depth = 0
    for at, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if depth == 0 and at < len(text) - 1:
            return text
    return text[1:-1] if text.startswith("(") else text


def _first(sort: Sort) -> str:
    """The value that a local variable has as a step begins."""
    if isinstance(sort, EnumSort):
        return f'"{sort.members[0].name}"'
    return "FALSE" if sort == BOOL else "0"


def _set_of(sort: Sort) -> str:
    if isinstance(sort, EnumSort):
        return str(sort)
    return "BOOLEAN" if sort == BOOL else "Nat"


def _wrapped(text: str, comment: str = "", inside: str = "") -> list[str]:
    """Long text over several lines, each after the first further in."""
    further = " " * (len(text) - len(text.lstrip()) + 4)
    return textwrap.wrap(
        text,
        width=100,
        initial_indent=comment,
        subsequent_indent=comment or inside or further,
        break_long_words=False,
        break_on_hyphens=False,
    )
