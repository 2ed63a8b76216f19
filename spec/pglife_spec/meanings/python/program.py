"""A machine under one configuration as Python functions on packed integers.

Begin with compile_machine(), which gives a Program; its hot loop is Program.successors().
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from types import CodeType
from typing import Any

from pglife_spec.lang.expr import (
    BOOL,
    Const,
    EnumSort,
    Expr,
    LanguageError,
    Param,
    Sort,
    Value,
    show,
)
from pglife_spec.lang.machine import Action, Config, Machine
from pglife_spec.meanings.fixed import Fixed
from pglife_spec.meanings.fold import settle
from pglife_spec.meanings.pack import Field, label
from pglife_spec.meanings.python.codegen import (
    CUT,
    DISABLED,
    Generator,
    Texts,
    dispatch_field,
    used,
)
from pglife_spec.meanings.store import CodeStore

Evidence = tuple[object, ...]
"""What an observer sees: a kind, then details; enum members are given by name."""

Writer = Callable[[Mapping[str, Expr]], str]
"""Writes the source of a function for known values of variables."""

INITIAL_LIMIT = 100_000


class Program:
    """A machine that runs. A state is an int; actions are known by index, in machine order.

    `step` and `emissions` answer with DISABLED where a guard is false, and with CUT where the
    step would take a sum of counters over its bound; `successors` leaves both out. Cuts are counted
    in `cuts`, by action; only the environment's may be cut. A counter that would go below zero is a
    mistake of the model, not a limit of the exploration: `underflows` keeps the first state of each
    action that does it.

    With a store the code of `successors` comes from there, if it was written before.
    """

    def __init__(self, machine: Machine, config: Config, store: CodeStore | None = None) -> None:
        self.machine = machine
        self._store = store
        self.config = config
        self.actions = machine.actions
        self.fixed = Fixed(machine, config)
        self.layout = self.fixed.layout
        self.cuts = [0] * len(machine.actions)
        self.underflows: dict[int, int] = {}
        self._generator = Generator(self.fixed)
        self._index = {a.name: i for i, a in enumerate(machine.actions)}
        live = self.fixed.live
        self.disabled = tuple(sorted(set(range(len(self.actions))) - {i for i, _ in live}))
        self._field = dispatch_field(self.layout, (a for _, a in live))
        self._steps: dict[int, Callable[[int], int]] = {}
        self._telling: dict[int, Callable[[int], tuple[int, list[Evidence]]]] = {}
        self._enabled: Callable[[int], list[int]] | None = None
        self.successors = self._dispatched(self._writer(self.fixed.live), "successors")
        self.initial = tuple(sorted(set(self._initial_states())))

    def index(self, action: int | str | Action) -> int:
        """The index of an action given by index, name or itself."""
        if isinstance(action, int):
            return action
        name = action if isinstance(action, str) else action.name
        if name not in self._index:
            raise LanguageError(f"no action named {name!r}")
        return self._index[name]

    def action(self, name: str) -> Action:
        """The action of that name."""
        return self.actions[self.index(name)]

    def step(self, action: int | str | Action, state: int) -> int:
        """The state after an action, or DISABLED, or CUT."""
        index = self.index(action)
        if index not in self._steps:
            self._steps[index] = self.stepper(self.actions[index])
        return self._steps[index](state)

    def stepper(self, action: Action) -> Callable[[int], int]:
        """`step` of an action of the machine, or of one that stands for it under its name."""
        return self._compile(self._generator.step(self.index(action), action))  # type: ignore[no-any-return]

    def emissions(self, action: int | str | Action, state: int) -> tuple[int, list[Evidence]]:
        """What `step` gives, and the evidence that the step leaves, in order."""
        index = self.index(action)
        if index not in self._telling:
            self._telling[index] = self.teller(self.actions[index])
        return self._telling[index](state)

    def teller(self, action: Action) -> Callable[[int], tuple[int, list[Evidence]]]:
        """`emissions` of an action of the machine, or of one that stands for it."""
        texts = Texts()
        source = self._generator.step(self.index(action), action, texts)
        return self._compile(source, texts.values)  # type: ignore[no-any-return]

    def successors_by(
        self, chosen: Callable[[Action], bool]
    ) -> Callable[[int], list[tuple[int, int]]]:
        """A function that gives the steps of chosen actions from a state: (index, next state)."""
        return self._dispatched(self._writer([(i, a) for i, a in self.fixed.live if chosen(a)]))

    def _writer(self, live: Sequence[tuple[int, Action]]) -> Writer:
        return lambda known: self._generator.successors(live, known, bare=False)

    def enabled(self, state: int) -> list[int]:
        """The actions whose guards hold, in order; of those whose step would be cut, only the
        environment's."""
        if self._enabled is None:
            source = self._generator.successors(self.fixed.live, {}, bare=True)
            self._enabled = self._compile(source)
        return sorted(index for index in self._enabled(state) if self._is_free(index, state))

    @cached_property
    def _bounded(self) -> frozenset[int]:
        """The actions that do not count as enabled where their step is cut."""
        return frozenset(
            index
            for index, action in self.fixed.live
            if not action.actor.is_environment and self._generator.is_bounded(action)
        )

    def _is_free(self, index: int, state: int) -> bool:
        if index not in self._bounded:
            return True
        cuts = self.cuts[index]
        free = self.step(index, state) != CUT
        # To ask is not to take: only `successors` counts.
        self.cuts[index] = cuts
        return free

    def predicate(self, expr: Expr) -> Callable[[int], bool]:
        """A function that tells whether a Boolean expression holds in a state."""
        if expr.sort != BOOL:
            raise LanguageError(f"a predicate must be Bool: {expr!r}")
        compute: Callable[[int], int] = self._compile(self._generator.value(expr))
        return lambda state: bool(compute(state))

    def is_constant(self, expr: Expr) -> bool:
        """Whether the configuration alone decides an expression."""
        return isinstance(self.fixed.fold(expr), Const)

    def evaluate(self, expr: Expr) -> Callable[[int], Value]:
        """A function that gives the value of an expression in a state."""
        compute: Callable[[int], int] = self._compile(self._generator.value(expr))
        sort = expr.sort
        return lambda state: _value(sort, compute(state))

    def checks(self, exprs: Sequence[Expr]) -> Callable[[int], int]:
        """A function that gives an int whose bit k tells whether expression k holds."""
        wanted = tuple(exprs)
        return self._dispatched(lambda known: self._generator.checks(wanted, known))

    def pack(self, values: Mapping[str, Value]) -> int:
        """The state with these values by name."""
        return self.layout.pack(values)

    def unpack(self, state: int) -> dict[str, Value]:
        """The values of a state by name."""
        return self.layout.unpack(state)

    def why_not(self, action: int | str | Action, state: int) -> str | None:
        """The first guard that is false, or that a bound would be passed; None if neither."""
        index = self.index(action)
        for guard in self.actions[index].guards:
            if not self.predicate(guard)(state):
                return f"{show(guard)} is false where {self._values(guard, state)}"
        if self.step(index, state) == CUT:
            return "there would be more than the bound"
        return None

    def _values(self, expr: Expr, state: int) -> str:
        names = used([expr])
        now = self.unpack(state)
        values = [f"{f.name} = {label(now[f.name])}" for f in self.layout if f.name in names]
        fixed = [f"{p.name} = {label(self.config.params[p.name])}" for p in _params_in(expr)]
        return ", ".join(values + fixed) or "nothing can change it"

    def _miss(self, index: int, state: int, below: bool) -> int:
        self.cuts[index] += 1
        if below:
            self.underflows.setdefault(index, state)
        return CUT

    def _compile(self, source: str, texts: Mapping[str, object] | None = None) -> Any:
        return self._load(_compiled(source), texts)

    def _load(self, code: CodeType, texts: Mapping[str, object] | None = None) -> Any:
        space: dict[str, Any] = {"miss": self._miss, **(texts or {})}
        exec(code, space)
        return space["f"]

    def _dispatched(self, write: Writer, name: str | None = None) -> Callable[[int], Any]:
        """A function written anew for each value of the variable that most guards read.

        Each is written when a state first needs it: with that value known, most guards are
        decided, and most of the actions drop out. With a name it may be kept.
        """
        field = self._field
        if field is None:
            return self._compile(write({}))  # type: ignore[no-any-return]
        table: list[Any] = [None] * (1 << field.width)
        for code in range(field.top + 1):
            table[code] = self._later(field, code, write, table, name)
        source = f"def f(s):\n    return k0[s >> {field.offset} & {field.mask}](s)"
        return self._compile(source, {"k0": table})  # type: ignore[no-any-return]

    def _later(
        self,
        field: Field,
        code: int,
        write: Writer,
        table: list[Any],
        name: str | None,
    ) -> Callable[[int], Any]:
        def written() -> CodeType:
            known = {field.name: self.fixed.pool.const(field.value(code), field.sort)}
            return _compiled(write(known))

        def kept(store: CodeStore, key: str) -> CodeType:
            found = store.get(self.machine, self.config, key)
            if found is None:
                found = written()
                store.put(self.machine, self.config, key, found)
            return found

        def first(state: int) -> Any:
            if self._store is None or name is None:
                made = written()
            else:
                made = kept(self._store, f"{name}:{code}")
            table[code] = self._load(made)
            return table[code](state)

        return first

    def _initial_states(self) -> Iterator[int]:
        wanted = [self.fixed.fold(e) for e in self.machine.init]
        for count, known in enumerate(self._solve(wanted, {})):
            if count >= INITIAL_LIMIT:
                raise LanguageError(f"more than {INITIAL_LIMIT} initial states")
            yield self.pack({n: v.value for n, v in known.items()})

    def _solve(self, wanted: list[Expr], known: dict[str, Const]) -> Iterator[dict[str, Const]]:
        """Every assignment that satisfies the conditions: what they fix first, then by trying."""
        folder = self.fixed.pool.folder(known)
        found = settle(self.fixed.pool, [folder.visit(e) for e in wanted])
        if found is None:
            return
        fixed = {n: v for n, v in found[1].items() if isinstance(v, Const)}
        known = known | fixed
        open_ = used(found[0]) - set(known)
        free = [f for f in self.layout if f.name not in known]
        if not free:
            yield known
            return
        field = min((f for f in free if f.name in open_), key=lambda f: f.top, default=free[0])
        for code in range(field.top + 1):
            value = self.fixed.pool.const(field.value(code), field.sort)
            yield from self._solve(found[0], known | {field.name: value})


def compile_machine(machine: Machine, config: Config, store: CodeStore | None = None) -> Program:
    """The machine as a program; LanguageError if machine and configuration do not fit."""
    return Program(machine, config, store)


def _compiled(source: str) -> CodeType:
    return compile(source, "<generated>", "exec")


def _value(sort: Sort, number: int) -> Value:
    if isinstance(sort, EnumSort):
        return sort.members[number]
    return bool(number) if sort == BOOL else int(number)


def _params_in(expr: Expr) -> list[Param]:
    found: dict[str, Param] = {}
    todo: list[Any] = [expr]
    while todo:
        node = todo.pop()
        if isinstance(node, Param):
            found[node.name] = node
        elif isinstance(node, Expr):
            todo.extend(vars(node).values())
        elif isinstance(node, tuple):
            todo.extend(node)
    return [found[n] for n in sorted(found)]


__all__ = ["CUT", "DISABLED", "Evidence", "Program", "compile_machine"]
