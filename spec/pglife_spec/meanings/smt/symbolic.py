"""One step of a machine for every state at once: effects run over formulas, branches merged.

Begin with Symbols, then Symbols.step().

Each branch of a When runs on a copy of the environment; afterwards a variable on which the copies
differ becomes a choice between the two. What the guards say of single variables is put into the
environment first, so that most Whens of an inlined state machine have a constant condition.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import z3  # type: ignore[import-untyped]

from pglife_spec.lang.expr import (
    BOOL,
    INT,
    Assign,
    Const,
    EnumSort,
    Expr,
    Param,
    Sort,
    Value,
    Var,
    Visitor,
)
from pglife_spec.lang.machine import Action, Effect, Emit, Machine, When
from pglife_spec.meanings.interpret import place, value_at
from pglife_spec.meanings.smt.circuit import FALSE, TRUE, Circuit, Lit, Sum, add, number


@dataclass(frozen=True)
class OneOf:
    """An enum value as one formula a member, of which exactly one holds."""

    members: tuple[Lit, ...]


Term = Lit | Sum | OneOf
Env = dict[str, Term]


def _lit(term: Term) -> Lit:
    assert isinstance(term, int)
    return term


def _number(term: Term) -> Sum:
    assert isinstance(term, Sum)
    return term


class Terms(Visitor[Term]):
    """The formula of an expression in an environment."""

    def __init__(self, circuit: Circuit, params: Mapping[str, Term], env: Mapping[str, Term]):
        super().__init__()
        self.circuit = circuit
        self.params = params
        self.env = env

    def const(self, node: Const) -> Term:
        return constant(node.sort, node.value)

    def var(self, node: Var) -> Term:
        return self.env[node.name]

    def param(self, node: Param) -> Term:
        return self.params[node.name]

    def not_(self, arg: Term) -> Term:
        return -_lit(arg)

    def and_(self, args: list[Term]) -> Term:
        return self.circuit.conj(map(_lit, args))

    def or_(self, args: list[Term]) -> Term:
        return self.circuit.disj(map(_lit, args))

    def eq(self, left: Term, right: Term) -> Term:
        if isinstance(left, OneOf) and isinstance(right, OneOf):
            pairs = zip(left.members, right.members, strict=True)
            return self.circuit.disj(self.circuit.conj(pair) for pair in pairs)
        if isinstance(left, Sum):
            return self.circuit.is_zero(add(left, _number(right), -1))
        return self.circuit.same(_lit(left), _lit(right))

    def le(self, left: Term, right: Term) -> Term:
        if isinstance(left, OneOf) and isinstance(right, OneOf):
            return self.circuit.disj(
                self.circuit.conj((small, self.circuit.disj(right.members[at:])))
                for at, small in enumerate(left.members)
            )
        return self.circuit.at_most_zero(add(_number(left), _number(right), -1))

    def add(self, left: Term, right: Term) -> Term:
        return add(_number(left), _number(right))

    def sub(self, left: Term, right: Term) -> Term:
        return add(_number(left), _number(right), -1)

    def ite(self, cond: Term, then: Term, other: Term) -> Term:
        return merge(self.circuit, _lit(cond), then, other)


def constant(sort: Sort, value: Value) -> Term:
    """A value as a term."""
    if sort == BOOL:
        return TRUE if value else FALSE
    if sort == INT:
        return number(place(value))
    assert isinstance(sort, EnumSort)
    code = place(value)
    return OneOf(tuple(TRUE if at == code else FALSE for at in range(len(sort.members))))


def merge(circuit: Circuit, cond: Lit, then: Term, other: Term) -> Term:
    """One of two terms of the same sort, by a formula."""
    if then == other:
        return then
    if isinstance(then, OneOf) and isinstance(other, OneOf):
        pairs = zip(then.members, other.members, strict=True)
        return OneOf(tuple(circuit.choose(cond, a, b) for a, b in pairs))
    if isinstance(then, Sum):
        return circuit.choose_sum(cond, then, _number(other))
    return circuit.choose(cond, _lit(then), _lit(other))


@dataclass
class SymbolicStep:
    """An action's step from the unknown state.

    Args:
        guard: where it is enabled.
        after: the state after it.
        changed: the variables whose term is another one after it.
        below_zero: for each assignment that subtracts, where it would make a count negative.
    """

    action: Action
    guard: Lit
    after: Env
    changed: frozenset[str] = frozenset()
    below_zero: list[tuple[str, Lit]] = field(default_factory=list)


class Symbols:
    """The unknown state and parameters of a machine, in one circuit.

    Args:
        machine: the machine.
        fixed: values for some parameters; the others stay unknown, numbers among them >= 0.
    """

    def __init__(self, machine: Machine, fixed: Mapping[str, Value] | None = None) -> None:
        self.machine = machine
        self.circuit = Circuit()
        self.typing: list[z3.BoolRef] = []
        self._leaves: dict[Lit, tuple[str, int]] = {}
        self.numbers: dict[str, z3.ArithRef] = {}
        pinned = dict(fixed or {})
        unknown = set(pinned) - {p.name for p in machine.params}
        if unknown:
            raise ValueError(f"{machine.name} has no parameter {', '.join(sorted(unknown))}")
        self.params: Env = {
            p.name: constant(p.sort, pinned[p.name])
            if p.name in pinned
            else self._unknown(p.name, p.sort)
            for p in machine.params
        }
        self.before: Env = {v.name: self._unknown(v.name, v.sort) for v in machine.variables}
        self.circuit.background.add(*self.typing)
        self._reader = Terms(self.circuit, self.params, self.before)

    def _unknown(self, name: str, sort: Sort) -> Term:
        if sort == INT:
            term = self.circuit.counter(name)
            self.numbers[name] = self.circuit.number_of(term)
            self.typing.append(self.numbers[name] >= 0)
            return term
        if sort == BOOL:
            leaf = self.circuit.atom(z3.Bool(name))
            self._leaves[leaf] = (name, 1)
            return leaf
        assert isinstance(sort, EnumSort)
        count = len(sort.members)
        if count == 1:
            return OneOf((TRUE,))
        atoms = [z3.Bool(f"{name}={member.name}") for member in sort.members]
        if count == 2:
            leaf = self.circuit.atom(atoms[0])
            self._leaves[leaf] = (name, 0)
            return OneOf((leaf, -leaf))
        self.typing.append(z3.Or(atoms))
        for at, one in enumerate(atoms):
            self.typing.extend(z3.Or(z3.Not(one), z3.Not(two)) for two in atoms[:at])
        leaves = [self.circuit.atom(atom) for atom in atoms]
        self._leaves.update((leaf, (name, at)) for at, leaf in enumerate(leaves))
        return OneOf(tuple(leaves))

    def read(self, expr: Expr) -> Lit:
        """A Boolean expression about the unknown state."""
        return _lit(self._reader.visit(expr))

    def read_in(self, env: Mapping[str, Term], exprs: Iterable[Expr]) -> list[Lit]:
        """Boolean expressions about another state."""
        reader = Terms(self.circuit, self.params, env)
        return [_lit(reader.visit(expr)) for expr in exprs]

    def step(self, action: Action) -> SymbolicStep:
        """The action's step from the unknown state."""
        guard = self.circuit.conj(self.read(g) for g in action.guards)
        env = self._given(guard)
        step = SymbolicStep(action, guard, env)
        if guard != FALSE:
            start = dict(env)
            self._run(action.effects, env, TRUE, step.below_zero)
            step.changed = frozenset(name for name in env if env[name] != start[name])
            # Where a guard already pinned a variable, an equal constant is no change.
            step.after = {
                name: env[name] if name in step.changed else self.before[name] for name in env
            }
        return step

    def _run(
        self, effects: Iterable[Effect], env: Env, path: Lit, below_zero: list[tuple[str, Lit]]
    ) -> None:
        for effect in effects:
            # One reader an effect: what it remembers is stale once a variable has changed.
            reader = Terms(self.circuit, self.params, env)
            match effect:
                case Assign(var, expr):
                    value = reader.visit(expr)
                    if isinstance(value, Sum):
                        short = add(value, number(1))  # value < 0, that is value + 1 <= 0
                        bad = self.circuit.conj((path, self.circuit.at_most_zero(short)))
                        if bad != FALSE:
                            below_zero.append((var.name, bad))
                    env[var.name] = value
                case When(cond, then, other):
                    self._branch(_lit(reader.visit(cond)), then, other, env, path, below_zero)
                case Emit():
                    pass

    def _branch(
        self,
        cond: Lit,
        then: Iterable[Effect],
        other: Iterable[Effect],
        env: Env,
        path: Lit,
        below_zero: list[tuple[str, Lit]],
    ) -> None:
        if cond in (TRUE, FALSE):
            self._run(then if cond == TRUE else other, env, path, below_zero)
            return
        yes, no = dict(env), dict(env)
        self._run(then, yes, self.circuit.conj((path, cond)), below_zero)
        self._run(other, no, self.circuit.conj((path, -cond)), below_zero)
        for name in env:
            env[name] = merge(self.circuit, cond, yes[name], no[name])

    def _given(self, guard: Lit) -> Env:
        """The unknown state, with what a guard says of single variables filled in."""
        env = dict(self.before)
        for part in self.circuit.conjuncts(guard):
            options = [part] if abs(part) in self._leaves else self.circuit.disjuncts(part)
            names = {self._leaves[abs(o)][0] for o in options if abs(o) in self._leaves}
            if len(names) != 1 or any(abs(o) not in self._leaves for o in options):
                continue
            name = names.pop()
            term = env.get(name)
            if isinstance(term, int) and len(options) == 1:
                env[name] = TRUE if part > 0 else FALSE
            elif isinstance(term, OneOf):
                env[name] = self._restrict(term, self.before[name], options)
        return env

    def _restrict(self, term: OneOf, before: Term, options: Iterable[Lit]) -> OneOf:
        """An enum value where some option holds: a member's leaf, or the opposite of one."""
        assert isinstance(before, OneOf)
        allowed: set[int] = set()
        for option in options:
            here = {at for at, leaf in enumerate(before.members) if leaf == option}
            allowed |= here or {at for at, leaf in enumerate(before.members) if leaf != -option}
        kept = [m if at in allowed else FALSE for at, m in enumerate(term.members)]
        left = [at for at, m in enumerate(kept) if m != FALSE]
        if len(left) == 1:
            kept[left[0]] = TRUE
        return OneOf(tuple(kept))

    def values(self, model: z3.ModelRef) -> tuple[dict[str, Value], dict[str, Value]]:
        """State and parameters in a model of the solver."""
        state, params = (
            {d.name: self._value(model, d.sort, env[d.name]) for d in declared}
            for declared, env in (
                (self.machine.variables, self.before),
                (self.machine.params, self.params),
            )
        )
        return state, params

    def _value(self, model: z3.ModelRef, sort: Sort, term: Term) -> Value:
        if isinstance(term, Sum):
            found = model.eval(self.circuit.number_of(term), model_completion=True)
            return int(found.as_long())
        if isinstance(term, OneOf):
            for at, member in enumerate(term.members):
                if self._true(model, member):
                    return value_at(sort, at)
            raise AssertionError("a model in which an enum has no value")
        return self._true(model, term)

    def _true(self, model: z3.ModelRef, lit: Lit) -> bool:
        return bool(z3.is_true(model.eval(self.circuit.z3(lit), model_completion=True)))
