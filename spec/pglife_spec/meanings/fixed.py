"""A machine under one configuration: its expressions with all that is known put in.

Begin with Fixed. Whatever generates code for a configuration starts from `guards` and `outcome`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from pglife_spec.lang.expr import INT, Assign, Const, Expr, LanguageError, Value, const, show
from pglife_spec.lang.machine import Action, Config, Effect, Machine, When
from pglife_spec.meanings.fold import Pool, settle
from pglife_spec.meanings.growth import Growth, larger, may_grow, moved
from pglife_spec.meanings.pack import Layout

Guards = tuple[list[Expr], dict[str, Expr]]
"""What is left to test of an action's guards, and the values that they fix."""


@dataclass(frozen=True)
class Outcome:
    """What an action does.

    Args:
        after: for each variable that it changes the value after, in terms of the state before.
        fits: for each bound that it may pass, that it does not.
    """

    after: dict[str, Expr]
    fits: list[Expr]


class Fixed:
    """A machine whose parameters have the values of a configuration.

    Args:
        live: the actions that some state may enable, each with its index in the machine.

    Raises:
        LanguageError: the configuration does not fit the machine.
    """

    def __init__(self, machine: Machine, config: Config) -> None:
        self.machine = machine
        self.config = config
        self.layout = Layout(machine, config)
        self.pool = Pool()
        groups = enumerate(self.layout.groups)
        self._group = {field.name: at for at, group in groups for field in group}
        self.before: dict[str, Expr] = {
            f.name: self.pool.const(f.value(0), f.sort) if f.var.local else self.pool.var(f.var)
            for f in self.layout
        }
        """What each variable is as a step begins."""
        self.params = _constants(machine, config, self.pool)
        for assumption in machine.assumptions:
            if self.fold(assumption) is not self.pool.true:
                raise LanguageError(
                    f"configuration {config.name} breaks the assumption {show(assumption)}"
                )
        every = enumerate(machine.actions)
        self.live = tuple((i, a) for i, a in every if self.guards(a) is not None)

    def fold(self, expr: Expr, known: Mapping[str, Expr] | None = None) -> Expr:
        """The expression with parameters and what else is known put in."""
        return self.pool.fold(expr, self.params | dict(known or {}))

    def guards(self, action: Action, known: Mapping[str, Expr] | None = None) -> Guards | None:
        """What is left to test of an action's guards and what they fix; None: never enabled."""
        given = dict(known or {})
        found = settle(self.pool, [self.fold(g, given) for g in action.guards])
        if found is None:
            return None
        return found[0], given | found[1]

    def outcome(self, action: Action, known: Mapping[str, Expr]) -> Outcome:
        """What an action does, in terms of the state before.

        Args:
            action: one that is enabled.
            known: the values that its guards fix.
        """
        before = self.before | dict(known)
        env, growth = self._run(action.effects, before, {})
        changed = (f.name for f in self.layout if not f.var.local)
        after = {name: env[name] for name in changed if env[name] is not before[name]}
        grown = [g for at, g in enumerate(self.layout.groups) if may_grow(growth.get(at, {}))]
        fits = [
            self.pool.le(
                reduce(self.pool.add, (env[f.name] for f in group)),
                self.pool.const(group[0].top, INT),
            )
            for group in grown
        ]
        return Outcome(after, [fit for fit in fits if fit is not self.pool.true])

    def frozen(self, initial: Sequence[Mapping[str, Value]]) -> dict[str, Expr]:
        """The variables that no step changes from the one value that they have at the start."""
        first = initial[0]
        alike = [f for f in self.layout if all(s[f.name] == first[f.name] for s in initial)]
        known: dict[str, Expr] = {
            f.name: self.pool.const(first[f.name], f.sort) for f in alike if not f.var.local
        }
        asked = [action for _, action in self.live]
        while asked:
            changed: set[str] = set()
            for action in asked:
                found = self.guards(action, known)
                if found is not None:
                    changed |= self.outcome(action, found[1]).after.keys() & known.keys()
            known = {name: value for name, value in known.items() if name not in changed}
            # What does not read them does what it did.
            asked = [action for _, action in self.live if action.reads & changed]
        return known

    def _run(
        self, effects: Sequence[Effect], env: dict[str, Expr], growth: dict[int, Growth]
    ) -> tuple[dict[str, Expr], dict[int, Growth]]:
        env, growth = dict(env), dict(growth)
        for effect in effects:
            match effect:
                case Assign(var, expr):
                    value = self.fold(expr, env)
                    if var.name in self._group:
                        group = self._group[var.name]
                        growth[group] = moved(growth.get(group, {}), env[var.name], value)
                    env[var.name] = value
                case When():
                    cond = self.fold(effect.cond, env)
                    if isinstance(cond, Const):
                        chosen = effect.then if cond.value else effect.other
                        env, growth = self._run(chosen, env, growth)
                        continue
                    then, grown = self._run(effect.then, env, growth)
                    other, grown_other = self._run(effect.other, env, growth)
                    env = {n: self.pool.ite(cond, v, other[n]) for n, v in then.items()}
                    growth = {
                        group: larger(grown.get(group, {}), grown_other.get(group, {}))
                        for group in {**grown, **grown_other}
                    }
        return env, growth


def _constants(machine: Machine, config: Config, pool: Pool) -> dict[str, Expr]:
    """The parameters' values as constants; each needs one of its own sort."""
    unknown = set(config.params) - {p.name for p in machine.params}
    if unknown:
        raise LanguageError(f"{config.name}: no such parameter: {', '.join(sorted(unknown))}")
    values: dict[str, Expr] = {}
    for param in machine.params:
        if param.name not in config.params:
            raise LanguageError(f"configuration {config.name} has no value for {param.name}")
        value = const(config.params[param.name])
        if value.sort != param.sort:
            raise LanguageError(f"{config.name}: {param.name} takes {param.sort}: {value!r}")
        values[param.name] = pool.const(value.value, value.sort)
    return values
